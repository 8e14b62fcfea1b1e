"""Transcripts in nine published formats: the text exact, the rest counted, refusals that name the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest

from bench.transcripts.transcript import TranscriptError, read_transcript
from servers.openai_events import AnswerReader

TEXTS = ["Hel", "lo\u2028", "\n\n", "data: 👩‍👧", " end"]


def sse(*chunks: Any, named: bool = False, done: bool = False, end: str = "\n") -> bytes:
    """An event stream."""
    events = [
        (f"event: {chunk['type']}{end}" if named else "") + f"data: {json.dumps(chunk, ensure_ascii=False)}{end}{end}"
        for chunk in chunks
    ]
    return ("".join(events) + (f"data: [DONE]{end}{end}" if done else "")).encode()


def lines(*chunks: Any) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(chunk) + "\n" for chunk in chunks).encode()


def chat(answer_id: str = "c1", **delta_of_each: Any) -> list[dict[str, Any]]:
    """An answer's chunks as OpenAI's chat sends them."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta | delta_of_each, "logprobs": None, "finish_reason": finish}
        return {"id": answer_id, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    return [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        *(chunk({"content": text}) for text in TEXTS),
        chunk({}, "stop"),
        {"id": answer_id, "object": "chat.completion.chunk", "choices": [], "usage": {"completion_tokens": 5}},
    ]


def responses(answer_id: str = "r1") -> list[dict[str, Any]]:
    """The same as OpenAI's Responses API has it."""
    item = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    return [
        {"type": "response.created", "sequence_number": 0, "response": {"id": answer_id, "usage": None}},
        {"type": "response.reasoning_summary_text.delta", "delta": "let me think"},
        {"type": "response.function_call_arguments.delta", "delta": "{}"},
        *({"type": "response.output_text.delta", "delta": text, **item} for text in TEXTS),
        {"type": "response.output_text.done", "text": "".join(TEXTS), **item},
        {"type": "response.completed", "response": {"id": answer_id, "usage": {"output_tokens": 5}}},
    ]


def anthropic(answer_id: str = "a1") -> list[dict[str, Any]]:
    """The same as Anthropic has it."""

    def delta(kind: str, **what: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **what}}

    return [
        {"type": "message_start", "message": {"id": answer_id, "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        delta("thinking_delta", thinking="hm"),
        delta("input_json_delta", partial_json="{"),
        *(delta("text_delta", text=text) for text in TEXTS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]


def gemini(answer_id: str = "g1", *, finishes_each: bool = False) -> list[dict[str, Any]]:
    """The same as Gemini has it."""
    found = []
    for k, text in enumerate(TEXTS):
        parts: list[dict[str, Any]] = [{"text": text}]
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if k == 0:
            parts.insert(0, {"text": "hm", "thought": True})
        if finishes_each or k == len(TEXTS) - 1:
            candidate["finishReason"] = "STOP"
        found.append({"candidates": [candidate], "usageMetadata": {"totalTokenCount": k}, "responseId": answer_id})
    return found


def ollama(key: str = "message") -> list[dict[str, Any]]:
    """The same as Ollama's /api/chat has it, or (`response`) its /api/generate."""

    def piece(text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}} if key == "message" else {"response": text}

    created = {"model": "llama3.2", "created_at": "2026-08-04T08:52:19.385406455Z"}
    return [
        *(created | piece(text) | {"done": False} for text in TEXTS),
        created | piece("") | {"done": True, "done_reason": "stop", "eval_count": 5},
    ]


LLAMA_CPP = [
    *({"index": 0, "content": text, "tokens": [1], "stop": False, "id_slot": -1} for text in TEXTS),
    {"index": 0, "content": "", "stop": True, "stop_type": "eos", "timings": {"predicted_n": 5}},
]
VLLM = [
    {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": None}]}
    for text in TEXTS
]
VLLM[-1]["choices"][0]["finish_reason"] = "length"  # type: ignore[index]
AI_SDK = [
    {"type": "start", "messageId": "m1"},
    {"type": "start-step"},
    {"type": "reasoning-delta", "id": "0", "delta": "hm"},
    {"type": "tool-input-delta", "toolCallId": "t", "inputTextDelta": "{"},
    {"type": "text-start", "id": "1"},
    *({"type": "text-delta", "id": "1", "delta": text} for text in TEXTS),
    {"type": "text-end", "id": "1"},
    {"type": "source-url", "sourceId": "s", "url": "x"},
    {"type": "finish"},
]

WHOLE: dict[str, tuple[bytes, str, set[str]]] = {
    "OpenAI chat": (sse(*chat(), done=True), "OpenAI chat", {"roles", "usage"}),
    "OpenAI chat with CRLF": (sse(*chat(), done=True, end="\r\n"), "OpenAI chat", {"roles", "usage"}),
    "chunks a line": (lines(*chat()), "OpenAI chat", {"roles", "usage"}),
    "a role in every chunk": (sse(*chat(role="assistant"), done=True), "OpenAI chat", {"roles", "usage"}),
    "reasoning beside": (sse(*chat(reasoning_content="hm")), "OpenAI chat", {"roles", "usage", "reasoning"}),
    "keep-alive comments": (b": keep-alive\n\n" + sse(*chat()), "OpenAI chat", {"roles", "usage"}),
    "vLLM": (sse(*VLLM, done=True), "OpenAI chat (also vLLM", set()),
    "OpenAI responses": (
        sse(*responses(), named=True),
        "OpenAI responses",
        {"reasoning", "tools", "usage", "other events"},
    ),
    "Anthropic": (sse(*anthropic(), named=True), "Anthropic", {"roles", "pings", "reasoning", "tools", "usage"}),
    "Gemini by SSE": (sse(*gemini()), "Gemini", {"roles", "reasoning", "usage"}),
    "Gemini as an array": (json.dumps(gemini(), indent=2).encode(), "Gemini", {"roles", "reasoning", "usage"}),
    "Gemini, always finishing": (sse(*gemini(finishes_each=True)), "Gemini", {"roles", "reasoning", "usage"}),
    "Ollama chat": (lines(*ollama()), "Ollama", {"roles", "usage"}),
    "Ollama generate": (lines(*ollama("response")), "Ollama", {"usage"}),
    "llama.cpp": (lines(*LLAMA_CPP), "llama.cpp", {"usage"}),
    "llama.cpp by SSE": (sse(*LLAMA_CPP), "llama.cpp", {"usage"}),
    "AI SDK": (
        sse(*AI_SDK, done=True),
        "AI SDK's UI stream",
        {"reasoning", "tools", "sources, files and data", "other events"},
    ),
    "a byte-order mark": (b"\xef\xbb\xbf" + lines(*ollama("response")), "Ollama", {"usage"}),
}


@pytest.mark.parametrize("case", WHOLE)
def test_the_text_is_exact_and_the_rest_is_counted(case: str) -> None:
    data, name, dropped = WHOLE[case]
    found = read_transcript(data)
    assert found.format.startswith(name)
    assert found.answers == [TEXTS]
    assert found.left_out == []
    assert set(found.dropped) == dropped


@pytest.mark.parametrize(
    "data",
    [
        sse(*chat("c1"), *chat("c2")),
        sse(*chat(""), *chat("")),
        sse(*responses("r1"), *responses("r2")),
        sse(*anthropic("a1"), *anthropic("a2")),
        sse(*gemini("g1"), *gemini("g2")),
        lines(*ollama(), *ollama()),
        lines(*LLAMA_CPP, *LLAMA_CPP),
        sse(*AI_SDK, *(chunk | {"messageId": "m2"} if "messageId" in chunk else chunk for chunk in AI_SDK)),
    ],
    ids=lambda data: str(data[:30]),
)
def test_several_answers_are_told_apart(data: bytes) -> None:
    assert read_transcript(data).answers == [TEXTS, TEXTS]


def without_end(chunks: Iterable[dict[str, Any]], last: int) -> bytes:
    return sse(*list(chunks)[:last])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (without_end(chat(), -2), "it has no end"),
        (without_end(responses(), -1), "it has no end"),
        (without_end(anthropic(), -1), "it has no end"),
        (without_end(gemini(), -1), "it has no end"),
        (without_end(LLAMA_CPP, -1), "it has no end"),
        (without_end(AI_SDK, -1), "it has no end"),
        (lines(*ollama()[:-1]), "it has no end"),
        (sse(*anthropic()[:-1], {"type": "error", "error": {"type": "overloaded_error"}}), "(overloaded_error)"),
        (sse(*responses()[:-1], {"type": "response.failed"}), "(response.failed)"),
        (sse(*responses()[:-1], {"type": "response.failed", "response": {"error": {"code": "quota"}}}), "(quota)"),
        (sse(*AI_SDK[:-1], {"type": "error", "errorText": "x"}), "(x)"),
        (lines(*ollama()[:2], {"error": "out of memory"}), "(out of memory)"),
        (sse(chat()[0], *chat()[-2:]), "it has no text"),
    ],
)
def test_half_an_answer_is_left_out_and_said(data: bytes, why: str) -> None:
    found = read_transcript(data)
    assert found.answers == []
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("answer 1: ")
    assert why in found.left_out[0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (sse(*chat()[:3], {"error": {"message": "x", "type": "server_error"}}, *chat()[3:]), "(server_error)"),
        (sse(*chat()[:3], {"id": "c1", "error": {"code": 502, "message": "upstream"}, "choices": []}), "(upstream)"),
        (
            sse(*chat()[:3], {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}),
            "(finish_reason error)",
        ),
        (sse(*chat()[:3], {"object": "error", "type": "BadRequestError", "code": 400}, *chat()[3:]), "(BadRequest"),
        (sse(*chat()[:3], {"text": "**NETWORK ERROR**", "error_code": 50002}), "(error)"),
        (sse(*responses()[:-1], {"type": "error", "code": "rate_limit_exceeded"}), "(rate_limit_exceeded)"),
        (sse(*responses()[:-1], {"type": "error"}), "(error)"),
        (sse(*LLAMA_CPP[:-1], {"error": {"message": "out of slots"}}), "(out of slots)"),
        (sse(*gemini()[:-1], {"promptFeedback": {"blockReason": "SAFETY"}, "responseId": "g1"}), "(blocked: SAFETY)"),
    ],
)
def test_an_error_in_the_midst_ends_an_answer_of_any_format(data: bytes, why: str) -> None:
    found = read_transcript(data)
    assert found.answers == []
    assert why in found.left_out[0]


def test_a_file_that_is_cut_off_gives_what_is_whole_before() -> None:
    whole, half = sse(*chat("c1")), sse(chat("c2")[0])
    found = read_transcript(whole + half[: len(half) // 2])
    assert found.answers == [TEXTS]
    assert found.left_out == ["the last event (9): it is cut off"]
    assert len(read_transcript(whole[:-40]).left_out) == 1, "its end was there before"
    assert len(read_transcript(lines(*chat()[:3])[:-9]).left_out) == 2, "of the answer no end is known either"


def test_the_first_of_several_choices_is_taken_and_the_others_are_counted() -> None:
    def choice(index: int, text: str, reason: str | None = None) -> dict[str, Any]:
        return {"id": "c", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]}

    both = [event for text in TEXTS for event in (choice(1, "no"), choice(0, text))]
    found = read_transcript(sse(*both, choice(1, "", "stop"), choice(0, "", "stop")))
    assert (found.answers, found.dropped) == ([TEXTS], {"other choices": len(TEXTS) + 1})
    second: dict[str, Any] = {"index": 1, "content": {"parts": [{"text": "no"}]}}
    events = [{**event, "candidates": [second, *event["candidates"]]} for event in gemini()]
    found = read_transcript(sse(*events))
    assert (found.answers, found.dropped["other candidates"]) == ([TEXTS], len(TEXTS))


def test_an_empty_reason_to_end_is_none() -> None:
    events = [{"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": ""}]} for text in TEXTS]
    assert read_transcript(sse(*events)).answers == []
    end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    assert read_transcript(sse(*events, end)).answers == [TEXTS]


def test_text_in_parts_is_text_and_what_is_none_is_counted() -> None:
    """As Mistral's reasoning models have it."""
    parts = [[{"type": "thinking", "thinking": []}], [{"type": "text", "text": "a"}, {"type": "reference"}], 5, "b"]
    events = [{"id": "c", "choices": [{"index": 0, "delta": {"content": part}}]} for part in parts]
    found = read_transcript(sse(*events, {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    assert found.answers == [["a", "b"]]
    assert found.dropped == {"reasoning": 1, "content that is no text": 2}


def test_a_refusal_is_text_as_for_a_source() -> None:
    """Both read an answer alike: `import`, and `--source openai` with `record`."""
    choices = [{"index": 0, "delta": {"role": "assistant", "content": None, "refusal": text}} for text in TEXTS]
    chunks = [*({"id": "c", "choices": [choice]} for choice in choices), chat("c")[-2]]
    recorded = [{"type": "response.refusal.delta", "delta": text} for text in TEXTS]
    for data, api in ((sse(*chunks), "chat"), (sse(*recorded, responses()[-1]), "responses")):
        assert read_transcript(data).answers == [TEXTS]
        assert list(AnswerReader(api).feed(data)) == TEXTS  # type: ignore[arg-type]


def test_what_stands_behind_the_end_is_none_of_the_answer() -> None:
    """As for a source and the client of an endpoint, whose answer is over by then."""
    late = [{"id": "c1", "choices": [{"index": 0, "delta": {"content": "late"}}]}]
    data = sse(*chat(), *late, done=True)
    found = read_transcript(data)
    assert (found.answers, found.dropped["events behind the end"]) == ([TEXTS], 1)
    assert list(AnswerReader("chat").feed(data)) == TEXTS


def test_what_a_block_begins_with_is_read() -> None:
    """Anthropic's: an accumulated text begins with it; redacted thoughts and a tool's results are there alone."""
    start, _, *rest = anthropic()
    blocks: list[dict[str, Any]] = [
        {"type": "redacted_thinking", "data": "Emwk"},
        {"type": "server_tool_use", "name": "web_search"},
        {"type": "web_search_tool_result", "content": []},
        {"type": "text", "text": "So: "},
    ]
    found = read_transcript(
        sse(start, *({"type": "content_block_start", "content_block": block} for block in blocks), *rest)
    )
    assert found.answers == [["So: ", *TEXTS]]
    assert (found.dropped["reasoning"], found.dropped["tools"]) == (1 + 1, 2 + 1)


def test_events_of_a_proxy_s_own_before_an_answer_hide_it_not() -> None:
    found = read_transcript(sse({"sources": []}, {"type": "keepalive", "sequence_number": 0}, *responses()))
    assert (found.format, found.answers, found.left_out) == ("OpenAI responses", [TEXTS], [])


def test_an_id_that_changes_on_the_way_divides_no_response() -> None:
    chunks = responses("r1")
    chunks[-1]["response"]["id"] = "r2"
    assert read_transcript(sse(*chunks)).answers == [TEXTS]


def test_an_answer_behind_an_error_is_another() -> None:
    found = read_transcript(lines(*ollama()[:2], {"error": "out of memory"}, *ollama()))
    assert (found.answers, len(found.left_out)) == ([TEXTS], 1)


@pytest.mark.parametrize("whole", [lines(*ollama()), sse(*chat()), sse(*anthropic())], ids=lambda data: str(data[:20]))
def test_an_error_behind_an_answer_is_the_next_one_s(whole: bytes) -> None:
    """A request that failed at once, behind one that did not."""
    error = b'{"error": {"message": "out of memory"}}'
    found = read_transcript(whole + (b"data: %b\n\n" % error if b"data: " in whole[:40] else error))
    assert found.answers == [TEXTS]
    assert found.left_out == ["answer 2: it ended with an error (out of memory)"]


def test_a_half_answer_takes_no_other_with_it() -> None:
    found = read_transcript(sse(*chat("c1")[:-2], *chat("c2")))
    assert (found.answers, len(found.left_out)) == ([TEXTS], 1)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "an empty file"),
        (b"\n\n", "an empty file"),
        (b"\x1f\x8b\x08", "packed with gzip"),
        (b"PK\0\0", "no text"),
        (b"<!doctype html>", "a page of HTML"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "a response with its head"),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\n", "a request trace"),
        (b"Timestamp,Model,Request tokens\n", "a request trace"),
        (b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n', "Mooncake"),
        (b'{"deltas": ["a"]}\n', "a recording already"),
        (b'{"model": "m", "messages": []}', "a request, and no answer"),
        (b'{"log": {"entries": []}}', "HAR"),
        (b'{"object": "chat.completion", "choices": []}', "was not streamed"),
        (b'{"type": "message", "content": []}', "was not streamed"),
        (b'{"foo": 1, "bar": 2}', "JSON objects with foo, bar"),
        (b"{}", "nothing in them"),
        (b"hello there\n", "event 1 is not JSON"),
        (b"[1, 2]", "no JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'data: {"choices": [\n\n', "event 1 is not JSON"),
        (b"data: " + b"x" * (5 << 20), "more than"),
        (b'{"choices": [], "x": "\xff"}', "not UTF-8 (byte 22)"),
        (sse(*chat()).replace(b"usage", b"us\xffge"), "its text is not exact"),
        (json.dumps(chat()[0]).encode("utf-16"), "UTF-16, as PowerShell writes it"),
        (b'f:{"messageId":"m"}\n0:"Hello"\n', "the AI SDK's version 4"),
        (json.dumps({"error": {"message": "no key"}}, indent=2).encode(), "an error that a server sent (no key)"),
        (b'{"error": "bad\\u001b[31m\\nmodel"}\n', "an error that a server sent (bad [31m model)"),
        (b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n', "(overloaded_error)"),
        (json.dumps(gemini()).encode()[:-40], "the array is not JSON"),
        (sse(*chat("c1"), *anthropic()), "event 9 is of another format (Anthropic messages)"),
        (sse(chat("c1")[0], *chat("c2"), *chat("c1")[1:]), "goes on with an answer that another one interrupts"),
    ],
    ids=lambda value: str(value[:30]),
)
def test_what_is_no_transcript_is_named(data: bytes, what: str) -> None:
    with pytest.raises(TranscriptError) as error:
        read_transcript(data)
    assert what in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("case", WHOLE)
def test_events_of_any_shape_end_in_words(case: str) -> None:
    """Every value in every event replaced by what does not belong there: no exception but the documented one."""
    data, _, _ = WHOLE[case]
    for wrong in (b"5", b"null", b"[]", b"{}", b'"x"', b"[null]", b"true"):
        for key in (b"choices", b"delta", b"content", b"parts", b"candidates", b"message", b"type", b"response"):
            spoilt = data.replace(b'"' + key + b'": ', b'"' + key + b'": ' + wrong + b', "was": ')
            with suppress(TranscriptError):
                assert read_transcript(spoilt).format
