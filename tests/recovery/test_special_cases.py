"""Drops at the moments that are easily got wrong, and what a client's own limit for silence costs."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from secrets import token_hex
from urllib.parse import urlsplit

import pytest
from support.asking import ANSWER, question
from support.cutting import Behind, cutting
from support.drivers import AsyncUser
from support.faults import How
from support.processes import running_server
from support.recordings import Hazards
from support.scripted import Connection, close_frame, frame, scripted
from support.transports import KNOWN, SCRIPTED, pieces

from bench.proxy.behaviours.first_byte_timeout import FirstByteTimeout
from bench.proxy.serve import Proxy
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Mode, Policy
from servers import messages
from servers.stream import StreamSpec, build
from servers.transport import PUSHED, TRANSPORTS

MakeClient = Callable[..., AsyncUser]
Ask = Callable[..., Awaitable[StreamRecord]]

HEAD = Behind(re.compile(rb"\r\n\r\n"))  # an HTTP response's, or a WebSocket's handshake
IN_A_PAGE = re.compile(rb"HTTP/1.1 200 OK")
REPEATS: dict[Mode, bool] = {"none": False, "restart": True, "resume": False}


@pytest.fixture
def ask(client: MakeClient, hazards: Hazards) -> Ask:
    """`ask("sse", "resume", place, place)`: through the real server, its connections cut there one after the other."""

    async def ask(transport: str, mode: Mode, *places: Behind, how: How = "fin") -> StreamRecord:
        asked = question(hazards.answer, stream_id=token_hex(8), stream=hazards.stream, timeout_s=30)
        policy = Policy(mode, base_s=0.01)
        async with cutting(transport, hazards.urls[transport], places, how) as cutter:
            record = await client(transport, cutter.url, interval_s=0.01, recovery=policy).ask(asked)
        assert record.noticed_by == [how] * cutter.fatal
        assert cutter.fatal == (1 if mode == "none" else len(places))
        return record

    return ask


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("mode", ["none", "restart", "resume"])
@pytest.mark.parametrize("transport", [*TRANSPORTS])
async def test_a_cut_before_the_first_token(ask: Ask, transport: str, mode: Mode, how: How) -> None:
    record = await ask(transport, mode, HEAD, how=how)
    if mode == "none":
        assert record.outcome is (Outcome.TRUNCATED if how == "fin" else Outcome.DROPPED)
        assert (record.tokens_received, record.drops, record.recovery_ms) == (0, 1, None)
    else:
        assert (record.outcome, record.drops, record.tokens_duplicated) == (Outcome.OK, 1, 0)
        assert record.recovery_ms is not None
        assert record.tokens_discarded == 0


@pytest.mark.parametrize("mode", ["restart", "resume"])
@pytest.mark.parametrize("transport", SCRIPTED)
async def test_a_second_cut_before_the_first_event_after_a_reconnect(ask: Ask, transport: str, mode: Mode) -> None:
    """SSE has no new event id by then: it must ask with the old one."""
    record = await ask(transport, mode, Behind(KNOWN[transport].TOKEN, 2), HEAD)
    repeated = 2 * REPEATS[mode]
    assert (record.outcome, record.drops, record.tokens_lost, record.text_ok) == (Outcome.OK, 2, 0, True)
    assert (record.tokens_duplicated, record.tokens_discarded) == (repeated, repeated)


async def test_polling_cut_twice_at_the_same_page(ask: Ask) -> None:
    """Its second page, and then the same page on the new connection."""
    record = await ask("polling", "resume", Behind(IN_A_PAGE, 2), Behind(IN_A_PAGE, 1))
    assert (record.outcome, record.drops, record.tokens_duplicated) == (Outcome.OK, 2, 0)


@pytest.mark.parametrize("mode", ["none", "restart", "resume"])
@pytest.mark.parametrize("transport", SCRIPTED)
async def test_a_cut_between_the_last_token_and_the_end_message(
    ask: Ask, hazards: Hazards, transport: str, mode: Mode
) -> None:
    """All tokens are there, but nobody knows that they are all: truncated without recovery."""
    n = hazards.answer.n
    record = await ask(transport, mode, Behind(KNOWN[transport].TOKEN, n))
    assert (record.tokens_received, record.tokens_lost, record.drops) == (n, 0, 1)
    assert record.outcome is (Outcome.TRUNCATED if mode == "none" else Outcome.OK)
    assert record.tokens_duplicated == n * REPEATS[mode]


@pytest.mark.parametrize("ending", ["fin", "rst", "close"])
async def test_a_websocket_that_ends_straight_behind_its_handshake(client: MakeClient, ending: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.upgrade()
        if ending == "close":
            await connection.send(close_frame(1001))
        if ending == "rst":
            connection.rst()

    async with scripted(script) as server:
        records = [await client("websocket", server.url).ask(question()) for _ in range(20)]
    how = "close 1001" if ending == "close" else ending
    outcome = Outcome.DROPPED if ending == "rst" else Outcome.TRUNCATED
    assert {(record.outcome, *record.noticed_by) for record in records} == {(outcome, how)}


@pytest.mark.parametrize("mode", ["none", "resume"])
async def test_a_busy_websocket_server_is_asked_again_as_http_503_is(client: MakeClient, mode: Mode) -> None:
    asked: list[bytes] = []

    async def script(connection: Connection) -> None:
        await connection.upgrade()
        while request := await connection.frame():
            asked.append(request)
            if len(asked) < 3:
                await connection.send(frame(messages.encode_error("busy", "try again")) + close_frame(1008))
                return
            await connection.send(b"".join(pieces("websocket", ANSWER)))

    async with scripted(script) as server:
        record = await client("websocket", server.url, recovery=Policy(mode, base_s=0.01)).ask(question())
    if mode == "none":
        assert (record.outcome, record.detail) == (Outcome.HTTP_ERROR, "error busy: try again")
    else:
        assert (record.outcome, record.noticed_by, len(asked)) == (Outcome.OK, ["error busy"] * 2, 3)


SLOW = {"ttft_ms": 50, "ttft_sigma": 0, "gap_ms": 700, "gap_sigma": 0, "tokens": 3}
SILENCE_S = 0.35


@pytest.mark.parametrize("heartbeat_s", [0.1, 0.0])
@pytest.mark.parametrize("transport", PUSHED)
async def test_the_silence_limit_spares_whom_a_heartbeat_keeps_alive(
    client: MakeClient, transport: str, heartbeat_s: float
) -> None:
    """Without a heartbeat the limit gives up a connection on which nothing was wrong; resuming makes it good."""
    asked = question(build(StreamSpec.parse(SLOW), 7), stream=SLOW, timeout_s=20)
    with running_server(transport, "--heartbeat", str(heartbeat_s)) as server:
        user = client(transport, server.url, silence_s=SILENCE_S, recovery=Policy("resume", base_s=0.01))
        record = await user.ask(asked)
        await user.close()
    assert (record.outcome, record.tokens_lost, record.tokens_duplicated) == (Outcome.OK, 0, 0)
    if heartbeat_s:
        assert record.noticed_by == []
    else:
        assert set(record.noticed_by) == {"silence"}
        assert record.detection_ms is not None
        assert record.detection_ms / record.drops >= SILENCE_S * 1000


async def test_without_recovery_a_false_alarm_costs_the_message(client: MakeClient) -> None:
    with running_server("sse") as server:
        began = time.monotonic()
        record = await client("sse", server.url, silence_s=SILENCE_S).ask(
            question(build(StreamSpec.parse(SLOW), 7), stream=SLOW, timeout_s=20)
        )
    assert (record.outcome, record.noticed_by, record.tokens_received) == (Outcome.TIMEOUT, ["silence"], 1)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [408, 503])
async def test_a_model_goes_on_behind_an_intermediary_whose_patience_is_over(client: MakeClient, status: int) -> None:
    """The server answers when the answer is complete, the intermediary before that."""
    limit = FirstByteTimeout(first_byte_timeout_s=0.5, status=status)
    asked = question(build(StreamSpec.parse(SLOW), 7), stream=SLOW, timeout_s=20)
    with running_server("blocking") as server:
        address = urlsplit(server.url)
        assert address.hostname
        assert address.port
        async with Proxy((address.hostname, address.port), [limit]) as proxy:
            url = "http://{}:{}".format(*proxy.address)
            record = await client("blocking", url).ask(asked)
            assert server.get("/stats")["streams_started"] == 1
    assert (record.detail.partition(":")[0], record.tokens_wasted) == (f"status {status}", 3)
