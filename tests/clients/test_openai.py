"""OpenAI-compatible endpoints as contestants: what is asked, what is told, and what nobody knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.asking import question
from support.drivers import AsyncUser
from support.processes import RunningServer
from support.scripted import Connection, response, scripted, streamed

from clients.core.record import UNKNOWN_NS, Outcome
from clients.core.recovery import Policy
from clients.job import Job
from clients.load import run_cell
from clients.openai import OpenAIDecoder
from servers.messages import EndMessage

Servers = Callable[[str], RunningServer]
MakeClient = Callable[..., AsyncUser]
KEY = "sk-do-not-tell"


def chunk(text: str, **more: Any) -> bytes:
    """The event of a piece of text."""
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]} | more).encode()


USAGE = {"completion_tokens": 12, "completion_tokens_details": {"reasoning_tokens": 2}}
END = (
    b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    + b"data: %b\n\n" % json.dumps({"choices": [], "usage": USAGE}).encode()
    + b"data: [DONE]\n\n"
)
GOOD = b"".join(streamed("text/event-stream", [chunk("Hi"), chunk(" you")], END))


async def test_our_own_route_is_measured_like_any_other(client: MakeClient, server: Servers) -> None:
    user = client("openai", f"{server('sse').url}/v1", model="fast")
    first, second = [await user.ask(question(is_told=True, stream_id=name)) for name in ("s-1", "s-2")]
    for record in (first, second):
        assert (record.outcome, record.detail, record.tokens_lost) == (Outcome.OK, "", 0)
        assert record.tokens_received == record.usage_tokens == 6  # what the question allows
        assert set(record.due_ns) == set(record.sent_ns) == {record.ttft_scheduled_ns} == {UNKNOWN_NS}
        assert record.start_ns < record.first_token_ns <= record.end_ns
    assert (first.connections, second.connections, first.requests) == (1, 0, 1)


async def test_the_question_names_the_model_and_no_two_are_alike(client: MakeClient) -> None:
    asked: list[bytes] = []

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            asked.append(request)
            await connection.send(GOOD)

    async with scripted(script) as server:
        user = client("openai", server.url, model="org/m:1", limit="max_completion_tokens", auth_token=KEY)
        records = [await user.ask(question(is_told=True, stream_id=name)) for name in ("s-1", "s-2")]
        based = client("openai", f"{server.url}/api/v3", model="m")
        await based.ask(question(is_told=True))
    assert [(r.outcome, r.tokens_received, r.usage_tokens) for r in records] == [(Outcome.OK, 2, 10)] * 2
    head, _, body = asked[0].partition(b"\r\n\r\n")
    said = json.loads(body)
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}".encode() in head
    assert said["model"] == "org/m:1"
    assert said["max_completion_tokens"] == 6
    assert said["stream"] is True
    assert said["stream_options"] == {"include_usage": True}
    assert said["messages"] != json.loads(asked[1].partition(b"\r\n\r\n")[2])["messages"]
    assert asked[2].startswith(b"POST /api/v3/chat/completions ")
    assert json.loads(asked[2].partition(b"\r\n\r\n")[2])["max_tokens"] == 6


async def test_who_is_too_busy_is_asked_again_when_it_said(client: MakeClient) -> None:
    limited = response(b'{"error": {"code": "rate", "message": "later"}}', status="429 T", more="Retry-After: 1\r\n")
    answers = [limited, b"".join(streamed("text/event-stream", [chunk("Hi")], b"")), GOOD]

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.send(answers.pop(0))

    async with scripted(script) as server:
        user = client("openai", server.url, model="m", recovery=Policy("restart", base_s=0.001))
        record = await user.ask(question(is_told=True))
    assert (record.outcome, record.drops, record.requests) == (Outcome.OK, 2, 3)
    assert record.noticed_by == ["status 429", "end"]
    assert (record.tokens_received, record.tokens_discarded) == (2, 1)
    assert record.start_ns + 1_000_000_000 < record.first_token_ns
    assert record.catch_up_ms is None  # behind which pace, nobody knows


async def test_a_date_to_ask_again_is_set_beside_the_endpoint_s_own_clock(client: MakeClient) -> None:
    """Which may be years from ours; 529 is a provider's that is overloaded."""
    dates = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\nRetry-After: Wed, 21 Oct 2015 07:28:01 GMT\r\n"
    answers = [response(b"{}", status="529 Overloaded", more=dates), GOOD]

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.send(answers.pop(0))

    async with scripted(script) as server:
        user = client("openai", server.url, model="m", recovery=Policy("restart", base_s=0.001))
        record = await user.ask(question(is_told=True))
    assert (record.outcome, record.requests, record.noticed_by) == (Outcome.OK, 2, ["status 529"])
    assert record.start_ns + 1_000_000_000 < record.first_token_ns


async def test_who_repeats_the_key_does_not_bring_it_into_the_record(client: MakeClient) -> None:
    error = json.dumps({"error": {"code": "invalid", "message": f"wrong key: {KEY}"}}).encode()

    async def script(connection: Connection) -> None:
        while b"in-mid-stream" not in (request := await connection.request()) and request:
            await connection.send(response(error, status="401 No"))
        await connection.send(b"".join(streamed("text/event-stream", [b"data: %b\n\n" % error], b"")))

    async with scripted(script) as server:
        user = client("openai", server.url, model="m", auth_token=KEY)
        refused = await user.ask(question(is_told=True))
        broken = await user.ask(question(is_told=True, text="in-mid-stream"))
    assert (refused.outcome, broken.outcome) == (Outcome.HTTP_ERROR, Outcome.HTTP_ERROR)
    assert "401" in refused.detail
    assert "error invalid" in broken.detail
    assert KEY not in refused.detail + broken.detail


def test_usage_counts_the_text_alone() -> None:
    for usage, tokens in (
        (USAGE, 10),
        ({"completion_tokens": 3}, 3),
        ({"completion_tokens": True}, None),
        ({"completion_tokens": -3}, None),
        ({"completion_tokens": 2**40}, None),
        ({"completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 9}}, None),
        (None, None),
        ([], None),
    ):
        decoder = OpenAIDecoder()
        found = decoder.feed(chunk("Hi", usage=usage) + END.partition(b"\n\n")[0] + b"\n\n")
        assert (decoder.usage_tokens, len(found), type(found[-1])) == (tokens, 2, EndMessage)


async def test_a_load_asks_an_endpoint_for_nothing_but_answers(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            asked.append(request)
            await connection.send(GOOD)

    async with scripted(script) as server:
        document = {
            "transport": "openai",
            "url": server.url,
            "out": str(tmp_path / "x"),
            "block": 1,
            "cell": "openai model=m",
            "seed": 1,
            "variant": {"model": "m"},
            "load": {"streams": 4, "rate_per_s": 50.0, "warmup_streams": 1},
            "stream": {"profile": "fast"},
        }
        records, result = await run_cell(msgspec.convert(document, Job), lambda done, of: None)
    assert [record.outcome for record in records] == [Outcome.OK] * 4
    assert len(asked) == 5
    assert all(request.startswith(b"POST /v1/chat/completions ") for request in asked)
    assert (result.emit_lag_ms_p99, result.request_lag_ms_p99, result.delay_ms_p50) == (None, None, None)
    assert [note for note in result.notes if "nobody tells" in note]


@pytest.mark.parametrize("data", [b'data: {"choices": [{"delta": {"content": 5}}]}\n\n', b"data: {}\n\n", b":\n\n"])
def test_what_brings_no_text_brings_nothing(data: bytes) -> None:
    assert OpenAIDecoder().feed(data) == []
