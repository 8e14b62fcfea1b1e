"""Dialects of the event stream: the same tokens in other envelopes, judged alike."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support.asking import ANSWER, question
from support.drivers import DRIVERS
from support.feeding import encoded, encoded_end, schedule_of, three_ways
from support.independent import request
from support.processes import RunningServer
from support.scripted import Connection, scripted, streamed

from bench.plan import parse
from bench.table_checks import PlanError
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Policy
from clients.core.settings import ClientSettings
from servers import messages
from servers.messages import EndMessage, TokenMessage
from servers.sse import wire
from servers.sse.dialects import DIALECTS, MAX_CUMULATIVE_BYTES, DialectDecoder, writer
from servers.stream import Schedule, StreamSpec, build

Servers = Callable[[str], RunningServer]
each = pytest.mark.parametrize("dialect", DIALECTS)
HARD = schedule_of("data: x\n\n", '", "due": 5', "\u2028", "", "[DONE]", "👩‍👩‍👧", '{"i": 3}', "\x00", ', "t": "')


def events(dialect: str, answer: Schedule, first: int = 0) -> list[bytes]:
    """What a server sends of `answer` from token `first` on, event by event, its end last."""
    before = (messages.json_text(text) for text in answer.texts[:first])
    write = writer(dialect, "s1", before)
    tokens = [write.token(message) for message in encoded(answer)[first:]]
    return [write.opening + tokens[0], *tokens[1:], write.closing + wire.encode_end(encoded_end(answer))]


def expected(answer: Schedule) -> list[TokenMessage | EndMessage]:
    return [messages.decode(message) for message in (*encoded(answer), encoded_end(answer))]


@each
@pytest.mark.parametrize("answer", [ANSWER, HARD], ids=["plain", "hard"])
def test_what_is_written_is_read_however_it_is_split(dialect: str, answer: Schedule) -> None:
    data = b"".join(events(dialect, answer))
    assert three_ways(lambda: DialectDecoder(dialect), data) == (expected(answer), "")
    assert three_ways(lambda: DialectDecoder(dialect), data.replace(b"\n", b"\r\n")) == (expected(answer), "")


@each
def test_each_event_is_of_the_dialect(dialect: str) -> None:
    opening, *others = b"".join(events(dialect, ANSWER)).decode().split("\n\n")
    said = [json.loads(line.removeprefix("data: ")) for line in (opening, *others) if line.startswith("data: {")]
    match dialect:
        case "openai":
            assert said[0]["choices"][0]["delta"]["role"] == "assistant"
            texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in said]
            assert said[-1]["choices"][0]["finish_reason"] == "stop"
        case "ai-sdk":
            ends = [each["type"] for each in said if each["type"] != "text-delta"]
            assert ends == ["start", "text-start", "text-end", "finish"]
            texts = [each.get("delta", "") for each in said]
        case _:
            texts = [said[-1]["text"]]
    assert "".join(texts) == "".join(ANSWER.texts)


def test_the_whole_text_again_with_each_token_costs_more_the_longer_it_is() -> None:
    def per_token(dialect: str, tokens: int) -> float:
        answer = schedule_of(*["word "] * tokens)
        return len(b"".join(events(dialect, answer))) / tokens

    for dialect in ("openai", "ai-sdk"):
        assert per_token(dialect, 400) < per_token(dialect, 50)  # what opens and closes is shared by more
    assert per_token("cumulative", 400) - per_token("cumulative", 50) == pytest.approx(5 * 350 / 2, rel=0.05)


@pytest.mark.parametrize(
    ("dialect", "data"),
    [
        ("openai", b'data: {"i": 0, "due": 1, "sent": 2, "choices": 5}\n\n'),
        ("openai", b'data: {"i": -1, "due": 1, "sent": 2, "choices": []}\n\n'),
        ("ai-sdk", b'data: {"i": 0, "due": 1, "sent": 2, "delta": null}\n\n'),
        ("ai-sdk", b"data: nonsense\n\n"),
        ("cumulative", b'data: {"i": 0, "due": 1, "sent": 2, "text": "other"}\n\n'),
        ("cumulative", b"data: " + b"[" * 100_000 + b"\n\n"),
    ],
)
def test_what_is_none_of_it_is_an_error(dialect: str, data: bytes) -> None:
    decoder = DialectDecoder(dialect, "before")
    with pytest.raises(messages.ProtocolError):
        decoder.feed(data)


def test_an_error_in_the_place_of_the_end_is_told() -> None:
    failure = wire.encode_failure(messages.encode_error("source_failed", "gone"))
    with pytest.raises(messages.AnswerFailed) as caught:
        DialectDecoder("ai-sdk").feed(b"".join(events("ai-sdk", ANSWER)[:2]) + failure)
    assert caught.value.messages == expected(ANSWER)[:2]


# ---- over connections


async def asked(driver: str, url: str, answer: Schedule, **settings: object) -> StreamRecord:
    """One message by a user of this driver."""
    user = DRIVERS[driver]("sse", ClientSettings(url, **settings))  # type: ignore[arg-type]
    try:
        return await user.ask(question(answer, seed=7, stream={"profile": "fast", "tokens": 20}))
    finally:
        await user.close()


@each
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("method", ["post", "get"])
async def test_the_server_speaks_it_and_the_client_judges_it(
    server: Servers, dialect: str, driver: str, method: str
) -> None:
    answer = build(StreamSpec.parse({"profile": "fast", "tokens": 20}), 7)
    record = await asked(driver, server("sse").url, answer, dialect=dialect, method=method)
    assert (record.outcome, record.detail, record.text_ok, record.tokens_received) == (Outcome.OK, "", True, 20)
    assert all(0 < record.due_ns[k] <= record.sent_ns[k] <= record.received_ns[k] for k in range(20))


@each
@pytest.mark.parametrize("driver", DRIVERS)
async def test_it_is_resumed_at_the_next_token(dialect: str, driver: str) -> None:
    requests: list[bytes] = []

    async def script(connection: Connection) -> None:
        requests.append(await connection.request())
        first = 0 if len(requests) == 1 else 3
        head, *parts, end = streamed(wire.CONTENT_TYPE, *_split(events(dialect, ANSWER, first)))
        await connection.send(head + b"".join(parts[:3] if first == 0 else [*parts, end]))

    async with scripted(script) as server:
        policy = Policy("resume", base_s=0.001)
        record = await asked(driver, server.url, ANSWER, dialect=dialect, recovery=policy)
    assert (record.outcome, record.detail, record.drops) == (Outcome.OK, "", 1)
    assert [b'"from"' in each for each in requests] == [False, True]
    assert f"/chat?dialect={dialect} ".encode() in requests[1]


def _split(parts: list[bytes]) -> tuple[list[bytes], bytes]:
    return parts[:-1], parts[-1]


def test_what_the_server_does_not_speak_is_refused(server: Servers) -> None:
    url, begun = server("sse").url, server("sse").get("/stats")["streams_started"]
    for path, body in (
        ("/chat?dialect=klingon", {"message": "m"}),
        ("/chat?dialect=cumulative", {"stream": "hazards"}),
    ):
        status, _, answer = request(url, "POST", path, {"message": "m"} | body)
        assert (status, json.loads(answer)["error"]["code"]) == (400, "bad_request")
        assert "dialect" in json.loads(answer)["error"]["message"]
    assert server("sse").get("/stats")["streams_started"] == begun, "what is refused is not half-started"
    longest = build(StreamSpec.parse("hazards"), 0)
    assert sum(map(len, longest.texts)) > MAX_CUMULATIVE_BYTES


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ({"transport": "chunked", "dialect": "openai"}, "means nothing to chunked"),
        ({"transport": "sse", "dialect": "klingon"}, "dialect"),
        ({"transport": "sse", "dialect": "openai", "stack": "fastapi-sse"}, "means nothing to a stack"),
    ],
)
def test_a_plan_says_where_it_means_nothing(cell: dict[str, object], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        parse({"name": "n", "cells": [cell]})
