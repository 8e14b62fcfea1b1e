"""How providers stream: which event is text, which is the end, and what else there is (pure).

Each format is told by the shape of its events, as the provider's reference describes them. What is no text is dropped,
and counted under a word for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from servers.openai_events import BrokenOff, choices_of, first_choice, is_bare_error, is_end, text_of

Chunk = Mapping[str, Any]


class EventContent(NamedTuple):
    """What one event says: its text, words for what it has beside it, and whether the answer ends with it."""

    text: str = ""
    dropped: tuple[str, ...] = ()
    ends: bool = False
    error: str = ""


@dataclass(frozen=True)
class Format:
    """`is_mine` knows an event of the format, `answer_id` which answer it is of ("": the same as the one before).

    `ends_once`: text behind an end is another answer's. Gemini may say in each event why it would end.
    """

    name: str
    is_mine: Callable[[Chunk], bool]
    read: Callable[[Chunk], EventContent]
    answer_id: Callable[[Chunk], str] = lambda _: ""
    ends_once: bool = True


def _table(value: object) -> Chunk:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _words(found: Mapping[str, object]) -> tuple[str, ...]:
    """The words whose values hold anything."""
    return tuple(word for word, value in found.items() if value)


def error_of(chunk: Chunk) -> str:
    """What an event says that went wrong, in place of an answer or in its midst; alike in all formats, else empty."""
    error = chunk.get("error")
    if not error and (is_bare_error(chunk) or chunk.get("type") == "error"):
        error = chunk
    if not error or isinstance(error, str):
        return error or ""
    named = (_text(_table(error).get(key)) for key in ("type", "code", "status", "message", "errorText"))
    return next((word for word in named if word not in ("", "error")), "error")


def _beside_text(content: object) -> tuple[str, ...]:
    """Words for what a delta's content has beside its text."""
    if not isinstance(content, list):
        return _words({"content that is no text": not isinstance(content, str | None)})
    kinds = [_table(part).get("type") for part in content]
    others = any(kind not in ("text", "thinking") for kind in kinds)
    return _words({"reasoning": "thinking" in kinds, "content that is no text": others})


def _openai_chat(chunk: Chunk) -> EventContent:
    """Also vLLM, Groq, DeepSeek, llama.cpp's and Ollama's /v1, and the older text completions."""
    choice = first_choice(chunk)
    delta = _table(choice.get("delta"))
    content = delta.get("content")
    dropped = _words(
        {
            "roles": delta.get("role"),
            "reasoning": delta.get("reasoning_content") or delta.get("reasoning"),
            "tools": delta.get("tool_calls") or delta.get("function_call"),
            "usage": chunk.get("usage"),
            "other choices": any(other is not choice for other in choices_of(chunk)),
        }
    )
    try:
        ends = is_end(choice)
    except BrokenOff as error:
        return EventContent(error=f"finish_reason {error.word}")
    said = text_of(content) + text_of(delta.get("refusal"))  # a refusal is what the user reads
    return EventContent(said or _text(choice.get("text")), dropped + _beside_text(content), ends)


def _openai_responses(chunk: Chunk) -> EventContent:
    kind = _text(chunk.get("type"))
    if kind in ("response.output_text.delta", "response.refusal.delta"):
        return EventContent(_text(chunk.get("delta")))
    if kind in ("response.failed", "response.cancelled"):
        return EventContent(error=error_of(_table(chunk.get("response"))) or kind)
    usage = _table(chunk.get("response")).get("usage")
    dropped = _words(
        {
            "reasoning": "reasoning" in kind,
            "tools": "_call" in kind,
            "usage": usage,
            "other events": not usage and not any(word in kind for word in ("reasoning", "_call")),
        }
    )
    return EventContent("", dropped, kind in ("response.completed", "response.incomplete"))


def _anthropic(chunk: Chunk) -> EventContent:
    """A block may begin with text, and what has no deltas (redacted thoughts, a tool's result) is in its beginning."""
    kind, delta = _text(chunk.get("type")), _table(chunk.get("delta") or chunk.get("content_block"))
    what = _text(delta.get("type"))
    dropped = _words(
        {
            "roles": kind == "message_start",
            "reasoning": what in ("thinking_delta", "signature_delta", "thinking", "redacted_thinking"),
            "tools": what == "input_json_delta" or what.endswith(("tool_use", "tool_result")),
            "citations": what == "citations_delta",
            "usage": kind == "message_delta",
            "pings": kind == "ping",
        }
    )
    text = _text(delta.get("text")) if what in ("text", "text_delta") else ""
    return EventContent(text, dropped, kind == "message_stop")


_GEMINI_TOOLS = ("functionCall", "executableCode", "codeExecutionResult")


def _gemini(chunk: Chunk) -> EventContent:
    if blocked := _text(_table(chunk.get("promptFeedback")).get("blockReason")):
        return EventContent(error=f"blocked: {blocked}")
    listed = chunk.get("candidates")
    candidates = [_table(each) for each in listed] if isinstance(listed, list) else []
    candidate = next((each for each in candidates if each.get("index", 0) == 0), {})
    content = _table(candidate.get("content"))
    given = content.get("parts")
    parts = [_table(part) for part in given] if isinstance(given, list) else []
    text = "".join(_text(part.get("text")) for part in parts if not part.get("thought"))
    dropped = _words(
        {
            "roles": content.get("role"),
            "reasoning": any(part.get("thought") for part in parts),
            "tools": any(not part.keys().isdisjoint(_GEMINI_TOOLS) for part in parts),
            "usage": chunk.get("usageMetadata"),
            "other candidates": any(other is not candidate for other in candidates),
        }
    )
    return EventContent(text, dropped, isinstance(candidate.get("finishReason"), str))


def _ollama(chunk: Chunk) -> EventContent:
    message = _table(chunk.get("message"))
    dropped = _words(
        {
            "roles": message.get("role"),
            "reasoning": message.get("thinking") or chunk.get("thinking"),
            "tools": message.get("tool_calls"),
            "usage": "eval_count" in chunk,
        }
    )
    return EventContent(
        _text(message.get("content")) or _text(chunk.get("response")), dropped, chunk.get("done") is True
    )


def _llama_cpp(chunk: Chunk) -> EventContent:
    return EventContent(_text(chunk.get("content")), _words({"usage": "timings" in chunk}), chunk.get("stop") is True)


_AI_SDK = (
    "text-",
    "reasoning-",
    "tool-",
    "source-",
    "data-",
    "start",
    "finish",
    "file",
    "error",
    "abort",
    "message-metadata",
)


def _ai_sdk(chunk: Chunk) -> EventContent:
    kind = _text(chunk.get("type"))
    if kind == "abort":
        return EventContent(error=kind)
    dropped = _words(
        {
            "reasoning": kind.startswith("reasoning"),
            "tools": kind.startswith("tool"),
            "sources, files and data": kind.startswith(("source", "file", "data")),
            "other events": kind.startswith(("text-start", "text-end", "start", "finish", "message-")),
        }
    )
    return EventContent(_text(chunk.get("delta")) if kind == "text-delta" else "", dropped, kind == "finish")


def _kind(chunk: Chunk) -> str:
    return _text(chunk.get("type"))


FORMATS: Sequence[Format] = (
    Format(
        "OpenAI chat (also vLLM and other compatible servers)",
        lambda c: isinstance(c.get("choices"), list) and c.get("object") not in ("chat.completion",),
        _openai_chat,
        lambda c: _text(c.get("id")),
    ),
    Format(
        "OpenAI responses",
        lambda c: _kind(c).startswith("response."),
        _openai_responses,
        # Only the first event's: GitHub Copilot gives each event of an answer another one.
        lambda c: _text(_table(c.get("response")).get("id")) if _kind(c) == "response.created" else "",
    ),
    Format(
        "Anthropic messages",
        lambda c: _kind(c).startswith(("message_", "content_block_")) or _kind(c) == "ping",
        _anthropic,
        lambda c: _text(_table(c.get("message")).get("id")),
    ),
    Format(
        "Gemini",
        lambda c: not c.keys().isdisjoint(("candidates", "usageMetadata", "promptFeedback")),
        _gemini,
        lambda c: _text(c.get("responseId")),
        ends_once=False,
    ),
    Format("Ollama", lambda c: isinstance(c.get("done"), bool), _ollama),
    Format("llama.cpp", lambda c: isinstance(c.get("stop"), bool) and "content" in c, _llama_cpp),
    Format("AI SDK's UI stream", lambda c: _kind(c).startswith(_AI_SDK), _ai_sdk, lambda c: _text(c.get("messageId"))),
)
NAMES = ", ".join(each.name for each in FORMATS)
