"""`--source openai`: against our own endpoint, and a server that does whatever a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.feeding import three_ways
from support.independent import Answer, request
from support.processes import running_server
from support.scripted import Connection, ScriptedServer, scripted
from support.transports import ASK

from servers.generation import Failure
from servers.messages import MAX_MESSAGE_BYTES
from servers.openai_events import AnswerReader, Api, EndpointError
from servers.openai_source import ModelEndpoint
from servers.source import SourceError
from servers.stream import StreamSpec, build
from servers.transport import TRANSPORTS
from servers.user_errors import InputError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """The data of a chat completion's event."""
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more).encode()


def events(*data: bytes, field: bytes = b"data: ", end: bytes = b"\n\n") -> bytes:
    """An event stream."""
    return b"".join(field + each + end for each in data)


HI = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk({"content": " you"})]
FINISH = chunk({}, "stop")
USAGE = json.dumps({"choices": [], "usage": {"completion_tokens": 2}}).encode()
RESPONSES = [
    {"type": "response.created", "sequence_number": 0, "response": {"error": None}},
    {"type": "response.reasoning_summary_text.delta", "delta": "let me think"},
    {"type": "response.output_text.delta", "delta": "Hi"},
    {"type": "response.output_text.delta", "delta": " you"},
    {"type": "response.output_text.done", "text": "Hi you"},
    {"type": "response.completed", "response": {"status": "completed", "error": None}},
]

WHOLE: dict[str, tuple[Api, bytes]] = {
    "as OpenAI does": ("chat", events(*HI, FINISH, USAGE, b"[DONE]")),
    "without a space": ("chat", events(*HI, FINISH, b"[DONE]", field=b"data:")),
    "with CRLF": ("chat", events(*HI, FINISH, b"[DONE]", end=b"\r\n\r\n")),
    "with keep-alive comments": ("chat", b": keep-alive\n\n" + events(*HI) + b":\n\n" + events(FINISH, b"[DONE]")),
    "without a sentinel": ("chat", events(*HI, FINISH, USAGE)),
    "with the sentinel alone": ("chat", events(*HI, b"[DONE]")),
    "reasoning before the text": (
        "chat",
        events(chunk({"reasoning_content": "hm"}), chunk({"reasoning": "so", "content": None}), *HI, FINISH, b"[DONE]"),
    ),
    "a chunk without choices first": ("chat", events(USAGE, b'{"choices": [], "prompt_filter": 1}', *HI, FINISH)),
    "a null delta": ("chat", events(b'{"choices": [{"delta": null}]}', *HI, FINISH)),
    "cut off by its own limit": ("chat", events(*HI, chunk({}, "length"), b"[DONE]")),
    "a second choice": (
        "chat",
        events(
            *(each.replace(b'"index": 0', b'"index": 1') for each in (*HI, FINISH)),
            *(each.replace(b'"choices": [', b'"choices": [{"index": 1, "delta": {"content": "no"}}, ') for each in HI),
            FINISH,
        ),
    ),
    "an empty reason until the end": ("chat", events(*(each.replace(b"null", b'""') for each in HI), FINISH)),
    "text in parts": ("chat", events(*HI[:2], chunk({"content": [{"type": "text", "text": " you"}]}), FINISH)),
    "text behind the end": ("chat", events(*HI, FINISH, chunk({"content": "late"}), b"[DONE]")),
    "an error behind the end": ("chat", events(*HI, FINISH, b'{"error": {"code": "no_usage"}}')),
    "a finish with text": ("chat", events(*HI[:2], chunk({"content": " you"}, "stop"), b"[DONE]")),
    "responses": ("responses", b"".join(b"event: x\n" + events(json.dumps(each).encode()) for each in RESPONSES)),
    "responses, incomplete": (
        "responses",
        events(*(json.dumps(each).encode() for each in RESPONSES[:4]), b'{"type": "response.incomplete"}'),
    ),
}

BROKEN: dict[str, tuple[Api, bytes, str]] = {
    "an error in mid-stream": (
        "chat",
        events(*HI, b'{"error": {"code": "overloaded", "message": "sk-1"}}'),
        "overloaded",
    ),
    "an error event": ("chat", events(*HI) + b'event: error\ndata: {"message": "sk-1"}\n\n', "broke off"),
    "what is no JSON": ("chat", events(*HI, b"<html>"), "not JSON"),
    "what is no object": ("chat", events(*HI, b"[1]"), "no JSON object"),
    "deep nesting": ("chat", events(*HI, b"[" * 100_000), "not JSON"),
    "an end that is none": ("chat", events(*HI, chunk({}, "abort"), b"[DONE]"), "abort"),
    "an object that is an error": ("chat", events(*HI, b'{"object": "error", "code": 400}', b"[DONE]"), "400"),
    "a responses error without a type of its event": (
        "responses",
        events(b'{"type": "error", "code": "rate"}'),
        "rate",
    ),
    "responses that failed": (
        "responses",
        events(b'{"type": "response.failed", "response": {"error": {"code": "server_error"}}}'),
        "server_error",
    ),
    "a responses error": ("responses", b'event: error\ndata: {"type": "error", "code": "rate"}\n\n', "rate"),
}


class Reading:
    """A reader as tests feed decoders."""

    def __init__(self, api: Api) -> None:
        self.reader = AnswerReader(api)

    def feed(self, data: bytes) -> list[str]:
        return list(self.reader.feed(data))


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_answer_is_read_however_it_is_split(case: str) -> None:
    api, data = WHOLE[case]
    assert three_ways(lambda: Reading(api), data) == (["Hi", " you"], "")
    whole, cut = Reading(api), Reading(api)
    whole.feed(data)
    cut.feed(data[: data.index(b" you") + 8])
    assert (whole.reader.is_over, cut.reader.is_over) == (True, False)


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_an_answer_is_told_without_its_words(case: str) -> None:
    api, data, why = BROKEN[case]
    reader = AnswerReader(api)
    with pytest.raises(EndpointError, match=why) as raised:
        list(reader.feed(data))
    assert "sk-1" not in str(raised.value)
    assert not reader.is_over


# ---- over a connection


async def read(url: str, api: Api = "chat") -> tuple[list[str], Failure | None]:
    """What an endpoint gives, and how it failed."""
    endpoint = ModelEndpoint(url, "m", "sk-2", api)
    texts: list[str] = []
    try:
        async for text in endpoint.tokens("hello"):
            texts.append(text)
    except SourceError as error:
        return [*filter(None, texts)], error.failure
    finally:
        await endpoint.close()
    return [*filter(None, texts)], None


async def served(pieces: Iterable[bytes], api: Api = "chat") -> tuple[list[str], Failure | None, bytes]:
    """What is read of a server that sends these pieces, how it failed, and the request."""
    asked = bytearray()

    async def script(connection: Connection) -> None:
        asked.extend(await connection.request())
        for piece in pieces:
            await connection.send(piece)
            await asyncio.sleep(0.01)

    async with scripted(script) as server:
        texts, failure = await read(server.url + "/v1", api)
    return texts, failure, bytes(asked)


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_the_question_goes_to_the_right_place(api: Api) -> None:
    name = "as OpenAI does" if api == "chat" else "responses"
    texts, failure, asked = await served([HEAD, WHOLE[name][1]], api)
    assert (texts, failure) == (["Hi", " you"], None)
    head, _, body = asked.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions " if api == "chat" else b"POST /v1/responses ")
    assert b"Authorization: Bearer sk-2" in head
    question = json.loads(body)
    assert (question["model"], question["stream"]) == ("m", True)
    assert question.get("input", question.get("messages")) in ("hello", [{"role": "user", "content": "hello"}])


def answer(status: int, body: bytes = b"", header: bytes = b"X: y") -> bytes:
    """A response in JSON."""
    head = b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\n%b\r\nContent-Length: %d\r\n\r\n"
    return head % (status, header, len(body)) + body


LIMITED = b'{"error": {"code": "rate_limit_exceeded", "message": "sk-2"}}'
ANSWERS: dict[str, tuple[bytes, int, str, int | None, str]] = {
    "too many requests": (answer(429, LIMITED, b"Retry-After: 7"), 429, "source_busy", 7, "429 (rate_limit_exceeded)"),
    "a code that is the status": (answer(429, b'{"error": {"code": 429}}'), 429, "source_busy", None, "answers 429"),
    "an error that is cut off": (answer(429, LIMITED, b"Retry-After: 7")[:-9], 429, "source_busy", 7, "429"),
    "too many, until a date": (
        answer(503, b"", b"Date: Wed, 21 Oct 2026 07:27:30 GMT\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT"),
        503,
        "source_busy",
        30,
        "503",
    ),
    "a wrong key": (answer(401, b'{"error": {"code": "invalid_api_key"}}'), 502, "source_failed", None, "401 (inv"),
    "a page": (answer(500, b"<html>"), 502, "source_failed", None, "500"),
    "a redirect": (answer(302, b"", b"Location: http://127.0.0.1:1/"), 502, "source_failed", None, "302"),
    "no stream": (answer(200, b"{}"), 502, "source_failed", None, "JSON where a stream belongs"),
    "a page, as if all were well": (
        answer(200, b"<html>").replace(b"application/json", b"text/html; charset=utf-8"),
        502,
        "source_failed",
        None,
        "a page where a stream belongs",
    ),
    "no HTTP": (b"SSH-2.0\r\n\r\n", 502, "source_failed", None, "connection failed"),
    "nothing": (b"", 502, "source_failed", None, "connection failed"),
    "half an answer": (HEAD + events(*HI), 502, "source_failed", None, "ended before its answer"),
    "a cut chunk": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nff\r\ndata: {",
        502,
        "source_failed",
        None,
        "connection failed",
    ),
    "an event without end": (HEAD + b"data: " + b"x" * (MAX_MESSAGE_BYTES + 1), 502, "source_failed", None, "bytes"),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_a_failure_is_named(case: str) -> None:
    sent, status, code, retry_s, why = ANSWERS[case]
    texts, failure, _ = await served([sent])
    assert texts == (["Hi", " you"] if case == "half an answer" else [])
    assert failure is not None
    assert (failure.status, failure.code, failure.retry_after_s) == (status, code, retry_s)
    assert why in failure.message
    assert "(429)" not in failure.message, "the same twice"
    assert "sk-2" not in failure.message


async def test_nobody_there_is_a_failure_too() -> None:
    texts, failure = await read("http://127.0.0.1:1/v1")
    assert texts == []
    assert failure is not None
    assert "connection failed" in failure.message


# ---- behind the servers


@pytest.fixture
async def raw() -> AsyncIterator[ScriptedServer]:
    """An endpoint that is as slow, as broken or as busy as the question says."""

    async def script(connection: Connection) -> None:
        asked = await connection.request()
        if b"busy" in asked:
            await connection.send(b"HTTP/1.1 429 x\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n")
            return
        await connection.send(HEAD + events(*HI))
        if b"silent" in asked:
            await connection.hold()
        await connection.send(events(FINISH, b"[DONE]") if b"whole" in asked else b"data: {")

    async with scripted(script) as server:
        yield server


async def test_what_fails_upstream_is_the_servers_error(raw: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    name_endpoint(monkeypatch, raw.url + "/v1", "m")
    with running_server("blocking", "--source", "openai", "--source-timeout", "0.3") as server:
        for question, status, code in (
            ("whole", 200, None),
            ("busy", 429, "source_busy"),
            ("silent", 504, "source_timeout"),
            ("cut", 502, "source_failed"),
        ):
            told, headers, data = await asyncio.to_thread(request, server.url, "POST", "/chat", {"message": question})
            answer = json.loads(data)
            assert (told, answer.get("error", {}).get("code")) == (status, code)
            assert headers.get("retry-after") == ("3" if status == 429 else None)


def name_endpoint(monkeypatch: pytest.MonkeyPatch, url: str, model: str) -> None:
    """What a server that a test starts finds in its environment."""
    for name, value in (("BASE_URL", url), ("MODEL", model), ("API_KEY", "secret")):
        monkeypatch.setenv(f"OPENAI_{name}", value)


def test_our_own_endpoint_answers_through_every_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = build(StreamSpec.parse("hazards"), 0)
    with running_server("sse", "--auth-token", "secret") as upstream:
        name_endpoint(monkeypatch, upstream.url + "/v1", "hazards")

        def ask(transport: str) -> Answer:
            with running_server(transport, "--source", "openai") as server:
                return ASK[transport](server.url, {"message": "hello"}).check()

        with ThreadPoolExecutor() as pool:
            answers = list(pool.map(ask, TRANSPORTS))
        for answer in answers:
            assert answer.end is not None
            assert answer.end["sha256"] == expected.sha256
            assert [token["t"] for token in answer.tokens] == [text for text in expected.texts if text]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("OPENAI_BASE_URL", "ftp://x", "OPENAI_BASE_URL"),
        ("OPENAI_BASE_URL", "nowhere", "OPENAI_BASE_URL"),
        ("OPENAI_BASE_URL", "http://[", "OPENAI_BASE_URL"),
        ("OPENAI_BASE_URL", "http://a..b:1/v1", "OPENAI_BASE_URL"),
        ("OPENAI_BASE_URL", "http://h:x/v1", "OPENAI_BASE_URL"),
        ("OPENAI_MODEL", "", "OPENAI_MODEL"),
        ("OPENAI_API_KEY", "sk\n3", "OPENAI_API_KEY"),
        ("TOKENDERBY_OPENAI_API", "assistants", "chat or responses"),
    ],
)
def test_a_wrong_environment_is_named(name: str, value: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as raised:
        ModelEndpoint.of({"OPENAI_MODEL": "m", name: value})
    assert "sk" not in str(raised.value)


def test_the_key_is_shown_nowhere() -> None:
    assert "sk-4" not in repr(ModelEndpoint.of({"OPENAI_MODEL": "m", "OPENAI_API_KEY": "sk-4"}))
