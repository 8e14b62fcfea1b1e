"""What a message goes through when a server, Redis or a proxy is restarted while it is on its way.

A push server that is told to stop (SIGTERM) lets its answers go on for three seconds; the answer here takes longer. A
server that comes back has lost its streams: to resume there is to begin anew.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.asking import question
from support.processes import RunningServer, running_server
from support.programs import program
from support.transports.websocket import UPGRADE

from bench.proxy.real import NGINX_HEAD
from bench.proxy.serve import Proxy
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Mode, Policy
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers import redis_server
from servers.process import free_port
from servers.stream import StreamSpec, build
from servers.transport import TRANSPORTS

STREAM: dict[str, float] = {"ttft_ms": 50, "ttft_sigma": 0, "gap_ms": 500, "gap_sigma": 0, "tokens": 11}  # 5 s
SHORT = STREAM | {"gap_ms": 200}  # 2 s
STOP_AFTER_S = 1.0
PATIENCE_S = 25.0
MODES: tuple[Mode, ...] = ("none", "restart", "resume")
SIGNALS = (signal.SIGTERM, signal.SIGKILL)
FAILED = (Outcome.TRUNCATED, Outcome.DROPPED, Outcome.REFUSED, Outcome.HTTP_ERROR)


async def ask(
    transport: str,
    url: str,
    mode: Mode,
    stream: dict[str, float] = STREAM,
    *,
    timeout_s: float = PATIENCE_S,
    name: str = "",
) -> StreamRecord:
    """One message."""
    policy = Policy(mode, base_s=0.1, cap_s=1.0, attempts=40)
    client = AioClient(transport, ClientSettings(url, recovery=policy, interval_s=0.1))
    asked = question(build(StreamSpec.parse(stream), 7), stream=stream, stream_id=name or mode, timeout_s=timeout_s)
    try:
        return await client.ask(asked)
    finally:
        await client.close()


@dataclass(frozen=True)
class Deployment:
    """A server of some transport that is ended by a signal, and started again on its port."""

    transport: str
    number: signal.Signals
    redis_url: str | None = None

    async def watch(self, timeout_s: float = PATIENCE_S) -> dict[Mode, StreamRecord]:
        """What becomes of a message of each mode."""
        options = ["--redis-url", self.redis_url] if self.redis_url else []
        port = free_port()
        async with running(self.transport, "--port", str(port), *options) as server:
            url = server.url
            asking = asyncio.gather(*(ask(self.transport, url, mode, timeout_s=timeout_s) for mode in MODES))
            while not await asyncio.to_thread(self._is_under_way, server):
                await asyncio.sleep(0.1)
            await asyncio.to_thread(server.stop, self.number)
        async with running(self.transport, "--port", str(port), *options):
            return dict(zip(MODES, await asking, strict=True))

    def _is_under_way(self, server: RunningServer) -> bool:
        """Whether each message has got two tokens, if it can have any before its end."""
        stats = server.get("/stats")
        sends = TRANSPORTS[self.transport].streams
        return bool(stats["streams_started"] >= len(MODES) and (stats["tokens_sent"] >= 2 * len(MODES) or not sends))


@asynccontextmanager
async def running(transport: str, *options: str) -> AsyncIterator[RunningServer]:
    """A server that is started and ended in a thread, so that the clients go on."""
    server = running_server(transport, *options)
    try:
        yield await asyncio.to_thread(server.__enter__)
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


Seen = dict[Deployment, dict[Mode, StreamRecord]]


@pytest.fixture(scope="module")
def deployments() -> Seen:
    """Every transport and signal, side by side."""

    async def all_of_them() -> Seen:
        cases = [Deployment(transport, number) for transport in TRANSPORTS for number in SIGNALS]
        return dict(zip(cases, await asyncio.gather(*(case.watch() for case in cases)), strict=True))

    return asyncio.run(all_of_them())


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("transport", [*TRANSPORTS])
def test_a_server_restarted_in_mid_stream(transport: str, number: signal.Signals, deployments: Seen) -> None:
    seen = deployments[Deployment(transport, number)]
    none, restart, resume = (seen[mode] for mode in MODES)
    assert none.outcome in FAILED
    assert none.tokens_lost > 0
    for record in (restart, resume):
        assert (record.outcome, record.tokens_lost, record.text_ok) == (Outcome.OK, 0, True), record.detail
        assert record.tokens_duplicated == record.tokens_discarded
        assert (record.tokens_discarded > 0) == TRANSPORTS[transport].streams
        assert record.drops > 0 or TRANSPORTS[transport].pulls  # it may have been between two polls


@pytest.mark.slow
@pytest.mark.extra
@pytest.mark.needs("redis")
async def test_polling_and_a_redis_that_outlives_its_server() -> None:
    """Told to stop, the server clears its streams away, so that they are unknown and asked for anew. Killed, it leaves
    them unfinished: nobody will ever write the rest, another process might, and the client waits for its own limit.
    """
    with redis_server.running_redis(None) as redis:
        stopped, killed = await asyncio.gather(
            Deployment("polling", signal.SIGTERM, redis.url).watch(),
            Deployment("polling", signal.SIGKILL, redis.url.removesuffix("/0") + "/1").watch(timeout_s=12),
        )
    assert (stopped["resume"].outcome, stopped["resume"].tokens_lost) == (Outcome.OK, 0)
    assert stopped["none"].outcome in FAILED
    assert killed["none"].outcome in FAILED
    assert killed["restart"].outcome is Outcome.OK
    assert (killed["resume"].outcome, killed["resume"].detail[:8]) == (Outcome.TIMEOUT, "timeout:")


def test_a_client_that_never_says_goodbye_does_not_hold_a_websocket_server_up() -> None:
    with running_server("websocket") as server:
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as peer:
            peer.sendall(UPGRADE)
            assert peer.recv(4096).startswith(b"HTTP/1.1 101")
            began = time.monotonic()
            assert server.stop(timeout_s=20) == 0
            assert time.monotonic() - began < 5


NGINX = (
    "{shutdown}"
    f"{NGINX_HEAD}"
    """
  proxy_http_version 1.1;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $http_connection;
  {servers}
}}
"""
)


@contextmanager
def nginx(folder: Path, shutdown: str, upstreams: dict[int, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A real nginx with a master and a worker, which listens on each port for one server."""
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {url}; }} }}" for port, url in upstreams.items()
    )
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, shutdown=shutdown, servers=servers))
    process = subprocess.Popen([program("nginx"), "-e", f"{folder}/error.log", "-c", config], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
@pytest.mark.needs("nginx")
@pytest.mark.parametrize("shutdown", ["", pytest.param("worker_shutdown_timeout 300ms;", marks=pytest.mark.extra)])
async def test_nginx_reloaded_in_mid_stream(
    shutdown: str, server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    """The old worker finishes its requests, for as long as it may: by default without limit, so nobody notices."""
    ports = {transport: free_port() for transport in TRANSPORTS}
    upstreams = {port: server(transport).url for transport, port in ports.items()}
    cases = [(transport, mode) for transport in TRANSPORTS for mode in MODES]
    with nginx(tmp_path, shutdown, upstreams) as process:
        await asyncio.sleep(0.5)
        urls = {transport: f"http://127.0.0.1:{port}" for transport, port in ports.items()}
        names = {case: f"reload-{bool(shutdown)}-{'-'.join(case)}" for case in cases}
        asking = asyncio.gather(*(ask(case[0], urls[case[0]], case[1], SHORT, name=names[case]) for case in cases))
        await asyncio.sleep(STOP_AFTER_S)
        process.send_signal(signal.SIGHUP)
        seen = dict(zip(cases, await asking, strict=True))
    for (transport, mode), record in seen.items():
        what = (transport, mode, record.outcome, record.detail)
        # Polling comes back between two polls, and only if one is on its way just then does it notice.
        cuts = (0, 1) if TRANSPORTS[transport].pulls else (int(bool(shutdown)),)
        assert record.drops in cuts, what
        assert (record.outcome is Outcome.OK) == (mode != "none" or not record.drops), what
        assert record.tokens_duplicated == 0 or mode == "restart", what


@contextmanager
def redis_at(port: int) -> Iterator[None]:
    """Redis on a given port, without persistence."""
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([program("redis"), *words], stdout=subprocess.DEVNULL, cwd="/")
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.needs("redis")
async def test_redis_restarted_in_mid_stream() -> None:
    """It has forgotten everything; the server notices, says so with 503, and writes its streams anew."""
    port = free_port()
    async with AsyncExitStack() as stack:
        with redis_at(port):
            await asyncio.sleep(0.5)
            server = await stack.enter_async_context(running("polling", "--redis-url", f"redis://127.0.0.1:{port}/0"))
            asking = asyncio.gather(*(ask("polling", server.url, mode, SHORT) for mode in MODES))
            await asyncio.sleep(STOP_AFTER_S)
        await asyncio.sleep(0.5)
        with redis_at(port):
            none, restart, resume = await asking
    assert (none.outcome, none.noticed_by) == (Outcome.HTTP_ERROR, ["status 503"])
    assert (restart.outcome, restart.tokens_lost) == (Outcome.OK, 0)
    assert (resume.outcome, resume.tokens_lost, resume.tokens_duplicated) == (Outcome.OK, 0, 0)
    assert set(resume.noticed_by) == {"status 503"}


@pytest.mark.slow
async def test_a_proxy_restarted_in_mid_stream(server: Callable[[str], RunningServer]) -> None:
    """Its connections are reset, and for a moment nobody listens; behind it the answers go on."""
    urls = {transport: urlsplit(server(transport).url) for transport in TRANSPORTS}
    ports = {transport: free_port() for transport in TRANSPORTS}

    @asynccontextmanager
    async def proxies() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for transport, url in urls.items():
                upstream, listen = (url.hostname or "", url.port or 0), ("127.0.0.1", ports[transport])
                await stack.enter_async_context(Proxy(upstream, [], listen=listen))
            yield

    async def ask_all(mode: Mode) -> dict[str, StreamRecord]:
        asking = (
            ask(transport, f"http://127.0.0.1:{port}", mode, SHORT, name=f"proxy-{mode}")
            for transport, port in ports.items()
        )
        return dict(zip(ports, await asyncio.gather(*asking), strict=True))

    async with proxies():
        asking = asyncio.gather(*map(ask_all, MODES))
        await asyncio.sleep(STOP_AFTER_S)
    await asyncio.sleep(0.3)
    async with proxies():
        seen = dict(zip(MODES, await asking, strict=True))
    for transport in TRANSPORTS:
        none, restart, resume = (seen[mode][transport] for mode in MODES)
        assert none.outcome in FAILED
        assert restart.outcome is Outcome.OK
        assert (resume.outcome, resume.tokens_lost, resume.tokens_duplicated) == (Outcome.OK, 0, 0)
        assert set(resume.noticed_by) <= {"rst", "refused"}  # polling: nobody there for the next poll
