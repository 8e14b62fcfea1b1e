"""OpenAI's dialect at the SSE server, spoken to by OpenAI's own client library and by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.independent import request
from support.processes import RunningServer, running_server
from support.transports.sse import ask

from servers.sse.openai_wire import CompletionRequest
from servers.stream import PROFILES, StreamSpec, build

Servers = Callable[[str], RunningServer]
HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
PARTS: list[Any] = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": " there"}]},
    {"role": "assistant", "content": None},
]
FAST = StreamSpec.parse("fast")


@pytest.fixture(scope="module")
def sdk(server: Servers) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server("sse").url + "/v1", api_key="any", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
async def async_sdk(server: Servers) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server("sse").url + "/v1", api_key="any", max_retries=0) as client:
        yield client


def complete(url: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """A request by hand; its status and its JSON."""
    status, headers, answer = request(url, "POST", "/v1/chat/completions", {"model": "fast", "messages": HELLO} | body)
    assert headers["content-type"].startswith("application/json")
    return status, json.loads(answer)


def test_a_stream_has_our_tokens_one_a_chunk(sdk: openai.OpenAI) -> None:
    expected = build(FAST, 7).first(12)
    chunks = list(sdk.chat.completions.create(model="fast", messages=HELLO, seed=7, max_tokens=12, stream=True))
    first, *tokens, last = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert [chunk.choices[0].delta.content for chunk in tokens] == list(expected.texts)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert last.choices[0].delta.content is None
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {"fast"}
    assert len({(chunk.id, chunk.created, chunk.system_fingerprint) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_the_usage_comes_last_when_it_is_asked_for(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="fast", messages=HELLO, max_tokens=5, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (2, 5, 7)
    assert all(chunk.usage is None for chunk in chunks)


def test_the_sentinel_is_the_last_event(server: Servers) -> None:
    body = {"model": "fast", "messages": HELLO, "max_tokens": 2, "stream": True}
    status, headers, data = request(server("sse").url, "POST", "/v1/chat/completions", body)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert data.endswith(b"}\n\ndata: [DONE]\n\n")
    assert data.count(b"\n\n") == 1 + 2 + 1 + 1  # the role, two tokens, the reason for the end, the sentinel


def test_without_streaming_the_answer_is_one_document(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="hazards", messages=HELLO, seed=1)
    hazards = build(StreamSpec.parse("hazards"), 1)
    choice, usage = whole.choices[0], whole.usage
    assert choice.message.content == "".join(hazards.texts)
    assert (choice.finish_reason, choice.message.role, whole.object) == ("stop", "assistant", "chat.completion")
    assert usage is not None
    assert usage.completion_tokens == hazards.n


def test_the_text_that_breaks_clients_arrives_in_a_stream(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(model="hazards", messages=HELLO, stream=True)
    texts = [chunk.choices[0].delta.content for chunk in stream][1:-1]
    assert texts == list(build(StreamSpec.parse("hazards"), 0).texts)


async def test_the_asynchronous_client_reads_the_same(async_sdk: openai.AsyncOpenAI) -> None:
    expected = build(FAST, 3).first(6)
    stream = await async_sdk.chat.completions.create(model="fast", messages=PARTS, seed=3, max_tokens=6, stream=True)
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    whole = await async_sdk.chat.completions.create(
        model="fast", messages=PARTS, seed=3, max_completion_tokens=6, max_tokens=20_000
    )
    assert "".join(texts) == whole.choices[0].message.content == "".join(expected.texts)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (4, 6)


def test_a_conversation_makes_the_seed_and_ignore_eos_the_length(sdk: openai.OpenAI) -> None:
    def text(message: str) -> str | None:
        whole = sdk.chat.completions.create(
            model="fast",
            messages=[{"role": "user", "content": message}],
            max_tokens=4,
            extra_body={"ignore_eos": True, "top_k": 5},
        )
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 4
        return whole.choices[0].message.content

    assert text("one") == text("one") != text("two")


def test_the_same_stream_is_underneath(server: Servers) -> None:
    running = server("sse")
    before = running.get("/stats")
    body = {"model": "fast", "messages": HELLO, "seed": 5, "max_tokens": 4}
    status, headers, data = request(running.url, "POST", "/v1/chat/completions", body)
    assert status == 200
    answer = ask(running.url, {"message": "x", "stream_id": headers["stream-id"]}).check()
    assert answer.text == json.loads(data)["choices"][0]["message"]["content"]
    assert json.loads(data)["id"] == f"chatcmpl-{headers['stream-id']}"
    after = running.get("/stats")
    assert after["streams_started"] - before["streams_started"] == 1
    assert after["requests"] - before["requests"] == 2
    assert after["tokens_sent"] - before["tokens_sent"] == 8


def test_an_answer_goes_on_without_its_reader(server: Servers, sdk: openai.OpenAI) -> None:
    running = server("sse")
    with sdk.chat.completions.with_raw_response.create(
        model="fast", messages=HELLO, seed=5, max_tokens=20, stream=True
    ).parse() as stream:
        next(iter(stream))
        stream_id = stream.response.headers["stream-id"]
    assert ask(running.url, {"message": "x", "stream_id": stream_id}).check().end == {
        "done": True,
        "n": 20,
        "sha256": build(FAST, 5).first(20).sha256,
    }


def test_the_models_are_the_profiles(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == list(PROFILES)
    assert sdk.models.retrieve("slow").id == "slow"
    for name in ("gpt", "org/gpt"):
        with pytest.raises(openai.NotFoundError, match=f"there is no '{name}'"):
            sdk.models.retrieve(name)


def test_it_is_healthy_as_benchmarks_ask(server: Servers) -> None:
    assert server("sse").get("/health") == {}


ODD: list[dict[str, Any]] = [
    {"stop": ["x"], "temperature": 9, "logprobs": True, "foo": {"bar": None}},
    {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    {"messages": [{"role": role, "content": "x", "name": "n"} for role in ("system", "developer", "tool", "function")]},
    {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
        ]
    },
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}]},
    {"n": 1, "stream": None, "stream_options": None, "seed": None, "max_completion_tokens": None},
    {"stream": False},
]


@pytest.mark.parametrize("odd", ODD, ids="-".join)
def test_what_means_nothing_here_changes_nothing(server: Servers, odd: dict[str, Any]) -> None:
    status, whole = complete(server("sse").url, max_tokens=2, **odd)
    assert (status, whole["usage"]["completion_tokens"]) == (200, 2)
    assert whole["choices"][0]["message"]["content"]


BAD: dict[str, tuple[dict[str, Any], int, str, str | None]] = {
    "an unknown model": ({"model": "gpt-9"}, 404, "model_not_found", "model"),
    "a model that is a number": ({"model": 5}, 400, "invalid_value", "model"),
    "no messages": ({"messages": []}, 400, "invalid_value", "messages"),
    "messages that are text": ({"messages": "hi"}, 400, "invalid_value", "messages"),
    "too many messages": ({"messages": HELLO * 3000}, 400, "invalid_value", "messages"),
    "a message without a role": ({"messages": [{"content": "x"}]}, 400, "invalid_value", "messages[0]"),
    "an unknown role": ({"messages": [{"role": "x", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
    "content that is a number": ({"messages": [{"role": "user", "content": 1}]}, 400, "invalid_value", None),
    "an unknown part": ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, 400, "invalid_value", None),
    "no tokens at all": ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
    "a fraction of a token": ({"max_completion_tokens": 1.5}, 400, "invalid_value", "max_completion_tokens"),
    "more than an answer may have": ({"max_tokens": 30_000, "ignore_eos": True}, 400, "invalid_value", "max_tokens"),
    "two answers": ({"n": 2}, 400, "invalid_value", "n"),
    "a seed beyond 64 bits": ({"seed": 2**70}, 400, "invalid_value", "seed"),
    "options of no stream": ({"stream_options": {}}, 400, "invalid_value", "stream_options"),
    "usage of another kind": ({"stream": True, "stream_options": {"include_usage": 1}}, 400, "invalid_value", None),
    "stream of another kind": ({"stream": "yes"}, 400, "invalid_value", "stream"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_openais_form(server: Servers, case: str) -> None:
    body, status, code, param = BAD[case]
    running = server("sse")
    started = running.get("/stats")["streams_started"]
    told, answer = complete(running.url, **body)
    error = answer["error"]
    assert (told, error["code"], error["type"]) == (status, code, "invalid_request_error")
    assert set(error) == {"message", "type", "param", "code"}
    if param is not None:
        assert error["param"] == param
    assert 0 < len(error["message"]) <= 501
    assert running.get("/stats")["streams_started"] == started


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("role", "content", "type")), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(CompletionRequest.__struct_fields__)


@given(st.dictionaries(KEYS, JSON))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_json_is_a_request_or_a_wrong_one(changes: dict[str, Any]) -> None:
    with suppress(ValueError):
        asked = CompletionRequest.parse({"model": "fast", "messages": HELLO} | changes)
        assert 0 <= asked.seed_of_answer() < 2**63
        assert asked.limit is None or asked.limit >= 1


def test_what_is_not_json_or_no_route_is_said_so_too(server: Servers) -> None:
    url = server("sse").url
    for method, path, body, status in (
        ("POST", "/v1/chat/completions", b"[" * 100_000, 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/chat/completions", b"x" * (2**20 + 1), 413),
        ("GET", "/v1/chat/completions", None, 405),
        ("POST", "/v1/completions", b"{}", 404),
    ):
        told, _, answer = request(url, method, path, body)
        assert told == status
        assert json.loads(answer)["error"]["type"] == "invalid_request_error"
    assert "/v1/chat/completions" in json.loads(answer)["error"]["message"]  # the routes that there are


def test_the_library_knows_each_error(server: Servers, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(model="fast", messages=HELLO, max_tokens=0)
    assert (bad.value.param, bad.value.code, bad.value.type) == ("max_tokens", "invalid_value", "invalid_request_error")
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.chat.completions.create(model="gpt", messages=HELLO, stream=True)
    assert (unknown.value.param, unknown.value.code) == ("model", "model_not_found")


def test_a_key_is_asked_for_where_the_server_has_one() -> None:
    with running_server("sse", "--auth-token", "secret") as guarded:
        url = guarded.url + "/v1"
        with openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError) as refused:
                stranger.chat.completions.create(model="fast", messages=HELLO, stream=True)
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
        assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")
        with openai.OpenAI(base_url=url, api_key="secret", max_retries=0) as friend:
            whole = friend.chat.completions.create(model="fast", messages=HELLO, max_tokens=1)
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 1
