"""A reader that stops reading: scripted servers on both drivers, then what it costs a real server and the proxy."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
from support.asking import ANSWER, question
from support.drivers import AsyncUser
from support.feeding import schedule_of
from support.processes import running_server
from support.scripted import Connection, Script, scripted
from support.transports import SCRIPTED, pieces

from bench.running.endpoints import ready_child
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Policy
from clients.core.session import Action, Session
from clients.core.session import Script as Steps
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers import recording

MakeClient = Callable[..., AsyncUser]
PAUSE_S = 0.3
S = 1_000_000_000


def test_silence_begins_behind_the_pause() -> None:
    """A session by hand: it reads nothing for 5 s, and then waits no longer than a second."""
    session = Session(ClientSettings("http://127.0.0.1:1", silence_s=1.0, token_silence_s=1.0))

    def script() -> Steps[str]:
        yield from session.read_nothing(5)
        yield from session.wait_for_news()
        return "news"

    session.begin(script(), 0)
    assert (session.actions, session.wake_ns) == ([Action.STOP_READING], 5 * S)
    session.woken(5 * S)
    assert (session.actions, session.wake_ns) == ([Action.STOP_READING, Action.READ_ON], 6 * S)
    session.received(b"x", 5 * S + 1)
    assert (session.error, session.result) == (None, "news")


def trickling(transport: str) -> Script:
    """A token every 10 ms: all are sent before the pause is over."""

    async def script(connection: Connection) -> None:
        await (connection.upgrade() if transport == "websocket" else connection.request())
        if transport == "websocket":
            await connection.frame()
        for piece in pieces(transport, ANSWER):
            await connection.send(piece)
            await asyncio.sleep(0.01)
        await connection.hold()

    return script


async def test_it_reads_the_first_token_then_nothing_then_all(client: MakeClient) -> None:
    """Its own pause is no silence of the server's, though it is longer than both limits."""
    limits = {"silence_s": PAUSE_S / 2, "token_silence_s": PAUSE_S / 2}

    async def ask(transport: str) -> StreamRecord:
        async with scripted(trickling(transport)) as server:
            return await client(transport, server.url, unread_s=PAUSE_S, **limits).ask(question())

    for record in await asyncio.gather(*map(ask, SCRIPTED)):
        assert (record.outcome, record.drops, record.tokens_lost) == (Outcome.OK, 0, 0), record.detail
        assert record.received_ns[-1] - record.received_ns[0] >= PAUSE_S * 1e9
        assert len(set(record.read)) <= 3  # the first, perhaps one that was on its way, and the rest at once


async def test_for_ever_is_until_its_time_is_over(client: MakeClient) -> None:
    async def ask(transport: str) -> list[StreamRecord]:
        async with scripted(trickling(transport)) as server:
            user = client(transport, server.url, unread_s=3600)
            return [await user.ask(question(timeout_s=0.4)) for _ in range(2)]

    for first, second in await asyncio.gather(*map(ask, SCRIPTED)):
        assert (first.outcome, first.detail.split(":")[0]) == (Outcome.TIMEOUT, "timeout")
        assert 1 <= first.tokens_received < ANSWER.n
        assert (second.connections, second.tokens_received > 0) == (1, True)  # over a connection that is read


async def test_once_a_message(client: MakeClient) -> None:
    """A connection that is cut while nobody reads is found out behind the pause, and the rest is read without one."""
    asked: list[bytes] = []

    async def script(connection: Connection) -> None:
        asked.append(await connection.request())
        parts = pieces("chunked", ANSWER)
        if len(asked) == 1:
            await connection.send(parts[0] + parts[1])
            await asyncio.sleep(0.05)
            await connection.send(parts[2])
            return
        await connection.send(parts[0] + parts[3])
        await asyncio.sleep(0.02)
        await connection.send(b"".join(parts[4:]))
        await connection.hold()

    async with scripted(script) as server:
        record = await client("chunked", server.url, unread_s=0.8, recovery=Policy("resume", base_s=0.001)).ask(
            question()
        )
    assert (record.outcome, record.noticed_by, len(asked)) == (Outcome.OK, ["fin"], 2), record.detail
    assert record.received_ns[-1] - record.received_ns[2] < 0.8e9


# ---- what it costs

READERS = 5
PIECES = 1_500
TEXT = "eight kB" * 1_000  # 12 MB an answer: more than two kernels' buffers of each connection take


async def test_those_who_do_not_read_cost_server_and_proxy_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    path.write_text(json.dumps({"deltas": [TEXT] * PIECES}) + "\n")
    large = recording.load_recording(path)
    stream = {"recording": large.id, "ttft_ms": 0, "ttft_sigma": 0, "gap_ms": 0, "gap_sigma": 0}
    answer = schedule_of(*[TEXT] * PIECES)
    with running_server("chunked", "--recording", str(path)) as server:
        argv = [sys.executable, "-m", "bench.proxy", "--upstream", server.url.removeprefix("http://")]
        proxy, url = await ready_child("proxy", [*argv, "--profile", "none"], tmp_path / "proxy.log", [0])
        users = [AioClient("chunked", ClientSettings(url.url, unread_s=1.5)) for _ in range(READERS)]
        try:
            processes = [psutil.Process(server.process.pid), psutil.Process(proxy.process.pid)]
            whole = AioClient("chunked", ClientSettings(url.url))
            asked = [question(answer, stream_id="large", stream=stream, timeout_s=60) for _ in range(READERS + 1)]
            assert (await whole.ask(asked[0])).outcome is Outcome.OK
            await whole.close()
            before = [process.memory_info().rss for process in processes]
            asking = [asyncio.create_task(user.ask(each)) for user, each in zip(users, asked[1:], strict=True)]
            await asyncio.sleep(0.8)  # all have stopped by now, and everything that can be sent was
            grown = [process.memory_info().rss - rss for process, rss in zip(processes, before, strict=True)]
            records = await asyncio.gather(*asking)
        finally:
            await asyncio.gather(*(user.close() for user in users))
            await proxy.stop()
    assert [record.outcome for record in records] == [Outcome.OK] * READERS
    assert all(record.received_ns[-1] - record.received_ns[0] > 1.5e9 for record in records)
    assert max(grown) < READERS * 1e6 + 16e6, grown  # all of it were 60 MB
