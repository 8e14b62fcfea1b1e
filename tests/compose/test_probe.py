"""Our own deployment behind a real nginx that speaks TLS, probed from outside as docs/probe.md says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.composing import ROOT, Compose, until
from support.silences import cut_s
from support.sockets import free_ports
from support.tls import certificate

from bench.probe.deployment import Deployment
from bench.probe.profile_likeness import is_close
from bench.probe.sweep import ServerAddress, behind
from bench.proxy.profile import parse_profile
from bench.proxy.rule import Rule
from clients.core.tls import Trust

pytestmark = [pytest.mark.compose, pytest.mark.slow]

TRANSPORTS = ("sse", "websocket", "chunked", "blocking")
STREAMED = TRANSPORTS[:3]
TOKEN = "a-secret-of-this-test"
LIMIT_S, UP_TO_S = 7, 11
TRIES = 2  # a machine that stood still explains it once

NGINX = """
events {{}}
http {{
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  server {{
    listen 8443 ssl;
    ssl_certificate /etc/nginx/mine/cert.pem;
    ssl_certificate_key /etc/nginx/mine/key.pem;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_read_timeout {limit_s}s;
    {places}
  }}
}}
"""
OVERLAY = """
services:
{servers}
  balancer:
    image: nginx:1.26
    pull_policy: never
    command: [nginx, -g, "daemon off;", -c, /etc/nginx/mine/nginx.conf]
    volumes: ["{folder}:/etc/nginx/mine:ro"]
    ports: ["127.0.0.1:{port}:8443"]
    depends_on: [{names}]
"""
SERVER = '  {name}:\n    ports: !override ["127.0.0.1:{port}:8000"]'


def test_the_emulation_of_a_deployment_of_ours_cuts_when_the_real_one_does(compose: Compose, tmp_path: Path) -> None:
    port, *ports = free_ports(1 + len(TRANSPORTS))
    servers = {name: ("127.0.0.1", own) for name, own in zip(TRANSPORTS, ports, strict=True)}
    deploy(compose, tmp_path, port, servers)
    url = f"https://127.0.0.1:{port}"
    real = Deployment({name: f"{url}/{name}" for name in STREAMED}, TOKEN, Trust(f"{tmp_path}/cert.pem"))
    for _ in range(TRIES):
        cuts_s = asyncio.run(both_s(real, probed(url, tmp_path), servers))
        if all(is_close(*both) for both in cuts_s.values()):
            break
    else:
        pytest.fail(f"the real cut and the emulated one, in s: {cuts_s}")
    assert all(real_s == pytest.approx(LIMIT_S, abs=0.5) for real_s, _ in cuts_s.values()), cuts_s


def deploy(compose: Compose, folder: Path, port: int, servers: Mapping[str, ServerAddress]) -> None:
    """containers/probe.yml, up behind nginx at `port`; without it the servers can be reached too."""
    certificate(folder)
    places = "\n    ".join(f"location /{name}/ {{ proxy_pass http://{name}:8000/; }}" for name in servers)
    (folder / "nginx.conf").write_text(NGINX.format(limit_s=LIMIT_S, places=places))
    own = "\n".join(SERVER.format(name=name, port=own_port) for name, (_, own_port) in servers.items())
    overlay = OVERLAY.format(servers=own, folder=folder, port=port, names=", ".join(servers))
    (folder / "balancer.yml").write_text(overlay)
    compose.environment["COMPOSE_FILE"] = f"{ROOT}/containers/probe.yml:{folder}/balancer.yml"
    compose.environment["TOKENDERBY_AUTH_TOKEN"] = TOKEN
    compose("up", "--detach", timeout_s=120)
    until(lambda: all(map(is_open, servers.values())))


def is_open(address: ServerAddress) -> bool:
    """Whether a server answers there."""
    try:
        with urllib.request.urlopen("http://{}:{}/healthz".format(*address), timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def probed(url: str, folder: Path) -> tuple[Rule, ...]:
    """What the command finds out, as the profile that it writes."""
    words = ["probe", url, "--cafile", "cert.pem", "--up-to", f"{UP_TO_S}s", "--out", "mine.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *words],
        cwd=folder,
        env=os.environ | {"TOKENDERBY_PROBE_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: a busy machine left no time for a question
    for said in (*(f"{url}/{name}" for name in TRANSPORTS), "offers http/1.1", "calls itself nginx/"):
        assert said in done.stdout
    return parse_profile("mine", tomllib.loads((folder / "mine.toml").read_text())).rules


async def both_s(
    real: Deployment, rules: tuple[Rule, ...], servers: Mapping[str, ServerAddress]
) -> dict[str, tuple[float, float]]:
    """For each transport when a silence is cut: by the real intermediary, and by the emulated one."""
    async with behind(rules, servers) as plain:
        emulated = Deployment(plain.urls, TOKEN)
        cuts = (cut_s(place, name, 2 * LIMIT_S) for name in STREAMED for place in (real, emulated))
        found = iter(await asyncio.gather(*cuts))
        return {name: (next(found), next(found)) for name in STREAMED}
