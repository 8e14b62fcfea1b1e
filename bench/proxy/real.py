"""The real thing: nginx and HAProxy from the machine's own packages, configured as the profiles of those names claim.

`tokenderby proxy --profile real:nginx` puts one in front of a server; tests/bench/proxy/test_real.py compares them
with the emulated ones. The timeouts are read from the profiles, so that both always have the same.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.proxy import profile as profiles
from bench.proxy.behaviours.idle_timeout import IdleTimeout
from bench.proxy.behaviours.keepalive_timeout import KeepaliveTimeout
from bench.proxy.profile import Profile, ProfileError
from servers.process import free_port
from servers.user_errors import UserError

PREFIX = "real:"
READY_TIMEOUT_S = 5.0

NGINX_HEAD = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
"""
"""A configuration's beginning, for an nginx that has a folder of its own; what follows stands in `http`."""

_NGINX = (
    f"master_process off;\n{NGINX_HEAD}"
    """
  keepalive_timeout {keepalive_ms}ms;
  proxy_read_timeout {idle_ms}ms;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://{upstream};
      {extra}
    }}
  }}
}}
"""
)

# What nginx's own documentation tells to set for WebSockets.
NGINX_HTTP11 = """proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;"""

HAPROXY = """
global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client {keepalive_ms}ms
  timeout server {idle_ms}ms
  {extra}
frontend clients
  bind {listen}
  default_backend servers
backend servers
  server upstream {upstream}
"""


class _Kind(NamedTuple):
    program: str
    package: str
    config: str
    extra: str
    command: Callable[[str, Path], list[str]]


def _nginx(extra: str) -> _Kind:
    return _Kind(
        "nginx",
        "nginx-light",
        _NGINX,
        extra,
        lambda program, folder: [program, "-e", f"{folder}/error.log", "-c", f"{folder}/config"],
    )


def _haproxy(extra: str) -> _Kind:
    return _Kind(
        "haproxy", "haproxy", HAPROXY, extra, lambda program, folder: [program, "-db", "-f", f"{folder}/config"]
    )


KINDS: dict[str, _Kind] = {
    "nginx": _nginx("proxy_http_version 1.0;"),  # the default up to 1.29.6
    "nginx-http11": _nginx(NGINX_HTTP11),
    "nginx-unbuffered": _nginx(f"proxy_buffering off;\n      {NGINX_HTTP11}"),
    "haproxy": _haproxy(""),
    "haproxy-no-delay": _haproxy("option http-no-delay"),
}
"""Profile name -> how to start the real one of that name."""


class RealProxyError(UserError):
    """The real proxy is not installed, or does not start; the message says what to do."""


def find(name: str) -> str:
    """The program's path. Raises ProfileError for an unknown name, RealProxyError if it is not installed."""
    if name not in KINDS:
        raise ProfileError(f"unknown real proxy {name!r}; known: {', '.join(KINDS)}")
    kind = KINDS[name]
    # Debian puts them where only root's PATH looks.
    program = shutil.which(kind.program) or shutil.which(kind.program, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise RealProxyError(f"{kind.program} is not installed; on Debian: apt-get install {kind.package}")
    return program


@contextmanager
def real_proxy(
    name: str,
    upstream: tuple[str, int],
    *,
    time_scale: float = 1.0,
    listen: tuple[str, int] = ("127.0.0.1", 0),
) -> Iterator[tuple[str, int]]:
    """A running real proxy in front of `upstream`; yields its address.

    name: one of KINDS; time_scale divides its timeouts
    Raises ProfileError, RealProxyError.
    """
    program = find(name)
    timeouts = profiles.load(name).scaled(time_scale)
    address = (listen[0], listen[1] or free_port(listen[0]))
    with tempfile.TemporaryDirectory(prefix=f"tokenderby-{name}-") as text:
        folder = Path(text)
        (folder / "config").write_text(_config(KINDS[name], timeouts, folder, address, upstream))
        with (folder / "output").open("wb") as output:
            command = KINDS[name].command(program, folder)
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(process, address, folder)
            yield address
        finally:
            process.terminate()
            process.wait()


def _config(kind: _Kind, profile: Profile, folder: Path, listen: tuple[str, int], upstream: tuple[str, int]) -> str:
    idle = next(rule for rule in profile.rules if isinstance(rule, IdleTimeout))
    keepalive = next(rule for rule in profile.rules if isinstance(rule, KeepaliveTimeout))
    return kind.config.format(
        folder=folder,
        listen=_written(listen),
        upstream=_written(upstream),
        idle_ms=round(idle.idle_timeout_s * 1000),
        keepalive_ms=round(keepalive.keepalive_timeout_s * 1000),
        extra=kind.extra,
    )


def _written(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def wait_until_ready(process: subprocess.Popen[bytes], address: tuple[str, int], folder: Path) -> None:
    """Until it listens at `address`; what it says goes to `folder`/output. Raises RealProxyError."""
    give_up_s = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < give_up_s:
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    said = (folder / "output").read_text(errors="replace").strip().splitlines()
    raise RealProxyError(f"the real proxy does not start: {said[-1] if said else 'it says nothing'}")
