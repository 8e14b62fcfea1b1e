"""The clients of SSE, chunked and WebSocket against servers that send exact bytes: the same cases for all three."""

from __future__ import annotations

import asyncio
import itertools
import time
from array import array
from collections.abc import Awaitable, Callable

import pytest
from support.asking import ANSWER, question
from support.drivers import AsyncUser
from support.scripted import Connection, close_frame, closed_port, frame, response, scripted
from support.transports import SCRIPTED, pieces

from clients.core.record import Outcome
from clients.core.recovery import Mode, Policy
from servers import messages

MakeClient = Callable[..., AsyncUser]
pytestmark = pytest.mark.parametrize("transport", SCRIPTED)


def answering(
    transport: str, then: Callable[[Connection, list[bytes]], Awaitable[None]]
) -> Callable[[Connection], Awaitable[None]]:
    """A script: for each request, `then` sends what it wants of the answer's pieces."""

    async def script(connection: Connection) -> None:
        if transport == "websocket":
            await connection.upgrade()
        while await (connection.frame() if transport == "websocket" else connection.request()):
            await then(connection, pieces(transport, ANSWER))

    return script


async def everything(connection: Connection, parts: list[bytes]) -> None:
    await connection.send(b"".join(parts))


async def test_a_whole_answer(client: MakeClient, transport: str) -> None:
    async with scripted(answering(transport, everything)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail, record.text_ok) == (Outcome.OK, "", True)
    assert (record.tokens_expected, record.tokens_received, record.tokens_lost, record.drops) == (6, 6, 0, 0)
    assert (record.i, record.due_ns, record.sent_ns) == (
        array("q", range(6)),
        array("q", [1000] * 6),
        array("q", [1500] * 6),
    )
    assert record.intended_start_ns <= record.start_ns < record.first_token_ns == record.received_ns[0]
    assert record.end_ns == record.received_ns[-1]
    assert record.requests == (2 if transport == "websocket" else 1)
    assert record.connections == 1


async def test_byte_by_byte(client: MakeClient, transport: str) -> None:
    async def slowly(connection: Connection, parts: list[bytes]) -> None:
        await connection.send_slowly(b"".join(parts))

    async with scripted(answering(transport, slowly)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail) == (Outcome.OK, "")


async def test_tokens_of_one_read_share_its_stamp_and_number(client: MakeClient, transport: str) -> None:
    async def in_three(connection: Connection, parts: list[bytes]) -> None:
        for some in (parts[:3], parts[3:6], parts[6:]):
            await connection.send(b"".join(some))
            await asyncio.sleep(0.03)

    async with scripted(answering(transport, in_three)) as server:
        record = await client(transport, server.url).ask(question())
    assert record.outcome is Outcome.OK
    bursts = [list(group) for _, group in itertools.groupby(zip(record.read, record.received_ns, strict=True))]
    assert [len(burst) for burst in bursts] == [2, 3, 1]
    assert all(a[0][1] < b[0][1] for a, b in itertools.pairwise(bursts))
    numbers = [burst[0][0] for burst in bursts]
    assert numbers == sorted(set(numbers))


async def test_bytes_and_connections_over_two_messages(client: MakeClient, transport: str) -> None:
    """With reuse the second message pays for no connection; what the server counted is what the kernel counted."""
    async with scripted(answering(transport, everything)) as server:
        user = client(transport, server.url)
        first, second = await user.ask(question()), await user.ask(question())
        (connection,) = server.connections
    assert (first.connections, second.connections, second.requests) == (1, 0, 1)
    if first.bytes_in is not None and second.bytes_in is not None and first.bytes_out and second.bytes_out:
        assert (first.bytes_in + second.bytes_in, first.bytes_out + second.bytes_out) == (
            connection.sent,
            connection.received,
        )
        assert second.bytes_in == len(b"".join(pieces(transport, ANSWER)))


async def test_without_reuse_each_message_has_its_own_connection(client: MakeClient, transport: str) -> None:
    async with scripted(answering(transport, everything)) as server:
        user = client(transport, server.url, reuse=False)
        records = [await user.ask(question()), await user.ask(question())]
    assert [(record.outcome, record.connections) for record in records] == [(Outcome.OK, 1)] * 2
    assert len(server.connections) == 2
    if records[0].bytes_in is not None:
        assert records[0].bytes_in >= server.connections[0].sent


@pytest.mark.parametrize("after", [0, 1, 3, 6])
@pytest.mark.parametrize("inside", [0, 5])
async def test_a_fin_before_the_end_message_is_a_truncated_answer(
    client: MakeClient, transport: str, after: int, inside: int
) -> None:
    async def cut(connection: Connection, parts: list[bytes]) -> None:
        await connection.send(b"".join(parts[: after + 1]) + parts[after + 1][:inside])
        await connection.fin()

    async with scripted(answering(transport, cut)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail.split(":")[0]) == (Outcome.TRUNCATED, "fin")
    assert (record.tokens_received, record.tokens_lost, record.drops) == (after, 6 - after, 1)
    assert (record.end_ns, record.text_ok) == (0, after == 6)


@pytest.mark.parametrize("after", [0, 3])
async def test_a_reset_before_the_end_message_is_a_drop(client: MakeClient, transport: str, after: int) -> None:
    async def cut(connection: Connection, parts: list[bytes]) -> None:
        await connection.send(b"".join(parts[: after + 1]))
        await asyncio.sleep(0.02)  # a reset overtakes what the client's kernel still holds
        connection.rst()

    async with scripted(answering(transport, cut)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail.split(":")[0]) == (Outcome.DROPPED, "rst")
    assert (record.tokens_received, record.drops) == (after, 1)


async def test_a_cut_before_any_byte_of_the_response(client: MakeClient, transport: str) -> None:
    async def hang_up(connection: Connection, _: list[bytes]) -> None:
        await connection.fin()

    async with scripted(answering(transport, hang_up)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail.split(":")[0], record.drops) == (Outcome.TRUNCATED, "fin", 1)


async def test_nobody_listens(client: MakeClient, transport: str) -> None:
    with closed_port() as url:
        record = await client(transport, url).ask(question())
    assert (record.outcome, record.connections, record.drops) == (Outcome.REFUSED, 0, 0)
    assert record.tokens_lost == 6


async def test_a_status_that_the_contract_does_not_name(client: MakeClient, transport: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        body = messages.encode_error("busy", "try again")
        await connection.send(
            response(body, status="503 Service Unavailable", more="Retry-After: 1\r\nConnection: close\r\n")
        )

    async with scripted(script) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail) == (Outcome.HTTP_ERROR, "status 503: busy: try again")


@pytest.mark.parametrize(
    "bad",
    [b"this is not HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"],
)
async def test_bytes_that_are_not_the_protocol(client: MakeClient, transport: str, bad: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(bad)
        await connection.hold()

    async with scripted(script) as server:
        record = await client(transport, server.url).ask(question())
    # A WebSocket client expected 101: then 200 is a status that docs/wire-format.md does not name.
    refused = transport == "websocket" and bad.startswith(b"HTTP")
    assert record.outcome is (Outcome.HTTP_ERROR if refused else Outcome.PROTOCOL_ERROR), record.detail


async def test_nonsense_after_two_tokens_keeps_the_two(client: MakeClient, transport: str) -> None:
    nonsense = {
        "sse": b"14\r\ndata: nonsense....\n\n\r\n",
        "chunked": b"9\r\nnonsense\n\r\n",
        "websocket": frame(b"nonsense"),
    }

    async def spoil(connection: Connection, parts: list[bytes]) -> None:
        await connection.send(b"".join(parts[:3]) + nonsense[transport])
        await connection.hold()

    async with scripted(answering(transport, spoil)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.tokens_received) == (Outcome.PROTOCOL_ERROR, 2), record.detail


async def test_broken_framing_after_two_tokens(client: MakeClient, transport: str) -> None:
    async def spoil(connection: Connection, parts: list[bytes]) -> None:
        await connection.send(b"".join(parts[:3]))
        await asyncio.sleep(0.02)
        # No chunk size, and no opcode of RFC 6455.
        await connection.send(b"\x83\x00" if transport == "websocket" else b"zz\r\n")
        await connection.hold()

    async with scripted(answering(transport, spoil)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.tokens_received) == (Outcome.PROTOCOL_ERROR, 2), record.detail


async def test_a_message_that_takes_too_long(client: MakeClient, transport: str) -> None:
    async def stall(connection: Connection, parts: list[bytes]) -> None:
        await connection.send(b"".join(parts[:4]))
        await connection.hold()

    async with scripted(answering(transport, stall)) as server:
        before = time.monotonic()
        record = await client(transport, server.url).ask(question(timeout_s=0.2))
    assert (record.outcome, record.tokens_received, record.drops) == (Outcome.TIMEOUT, 3, 0)
    assert record.detail.startswith("timeout")
    assert time.monotonic() - before < 2


async def test_the_clients_own_silence_limit(client: MakeClient, transport: str) -> None:
    async def black_hole(connection: Connection, parts: list[bytes]) -> None:
        for part in parts[:4]:
            await connection.send(part)
            await asyncio.sleep(0.05)  # less than the limit: not yet silence
        await connection.hold()

    async with scripted(answering(transport, black_hole)) as server:
        record = await client(transport, server.url, silence_s=0.15).ask(question())
    assert (record.outcome, record.tokens_received, record.drops) == (Outcome.TIMEOUT, 3, 1)
    assert record.detail.startswith("silence")


async def test_a_failed_message_does_not_spoil_the_next(client: MakeClient, transport: str) -> None:
    turn = itertools.count()

    async def once_badly(connection: Connection, parts: list[bytes]) -> None:
        if next(turn) == 0:
            await connection.send(b"".join(parts[:3]))
            await connection.hold()
        await everything(connection, parts)

    async with scripted(answering(transport, once_badly)) as server:
        user = client(transport, server.url)
        records = [await user.ask(question(timeout_s=0.2)), await user.ask(question())]
    assert [record.outcome for record in records] == [Outcome.TIMEOUT, Outcome.OK]
    assert records[1].connections == 1


@pytest.mark.parametrize(
    ("order", "outcome", "counts"),
    [
        ([0, 1, 2, 4, 5], Outcome.LOST, (1, 0, 0)),
        ([0, 1, 1, 2, 3, 4, 5], Outcome.DUPLICATED, (0, 1, 0)),
        ([0, 2, 1, 3, 4, 5], Outcome.REORDERED, (0, 0, 1)),
    ],
)
async def test_tokens_that_went_astray(
    client: MakeClient, transport: str, order: list[int], outcome: Outcome, counts: tuple[int, int, int]
) -> None:
    async def astray(connection: Connection, parts: list[bytes]) -> None:
        await connection.send(parts[0] + b"".join(parts[1 + i] for i in order) + parts[-1])

    async with scripted(answering(transport, astray)) as server:
        record = await client(transport, server.url).ask(question())
    assert record.outcome is outcome
    assert (record.tokens_lost, record.tokens_duplicated, record.tokens_reordered) == counts


async def test_other_text_under_the_right_hash_is_found(client: MakeClient, transport: str) -> None:
    async def alter(connection: Connection, parts: list[bytes]) -> None:
        await connection.send(b"".join(parts).replace(b"Hello", b"Hullo"))

    async with scripted(answering(transport, alter)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.text_ok, record.tokens_lost) == (Outcome.ALTERED, False, 0)


async def test_the_token_of_access_goes_along(client: MakeClient, transport: str) -> None:
    seen: list[bytes] = []

    async def script(connection: Connection) -> None:
        seen.append(await connection.request())
        await connection.send(response(b"", status="401 Unauthorized", more="Connection: close\r\n"))

    async with scripted(script) as server:
        record = await client(transport, server.url, auth_token="s3cret").ask(question())
    assert b"Authorization: Bearer s3cret\r\n" in seen[0]
    assert record.detail.startswith("status 401")


@pytest.mark.parametrize("mode", ["resume", "restart"])
async def test_recovery_after_a_cut_inside_a_token(client: MakeClient, transport: str, mode: str) -> None:
    """The second attempt of this server brings what was asked for: all of it, or from index 2 on."""
    requests: list[bytes] = []

    async def cut_once(connection: Connection, parts: list[bytes]) -> None:
        if not requests:
            requests.append(b"")
            await connection.send(b"".join(parts[:3]) + parts[3][:9])
            await connection.fin()
        elif mode == "resume":
            await connection.send(parts[0] + b"".join(parts[3:]))
        else:
            await everything(connection, parts)

    policy = Policy("resume" if mode == "resume" else "restart", base_s=0.01)
    async with scripted(answering(transport, cut_once)) as server:
        record = await client(transport, server.url, recovery=policy).ask(question())
    assert (record.outcome, record.drops, record.connections) == (Outcome.OK, 1, 2), record.detail
    assert record.tokens_duplicated == record.tokens_discarded == (0 if mode == "resume" else 2)
    assert record.tokens_wasted == (0 if mode == "resume" else 6)
    assert (record.noticed_by, record.catch_up_ms is not None) == (["fin"], True)
    assert 0 <= (record.detection_ms or -1) < 2000
    assert record.recovery_ms is not None
    assert 0 < record.recovery_ms < 3000
    assert record.i == array("q", range(6))


async def test_farewell_codes_and_refusals_of_a_websocket(client: MakeClient, transport: str) -> None:
    if transport != "websocket":
        pytest.skip("only a WebSocket says goodbye")
    endings = [
        close_frame(1001, "stopping"),
        close_frame(1011, "oops"),
        frame(messages.encode_error("bad_stream", "no")),
    ]
    records = []
    for ending in endings:

        async def say_goodbye(connection: Connection, parts: list[bytes], ending: bytes = ending) -> None:
            await connection.send(parts[1] + ending)
            await connection.hold()

        async with scripted(answering(transport, say_goodbye)) as server:
            records.append(await client(transport, server.url).ask(question()))
    assert [(record.outcome, record.detail) for record in records] == [
        (Outcome.TRUNCATED, "close 1001: stopping"),
        (Outcome.DROPPED, "close 1011: oops"),
        (Outcome.HTTP_ERROR, "error bad_stream: no"),
    ]
    assert all(record.tokens_received == 1 for record in records)


@pytest.mark.parametrize(("mode", "outcome"), [("none", Outcome.TRUNCATED), ("resume", Outcome.OK)])
async def test_a_websocket_cut_between_messages_is_a_drop_of_the_next(
    client: MakeClient, transport: str, mode: Mode, outcome: Outcome
) -> None:
    if transport != "websocket":
        pytest.skip("only a WebSocket is kept by its user; a pool of HTTP connections opens another")
    cut = asyncio.Event()

    async def answer_once(connection: Connection, parts: list[bytes]) -> None:
        await connection.send(b"".join(parts))
        await connection.fin()
        cut.set()

    async with scripted(answering(transport, answer_once)) as server:
        user = client(transport, server.url, recovery=Policy(mode, base_s=0.01))
        first = await user.ask(question())
        await cut.wait()
        await asyncio.sleep(0.05)
        second = await user.ask(question())
        third = await user.ask(question()) if mode == "none" else None
    assert (first.outcome, first.drops) == (Outcome.OK, 0)
    assert (second.outcome, second.drops, second.noticed_by) == (outcome, 1, ["fin"])
    assert third is None or (third.outcome, third.connections) == (Outcome.OK, 1)


async def test_fragments_pings_and_binary_frames_of_a_websocket(client: MakeClient, transport: str) -> None:
    if transport != "websocket":
        pytest.skip("only a WebSocket has frames")

    async def fragment(connection: Connection, parts: list[bytes]) -> None:
        token = parts[1][2:]
        await connection.send(frame(token[:9], fin=False) + frame(b"ping", 9) + frame(token[9:], 0) + frame(b"", 10))
        await connection.send(b"".join(parts[2:]))

    async with scripted(answering(transport, fragment)) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail) == (Outcome.OK, "")
