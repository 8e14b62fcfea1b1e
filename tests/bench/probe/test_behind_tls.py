"""The command itself, against a server behind a real nginx with TLS: its profile cuts when the real one does."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.processes import running_server
from support.silences import cut_s
from support.tls import certificate, nginx_with_tls

from bench.cli import cli
from bench.probe.finding import Findings
from bench.probe.sweep import behind
from bench.proxy.behaviours import IdleTimeout
from bench.proxy.profile import parse_profile
from clients.core.endpoint import Endpoint

LIMIT_S = 1.5


@pytest.mark.needs("nginx", "openssl")
def test_a_deployment_of_ours(tmp_path: Path) -> None:
    with (
        running_server("sse", "--keep-alive", "600") as server,
        nginx_with_tls(server.url, certificate(tmp_path), tmp_path, f"proxy_read_timeout {LIMIT_S * 1000:g}ms;") as url,
    ):
        words = ["probe", url, "--cafile", f"{tmp_path}/cert.pem", "--up-to", "3s"]
        out, json_file = tmp_path / "mine.toml", tmp_path / "mine.json"
        result = CliRunner().invoke(cli, [*words, "--out", str(out), "--json", str(json_file)])
        assert result.exit_code == 0, result.output
        findings = Findings.decode(json_file.read_bytes())
        versions = findings.get("versions")
        assert versions is not None
        assert versions.value == "http/1.1"
        written = parse_profile("mine", tomllib.loads(out.read_text()))
        assert any(isinstance(rule, IdleTimeout) for rule in written.rules), out.read_text()
        assert "nginx" in (findings.get("headers") or findings.findings[0]).words
        address = Endpoint.parse(server.url)

        async def emulated_s() -> float:
            async with behind(written.rules, {"sse": (address.host, address.port)}) as place:
                return await cut_s(place, "sse", 5.0)

        assert asyncio.run(emulated_s()) == pytest.approx(LIMIT_S, rel=0.02, abs=0.3)  # nginx's step of timers
        assert json.loads(json_file.read_text())["urls"] == {"sse": url}
