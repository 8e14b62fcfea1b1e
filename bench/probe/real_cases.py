"""Real nginx and HAProxy with configurations that differ from their defaults, and what each has to show.

One process stands in front of all servers, a port for each. What it has to show is written as a profile's rules: from
the program's documentation (docs/proxy.md, N and H) and from its configuration, never from a probe.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.probe.deployment import Deployment
from bench.probe.finding import Findings
from bench.probe.sweep import ServerAddress, probe_all
from bench.proxy.behaviours import (
    Coalescing,
    GzipHoldback,
    IdleTimeout,
    KeepaliveTimeout,
    MaxAge,
    ResponseBuffering,
    Upgrade,
)
from bench.proxy.real import NGINX_HEAD, NGINX_HTTP11, RealProxyError, find_program, wait_until_ready
from bench.proxy.rule import Rule
from servers.process import free_ports, run

NGINX_EARLY_S = 0.3
"""nginx sets no timer anew that would move by less (NGX_TIMER_LAZY_DELAY): its cuts may come that much early."""
TYPES = "text/event-stream application/x-ndjson"

_NGINX_SERVER = """
  server {{
    listen {listen};
    location / {{
      proxy_pass http://{upstream};
      {location}
    }}
  }}
"""
_HAPROXY = """
global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  {defaults}
"""
_HAPROXY_PAIR = """
listen {name}
  bind {listen}
  {section}
  server upstream {upstream}
"""


@dataclass(frozen=True)
class RealCase:
    """A configuration: what stands in nginx's `location` and HAProxy's `listen`, what above it, what it has to show.

    at_times: of what it shows, rules that strike some answers and leave others alone, as the kernel likes
    """

    name: str
    program: Literal["nginx", "haproxy"]
    inside: str
    above: str
    shows: tuple[Rule, ...]
    at_times: tuple[Rule, ...] = ()

    @property
    def alternatives(self) -> Sequence[tuple[Rule, ...]]:
        """The rules that an answer may have met: all of them, or those without `at_times`."""
        always = tuple(rule for rule in self.shows if rule not in self.at_times)
        return (self.shows, always) if self.at_times else (self.shows,)


def _read(limit_s: float) -> IdleTimeout:
    """`proxy_read_timeout`: between two reads from the server."""
    return IdleTimeout(idle_timeout_s=limit_s, reset_by="down", scope="request", status=504)


def _server(limit_s: float) -> IdleTimeout:
    """`timeout server`: bytes that the client sends while it waits count too, since they go to the server (H1)."""
    return IdleTimeout(idle_timeout_s=limit_s, reset_by="either", scope="request", status=504)


def _tunnel(limit_s: float) -> IdleTimeout:
    return IdleTimeout(idle_timeout_s=limit_s, scope="websocket")


def _kept(limit_s: float) -> KeepaliveTimeout:
    return KeepaliveTimeout(keepalive_timeout_s=limit_s)


_BUFFERS = ResponseBuffering(buffer_bytes=4096, honour_x_accel_buffering=True, drop_on_cut=True)
_OPEN_ENDED = "proxy_http_version 1.0;"
_UNBUFFERED = f"proxy_buffering off; {NGINX_HTTP11}"
_JOINS = Coalescing(coalesce_ms=200, coalesce_bytes=1 << 16, scope="response")
"""The kernel's 200 ms; on loopback a segment is so large that no stream here fills one."""

REAL_CASES: tuple[RealCase, ...] = (
    RealCase(
        "nginx, short limits",
        "nginx",
        f"{_OPEN_ENDED} proxy_read_timeout 4s;",
        "keepalive_timeout 6s;",
        (_kept(6), _BUFFERS, _read(4), Upgrade(action="strip")),
    ),
    RealCase(
        "nginx, unbuffered, WebSockets",
        "nginx",
        f"{_UNBUFFERED} proxy_read_timeout 7s;",
        "keepalive_timeout 3s;",
        (_kept(3), _read(7), _tunnel(7)),
    ),
    RealCase(
        "nginx, deaf to X-Accel-Buffering, larger buffers",
        "nginx",
        f"{_OPEN_ENDED} proxy_read_timeout 5s; proxy_ignore_headers X-Accel-Buffering; "
        "proxy_buffer_size 8k; proxy_buffers 8 8k;",
        "keepalive_timeout 8s;",
        (
            _kept(8),
            ResponseBuffering(buffer_bytes=8192, drop_on_cut=True),
            _read(5),
            Upgrade(action="strip"),
        ),
    ),
    RealCase(
        "nginx, gzip",
        "nginx",
        f"{_UNBUFFERED} proxy_read_timeout 6s;",
        f"keepalive_timeout 9s; gzip on; gzip_proxied any; gzip_min_length 0; gzip_types {TYPES};",
        (_kept(9), GzipHoldback(sync_flush=True, content_types=tuple(TYPES.split())), _read(6), _tunnel(6)),
    ),
    RealCase(
        "nginx, old connections closed, WebSockets refused",
        "nginx",
        f"{_UNBUFFERED} proxy_read_timeout 12s; if ($http_upgrade) {{ return 405; }}",
        "keepalive_timeout 4s; keepalive_time 5s; keepalive_requests 100000;",
        (Upgrade(action="refuse", status=405), _kept(4), MaxAge(max_age_s=5), _read(12)),
    ),
    RealCase(
        "HAProxy, short limits",
        "haproxy",
        "",
        "timeout client 6s\n  timeout server 4s\n  timeout http-keep-alive 5s",
        (_JOINS, _kept(5), _server(4), _tunnel(4)),
        at_times=(_JOINS,),
    ),
    RealCase(
        "HAProxy, http-no-delay, a tunnel of its own",
        "haproxy",
        "option http-no-delay",
        "timeout client 8s\n  timeout server 3s\n  timeout tunnel 9s\n  timeout http-keep-alive 2s",
        (_kept(2), _server(3), _tunnel(9)),
    ),
    RealCase(
        "HAProxy, long answers, short rests",
        "haproxy",
        "option http-no-delay",
        "timeout client 14s\n  timeout server 14s\n  timeout http-keep-alive 3s",
        (_kept(3), _server(14), _tunnel(14)),
    ),
    RealCase(
        "HAProxy, gzip",
        "haproxy",
        f"option http-no-delay\n  compression algo gzip\n  compression type {TYPES}",
        "timeout client 7s\n  timeout server 7s\n  timeout http-keep-alive 7s",
        (_kept(7), GzipHoldback(sync_flush=True, content_types=tuple(TYPES.split())), _server(7), _tunnel(7)),
    ),
    RealCase(
        "HAProxy, WebSockets refused",
        "haproxy",
        "option http-no-delay\n  http-request deny deny_status 429 if { hdr(upgrade) -i websocket }",
        "timeout client 10s\n  timeout server 5s\n  timeout http-keep-alive 6s",
        (Upgrade(action="refuse", status=429), _kept(6), _server(5)),
    ),
)


def real_sweep(
    names: Sequence[str], servers: Mapping[str, ServerAddress], up_to_s: float, at_once: int
) -> dict[str, Findings]:
    """Probe those of these names; blocks until that is over. Raises bench.proxy.real.RealProxyError."""
    cases = [case for case in REAL_CASES if case.name in names]
    with ExitStack() as stack:
        places = {case.name: stack.enter_context(real_deployment(case, servers)) for case in cases}
        return run(probe_all(places, up_to_s, at_once))


@contextmanager
def real_deployment(case: RealCase, servers: Mapping[str, ServerAddress]) -> Iterator[Deployment]:
    """The real program in front of `servers`. Raises bench.proxy.real.RealProxyError."""
    with tempfile.TemporaryDirectory(prefix="tokenderby-real-") as text:
        process, listen = _started(case, servers, Path(text))
        try:
            yield Deployment({transport: f"http://{host}:{port}" for transport, (host, port) in listen.items()})
        finally:
            process.terminate()
            process.wait()


def _started(
    case: RealCase, servers: Mapping[str, ServerAddress], folder: Path
) -> tuple[subprocess.Popen[bytes], Mapping[str, ServerAddress]]:
    """The program, and where it listens for each transport; begun anew where somebody else took one of the ports."""
    for last in (False, False, True):
        ports = free_ports(len(servers))
        listen = {transport: ("127.0.0.1", port) for transport, port in zip(servers, ports, strict=True)}
        process = _open(case, _config(case, servers, listen, folder), folder)
        try:
            for address in listen.values():
                wait_until_ready(process, address, folder)
        except RealProxyError:
            process.kill()
            process.wait()
            if last:
                raise
        else:
            break
    return process, listen


def _open(case: RealCase, config: str, folder: Path) -> subprocess.Popen[bytes]:
    (folder / "config").write_text(config)
    options = ["-e", f"{folder}/error.log", "-c"] if case.program == "nginx" else ["-db", "-f"]
    with (folder / "output").open("wb") as output:
        command = [find_program(case.program), *options, f"{folder}/config"]
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def _config(
    case: RealCase, servers: Mapping[str, ServerAddress], listen: Mapping[str, ServerAddress], folder: Path
) -> str:
    places = [(name, _written(listen[name]), _written(servers[name])) for name in servers]
    if case.program == "haproxy":
        pairs = [
            _HAPROXY_PAIR.format(name=name, listen=here, upstream=there, section=case.inside)
            for name, here, there in places
        ]
        return _HAPROXY.format(defaults=case.above) + "".join(pairs)
    head = f"master_process off;\n{NGINX_HEAD}".format(folder=folder)
    upgrade = "map $http_upgrade $connection_upgrade { default upgrade; '' close; }"
    pairs = [_NGINX_SERVER.format(listen=here, upstream=there, location=case.inside) for _, here, there in places]
    return f"{head}{case.above}\n{upgrade}\n{''.join(pairs)}}}\n"


def _written(address: ServerAddress) -> str:
    return f"{address[0]}:{address[1]}"
