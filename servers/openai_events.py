"""What OpenAI-compatible endpoints send while they answer: events in, text out (pure).

Chat completions and responses, as OpenAI's API reference has them, and what compatible servers make of them: reasoning
before the text, keep-alive comments, a usage chunk, an error in mid-stream, an end without `[DONE]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from servers.sse.events import Event, EventDecoder

Api = Literal["chat", "responses"]
SENTINEL = "[DONE]"
_MOST_TOKENS = 2**31
# Reasons that others give where an answer is not whole: OpenRouter and Mistral, vLLM and SGLang, DeepSeek.
_GIVEN_UP = ("error", "abort", "insufficient_system_resource")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class EndpointError(Exception):
    """The endpoint sent what is no answer; the message is fit for clients."""


class BrokenOff(EndpointError):
    """The endpoint says that it has given the answer up; `word` is its code or type, or "endpoint"."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        word = word_of_error(error)
        super().__init__(f"it broke off{word}")
        self.word = word.strip(" ()") or "endpoint"


class Piece(NamedTuple):
    """What an event brings: text of the answer, whether that is the last of it, and the tokens by its usage."""

    text: str
    is_last: bool
    tokens: int | None = None


class AnswerReader:
    """One answer's bytes in, its texts out. `is_over` once the endpoint has said that the answer is complete."""

    def __init__(self, api: Api) -> None:
        self.is_over = False
        self._events = EventDecoder()
        self._piece_of = _PIECE_OF[api]

    def feed(self, data: bytes) -> Iterator[str]:
        """The texts that `data` completes. Raises EndpointError; ProtocolError for an event beyond all bounds."""
        for event in self._events.feed(data):
            if self.is_over:
                return  # what stands behind the end is none of the answer, in the same read as in another
            if event.data.strip() == SENTINEL:
                self.is_over = True
                return
            piece = self._piece_of(_message(event))
            if piece.text:
                yield piece.text
            self.is_over = piece.is_last


def piece_of_chat(event: Event) -> Piece:
    """What an event of a chat completion brings. Raises EndpointError."""
    return _chat(_message(event))


def _message(event: Event) -> Mapping[str, Any]:
    try:
        message = msgspec.json.decode(event.data)
    except (msgspec.DecodeError, RecursionError):
        raise EndpointError("an event is not JSON") from None
    if not isinstance(message, dict):
        raise EndpointError("an event is no JSON object")
    if message.get("error") or event.type == "error":
        raise BrokenOff(message)
    return message


def _chat(message: Mapping[str, Any]) -> Piece:
    """Of a `chat.completion.chunk`."""
    if is_bare_error(message):
        raise BrokenOff(message)
    choice = first_choice(message)
    delta = choice.get("delta")
    texts = [text_of(delta.get("content")), text_of(delta.get("refusal"))] if isinstance(delta, dict) else []
    return Piece("".join(texts), is_end(choice), _tokens_by(message.get("usage")))


def is_bare_error(message: Mapping[str, Any]) -> bool:
    """Whether the whole of an event is an error, with no `error` in it: FastChat's, and vLLM's of before."""
    return message.get("object") == "error" or bool(message.get("error_code"))


def first_choice(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The choice 0 of a chunk, wherever it stands there; empty if the chunk is another's."""
    return next((choice for choice in choices_of(message) if not choice.get("index")), {})


def choices_of(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All choices of a chunk."""
    choices = message.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def text_of(content: object) -> str:
    """The text of a delta's content: a string, or Mistral's list of parts, some of which are thoughts."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))


def is_end(choice: Mapping[str, Any]) -> bool:
    """Whether it has a reason to end; some endpoints send an empty one until then. Raises BrokenOff for a bad one."""
    reason = choice.get("finish_reason")
    if reason in _GIVEN_UP:
        raise BrokenOff({"code": reason})
    return isinstance(reason, str) and reason != ""


def _tokens_by(usage: object) -> int | None:
    """The tokens of an answer's text by its usage, without those of the reasoning; None if it says none."""
    if not isinstance(usage, dict):
        return None
    details = usage.get("completion_tokens_details")
    thought = details.get("reasoning_tokens") if isinstance(details, dict) else 0
    numbers = [n if type(n) is int and 0 <= n <= _MOST_TOKENS else 0 for n in (usage.get("completion_tokens"), thought)]
    return max(0, numbers[0] - numbers[1]) or None


def _responses(message: Mapping[str, Any]) -> Piece:
    """The same of an event of the Responses API."""
    kind = message.get("type")
    if kind == "error":
        raise BrokenOff(message)
    if kind in ("response.failed", "response.cancelled"):
        response = message.get("response")
        raise BrokenOff(response if isinstance(response, dict) else {})
    if kind in ("response.output_text.delta", "response.refusal.delta"):
        delta = message.get("delta")
        return Piece(delta if isinstance(delta, str) else "", False)
    # An incomplete response is what chat's "length" is: the whole of what the model was let say.
    return Piece("", kind in ("response.completed", "response.incomplete"))


_PIECE_OF = {"chat": _chat, "responses": _responses}


def word_of_error(message: Mapping[str, Any]) -> str:
    """` (rate_limit_exceeded)`: an error's code or type, if it is a number or one word; nothing else is repeated."""
    error = message.get("error")
    details = error if isinstance(error, dict) else message
    for key in ("code", "error_code", "type"):
        word = details.get(key)
        if isinstance(word, str | int) and _WORD.fullmatch(str(word)):
            return f" ({word})"
    return ""
