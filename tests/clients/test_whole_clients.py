"""The polling and the blocking client against servers that send exact bytes; SSE as a browser's EventSource asks."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qs

import pytest
from support.asking import ANSWER, question
from support.drivers import AsyncUser
from support.scripted import Connection, Script, chunk, closed_port, response, scripted
from support.transports import pieces
from support.transports.blocking import whole
from support.transports.polling import ACCEPTED, page

from clients.core.record import Outcome
from clients.core.recovery import Policy
from servers import messages

MakeClient = Callable[..., AsyncUser]
GONE = messages.encode_error("unknown_stream", "gone")


def serving(responses: Iterable[bytes], requests: list[tuple[float, bytes]]) -> Script:
    """One response after the other, over however many connections; requests are noted with their moment."""
    waiting: Iterator[bytes] = iter(responses)

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            requests.append((time.monotonic(), request))
            await connection.send(next(waiting))

    return script


async def test_packed_answers_are_asked_for(client: MakeClient) -> None:
    """As browsers ask for them: else an intermediary that compresses would not, and nobody would see it hold back."""
    requests: list[tuple[float, bytes]] = []
    async with scripted(serving([whole(ANSWER)], requests)) as server:
        await client("blocking", server.url).ask(question())
    assert b"\r\nAccept-Encoding: gzip, deflate\r\n" in requests[0][1]


async def test_polling_asks_from_where_it_is(client: MakeClient) -> None:
    requests: list[tuple[float, bytes]] = []
    responses = [ACCEPTED, page(ANSWER, 0, 0), page(ANSWER, 0, 2), page(ANSWER, 2, 5), page(ANSWER, 5, 6)]
    async with scripted(serving(responses, requests)) as server:
        record = await client("polling", server.url, interval_s=0.05).ask(question())
    lines = [request.split(b" HTTP")[0] for _, request in requests]
    assert lines == [b"POST /chat", *(b"GET /chat/s?from=%d" % first for first in (0, 0, 2, 5))]
    assert (record.outcome, record.requests, record.connections) == (Outcome.OK, 5, 1)
    assert list(record.read) == [2, 2, 3, 3, 3, 4]
    starts = [at for at, _ in requests[1:]]
    assert all(0.045 < b - a < 0.5 for a, b in itertools.pairwise(starts))
    if record.bytes_in is not None:
        (connection,) = server.connections
        assert (record.bytes_in, record.bytes_out) == (connection.sent, connection.received)


async def test_long_polling_asks_at_once_when_something_came(client: MakeClient) -> None:
    requests: list[tuple[float, bytes]] = []
    responses = [ACCEPTED, page(ANSWER, 0, 2), page(ANSWER, 2, 6)]
    async with scripted(serving(responses, requests)) as server:
        record = await client("polling", server.url, interval_s=5.0, wait_s=20).ask(question())
    assert record.outcome is Outcome.OK
    assert b"from=2&wait=20 " in requests[-1][1]


async def test_long_polling_does_not_spin_where_the_server_does_not_hold_polls(client: MakeClient) -> None:
    requests: list[tuple[float, bytes]] = []
    responses = [ACCEPTED, page(ANSWER, 0, 0), page(ANSWER, 0, 6)]
    async with scripted(serving(responses, requests)) as server:
        record = await client("polling", server.url, interval_s=0.1, wait_s=20).ask(question())
    assert record.outcome is Outcome.OK
    assert requests[2][0] - requests[1][0] > 0.09


async def test_a_resuming_client_polls_on_after_a_cut(client: MakeClient) -> None:
    cut = iter([True])

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            if request.startswith(b"POST"):
                await connection.send(ACCEPTED)
            elif b"from=2" in request and next(cut, False):
                await connection.send(page(ANSWER, 2, 6)[:120])
                return
            else:
                await connection.send(page(ANSWER, 2, 6) if b"from=2" in request else page(ANSWER, 0, 2))

    async with scripted(script) as server:
        policy = Policy("resume", base_s=0.01)
        record = await client("polling", server.url, interval_s=0.01, recovery=policy).ask(question())
    assert (record.outcome, record.drops, record.requests, record.connections) == (Outcome.OK, 1, 4, 2)


@pytest.mark.parametrize(
    ("answers", "outcome", "detail"),
    [
        ([response(b"{}", status="202 Accepted")], Outcome.PROTOCOL_ERROR, "format: not an accepted question"),
        ([response(b'{"stream_id": "s", "poll": "//x/"}', status="202 A")], Outcome.PROTOCOL_ERROR, "format: no path"),
        ([response(b"{}")], Outcome.HTTP_ERROR, "status 200"),
        ([ACCEPTED, response(b"[]")], Outcome.PROTOCOL_ERROR, "format: not a page"),
        ([ACCEPTED, response(GONE, status="404 N")], Outcome.HTTP_ERROR, "status 404: unknown_stream: gone"),
        ([ACCEPTED, page(ANSWER, 0, 6).replace(b"Hello", b"Hullo")], Outcome.ALTERED, "another text"),
    ],
)  # fmt: skip
async def test_what_polling_may_meet(client: MakeClient, answers: list[bytes], outcome: Outcome, detail: str) -> None:
    async with scripted(serving(answers, [])) as server:
        record = await client("polling", server.url).ask(question())
    assert (record.outcome, record.detail[: len(detail)]) == (outcome, detail)


async def test_a_blocking_answer(client: MakeClient) -> None:
    requests: list[tuple[float, bytes]] = []
    async with scripted(serving([whole(ANSWER), whole(ANSWER)], requests)) as server:
        user = client("blocking", server.url)
        records = [await user.ask(question()), await user.ask(question())]
        (connection,) = server.connections
    assert [(record.outcome, record.connections, set(record.read)) for record in records] == [
        (Outcome.OK, 1, {1}),
        (Outcome.OK, 0, {1}),
    ]
    assert json.loads(requests[0][1].split(b"\r\n\r\n")[1]) == {
        "message": question().text, "seed": 7, "stream": None, "stream_id": "s",
    }  # fmt: skip
    if records[0].bytes_in is not None:
        assert sum(record.bytes_in or 0 for record in records) == connection.sent


@pytest.mark.parametrize("transport", ["blocking", "polling"])
@pytest.mark.parametrize("kept", [0, 30, -1])
async def test_a_body_that_was_cut(client: MakeClient, transport: str, kept: int) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send((whole(ANSWER) if transport == "blocking" else ACCEPTED)[:kept])

    async with scripted(script) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail.split(":")[0], record.drops) == (Outcome.TRUNCATED, "fin", 1)


@pytest.mark.parametrize("transport", ["blocking", "polling"])
async def test_a_reset_a_silence_a_timeout_and_nobody(client: MakeClient, transport: str) -> None:
    async def reset(connection: Connection) -> None:
        await connection.request()
        connection.rst()

    async def silent(connection: Connection) -> None:
        await connection.request()
        await connection.hold()

    async with scripted(reset) as server:
        dropped = await client(transport, server.url).ask(question())
    async with scripted(silent) as server:
        silence = await client(transport, server.url, silence_s=0.1).ask(question())
        timeout = await client(transport, server.url).ask(question(timeout_s=0.1))
    with closed_port() as url:
        refused = await client(transport, url).ask(question())
    assert [(record.outcome, record.detail.split(":")[0]) for record in (dropped, silence, timeout, refused)] == [
        (Outcome.DROPPED, "rst"),
        (Outcome.TIMEOUT, "silence"),
        (Outcome.TIMEOUT, "timeout"),
        (Outcome.REFUSED, "refused"),
    ]


async def test_event_source_asks_by_get_and_resumes_by_the_last_id(client: MakeClient) -> None:
    requests: list[bytes] = []

    async def script(connection: Connection) -> None:
        requests.append(await connection.request())
        parts = pieces("sse", ANSWER)
        parts[1] = chunk(b"retry: 20\n") + parts[1]
        await connection.send(b"".join(parts[:-1] if len(requests) == 1 else [parts[0], parts[-1]]))

    async with scripted(script) as server:
        policy = Policy("resume", base_s=0.01)
        record = await client("sse", server.url, method="get", recovery=policy).ask(question(stream={"tokens": 6}))
    assert (record.outcome, record.drops, record.tokens_duplicated) == (Outcome.OK, 1, 0)
    query = parse_qs(requests[0].split(b" ")[1].partition(b"?")[2].decode())
    assert query == {"message": [question().text], "seed": ["7"], "stream": ['{"tokens": 6}'], "stream_id": ["s"]}
    assert b"Last-Event-ID" not in requests[0]
    assert b"Last-Event-ID: s/5\r\n" in requests[1]


@pytest.mark.parametrize(("method", "outcome"), [("post", Outcome.OK), ("get", Outcome.HTTP_ERROR)])
async def test_a_fetch_tries_again_behind_a_502_and_an_event_source_gives_up(
    client: MakeClient, method: str, outcome: Outcome
) -> None:
    turns = iter([response(b"", "text/html", "502 Bad Gateway"), b"".join(pieces("sse", ANSWER))])
    async with scripted(serving(turns, [])) as server:
        record = await client("sse", server.url, method=method, recovery=Policy("resume", base_s=0.01)).ask(question())
    assert (record.outcome, record.requests) == (outcome, 2 if method == "post" else 1)


async def test_204_tells_a_reconnecting_client_that_it_has_everything(client: MakeClient) -> None:
    turns = iter([b"".join(pieces("sse", ANSWER)[:-1]), b"HTTP/1.1 204 No Content\r\n\r\n"])

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(next(turns))

    async with scripted(script) as server:
        record = await client("sse", server.url, recovery=Policy("resume", base_s=0.01)).ask(question())
    assert (record.outcome, record.requests, record.drops) == (Outcome.OK, 2, 1)


async def test_a_response_that_stays_open_after_the_end_message(
    client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.core.http_scripts.LINGER_NS", 50_000_000)

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"".join(pieces("sse", ANSWER)).removesuffix(b"0\r\n\r\n"))
        await connection.hold()

    async with scripted(script) as server:
        async with asyncio.timeout(2):
            record = await client("sse", server.url).ask(question())
    assert (record.outcome, record.drops) == (Outcome.OK, 0)


async def test_a_large_answer_in_one_piece_passes_through_flow_control(client: MakeClient) -> None:
    """More than aiohttp buffers, in one chunk and in one read as far as the kernel allows."""
    from support.feeding import schedule_of

    answer = schedule_of(*["x" * 300_000] * 8)
    async with scripted(serving([b"".join(pieces("chunked", answer))], [])) as server:
        record = await client("chunked", server.url).ask(question(answer))
    assert (record.outcome, record.detail) == (Outcome.OK, "")
