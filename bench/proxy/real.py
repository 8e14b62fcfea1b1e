"""The real thing: nginx and HAProxy from the machine's own packages, configured as the profiles of those names claim.

`tokenderby proxy --profile real:nginx` puts one in front of a server; tests/bench/proxy/test_real.py compares them
with the emulated ones. The timeouts are read from the profiles, so that both always have the same.

Those that end in `-h2` speak TLS too, with a certificate made for the occasion, and HTTP/2 to whom asks for it (ALPN);
a second port speaks plain HTTP/1.1 to the same servers, so that the three can be compared.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.proxy import profile as profiles
from bench.proxy.behaviours.idle_timeout import IdleTimeout
from bench.proxy.behaviours.keepalive_timeout import KeepaliveTimeout
from bench.proxy.certificate import CertificateError, find_openssl, make_certificate
from bench.proxy.profile import Profile, ProfileError
from servers.process import free_port, free_ports
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
      proxy_set_header Host $http_host;
      {extra}
    }}
  }}
}}
"""
)

# Settings for streams: each piece goes on at once (proxy_buffering), a request's body too, and a connection lasts for
# many more requests than the default of 1000, which one HTTP/2 connection of many users has soon had.
_NGINX_TLS = (
    f"master_process off;\n{NGINX_HEAD}"
    """
  keepalive_timeout {keepalive_ms}ms;
  keepalive_requests 1000000;
  proxy_read_timeout {idle_ms}ms;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen {listen} ssl{http2_word};
    listen {plain};
    {http2_line}
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://{upstream};
      proxy_set_header Host $http_host;
      proxy_request_buffering off;
      {extra}
    }}
  }}
}}
"""
)

# `Host` goes on as the browser sent it, in both: a server that compares it with `Origin` would refuse its own page.

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

_HAPROXY_TLS = HAPROXY.replace(
    "bind {listen}\n", "bind {listen} ssl crt {both} alpn h2,http/1.1 ssl-min-ver TLSv1.2\n  bind {plain}\n"
)


class _Kind(NamedTuple):
    program: str
    package: str
    config: str
    extra: str
    command: Callable[[str, Path], list[str]]
    twin: str = ""  # the profile whose timeouts it has, if it is not the one of its name; then it speaks TLS


def _nginx(extra: str, config: str = _NGINX, twin: str = "") -> _Kind:
    def command(program: str, folder: Path) -> list[str]:
        return [program, "-e", f"{folder}/error.log", "-c", f"{folder}/config"]

    return _Kind("nginx", "nginx-light", config, extra, command, twin)


def _haproxy(extra: str, config: str = HAPROXY, twin: str = "") -> _Kind:
    def command(program: str, folder: Path) -> list[str]:
        return [program, "-db", "-f", f"{folder}/config"]

    return _Kind("haproxy", "haproxy", config, extra, command, twin)


KINDS: dict[str, _Kind] = {
    "nginx": _nginx("proxy_http_version 1.0;"),  # the default up to 1.29.6
    "nginx-http11": _nginx(NGINX_HTTP11),
    "nginx-unbuffered": _nginx(f"proxy_buffering off;\n      {NGINX_HTTP11}"),
    "nginx-h2": _nginx(f"proxy_buffering off;\n      {NGINX_HTTP11}", _NGINX_TLS, "nginx-unbuffered"),
    "haproxy": _haproxy(""),
    "haproxy-no-delay": _haproxy("option http-no-delay"),
    "haproxy-h2": _haproxy("option http-no-delay", _HAPROXY_TLS, "haproxy-no-delay"),
}
"""Name -> how to start the real one: of the profile of that name, or one that speaks TLS and HTTP/2."""

SECURE = tuple(name for name, kind in KINDS.items() if kind.twin)
"""Those that speak TLS and HTTP/2."""


@dataclass(frozen=True)
class Running:
    """A real proxy that listens. One that speaks TLS has a `cafile` that makes its certificate trusted, and `plain`.

    address: host and port, of TLS where it speaks that; plain: those of plain HTTP/1.1 otherwise
    """

    address: tuple[str, int]
    plain: tuple[str, int] | None = None
    cafile: Path | None = None

    @property
    def url(self) -> str:
        """Where to ask; https if it speaks TLS."""
        return f"{'http' if self.plain is None else 'https'}://{host_port(self.address)}"

    @property
    def plain_url(self) -> str:
        """Where to ask without TLS."""
        return f"http://{host_port(self.plain or self.address)}"


class RealProxyError(UserError):
    """The real proxy is not installed, or does not start; the message says what to do."""


def find_program(name: str) -> str:
    """The program's path. Raises ProfileError for an unknown name, RealProxyError if what it takes is not installed."""
    if name not in KINDS:
        raise ProfileError(f"unknown real proxy {name!r}; known: {', '.join(KINDS)}")
    kind = KINDS[name]
    # Debian puts them where only root's PATH looks.
    program = shutil.which(kind.program) or shutil.which(kind.program, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise RealProxyError(f"{kind.program} is not installed; on Debian: apt-get install {kind.package}")
    if name in SECURE:
        try:
            find_openssl()
        except CertificateError as error:
            raise RealProxyError(str(error)) from None
    return program


@contextmanager
def real_proxy(
    name: str,
    upstream: tuple[str, int],
    *,
    time_scale: float = 1.0,
    listen: tuple[str, int] = ("127.0.0.1", 0),
) -> Iterator[Running]:
    """A running real proxy in front of `upstream`; its folder, with the key of its certificate, goes with it.

    name: one of KINDS; time_scale divides its timeouts
    listen: where; port 0 is any free one. The plain port of one that speaks TLS is any on 127.0.0.1
    Raises ProfileError, RealProxyError, CertificateError.
    """
    program, kind = find_program(name), KINDS[name]
    address = (listen[0], listen[1] or free_port(listen[0]))
    with tempfile.TemporaryDirectory(prefix=f"tokenderby-{name}-") as text:
        folder = Path(text)
        running = _secured(folder, address) if kind.twin else Running(address)
        timeouts = profiles.load_profile(kind.twin or name).scaled(time_scale)
        words = _words(kind, timeouts, upstream) | _places(folder, running)
        if kind.twin and kind.program == "nginx":
            words |= _http2_words(program)
        (folder / "config").write_text(kind.config.format(**words))
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(kind.command(program, folder), stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(process, address, folder)
            yield running
        finally:
            process.terminate()
            process.wait()


def _secured(folder: Path, address: tuple[str, int]) -> Running:
    """A certificate in `folder`, and HAProxy's file of both it and its key."""
    made = make_certificate(folder)
    both = folder / "both.pem"
    both.touch(0o600)
    both.write_bytes(made.cert.read_bytes() + made.key.read_bytes())
    plain_port = next(port for port in free_ports(2) if port != address[1])
    return Running(address, ("127.0.0.1", plain_port), made.cert)


def _words(kind: _Kind, profile: Profile, upstream: tuple[str, int]) -> dict[str, object]:
    idle = next(rule for rule in profile.rules if isinstance(rule, IdleTimeout))
    keepalive = next(rule for rule in profile.rules if isinstance(rule, KeepaliveTimeout))
    return {
        "upstream": host_port(upstream),
        "idle_ms": round(idle.idle_timeout_s * 1000),
        "keepalive_ms": round(keepalive.keepalive_timeout_s * 1000),
        "extra": kind.extra,
    }


def _places(folder: Path, running: Running) -> dict[str, object]:
    places: dict[str, object] = {"folder": folder, "listen": host_port(running.address)}
    if running.plain is None:
        return places
    files = {"cert": folder / "cert.pem", "key": folder / "key.pem", "both": folder / "both.pem"}
    return places | files | {"plain": host_port(running.plain)}


def _http2_words(program: str) -> dict[str, object]:
    """How this nginx is told to speak HTTP/2: since 1.25.1 by a line of its own, before that by a word of `listen`."""
    said = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=READY_TIMEOUT_S, check=False).stderr
    found = re.search(r"/(\d+)\.(\d+)\.(\d+)", said)
    is_old = found is not None and tuple(map(int, found.groups())) < (1, 25, 1)
    return {"http2_word": " http2" if is_old else "", "http2_line": "" if is_old else "http2 on;"}


def host_port(address: tuple[str, int]) -> str:
    """HOST:PORT as URLs and configurations have it: an IPv6 address in brackets."""
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
