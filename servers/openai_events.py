"""What OpenAI-compatible endpoints send while they answer: events in, text out (pure).

Chat completions and responses, as OpenAI's API reference has them, and what compatible servers make of them: reasoning
before the text, keep-alive comments, a usage chunk, an error in mid-stream, an end without `[DONE]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from servers.sse.events import Event, EventDecoder

Api = Literal["chat", "responses"]
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class EndpointError(Exception):
    """The endpoint sent what is no answer; the message is fit for clients."""


class AnswerReader:
    """One answer's bytes in, its texts out. `is_over` once the endpoint has said that the answer is complete."""

    def __init__(self, api: Api) -> None:
        self.is_over = False
        self._events = EventDecoder()
        self._text_of = _TEXT_OF[api]

    def feed(self, data: bytes) -> Iterator[str]:
        """The texts that `data` completes. Raises EndpointError; ProtocolError for an event beyond all bounds."""
        for event in self._events.feed(data):
            if event.data.strip() == "[DONE]":
                self.is_over = True
                return
            text, ends = self._text_of(_message(event))
            if text:
                yield text
            self.is_over = self.is_over or ends


def _message(event: Event) -> Mapping[str, Any]:
    try:
        message = msgspec.json.decode(event.data)
    except (msgspec.DecodeError, RecursionError):
        raise EndpointError("an event is not JSON") from None
    if not isinstance(message, dict):
        raise EndpointError("an event is no JSON object")
    if message.get("error") or event.type == "error":
        raise EndpointError(f"it broke off{word_of_error(message)}")
    return message


def _chat(message: Mapping[str, Any]) -> tuple[str, bool]:
    """Text, and whether it is the last, of a `chat.completion.chunk`."""
    choices = message.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta = choice.get("delta")
    texts = [delta.get(key) for key in ("content", "refusal")] if isinstance(delta, dict) else []
    return "".join(text for text in texts if isinstance(text, str)), isinstance(choice.get("finish_reason"), str)


def _responses(message: Mapping[str, Any]) -> tuple[str, bool]:
    """The same of an event of the Responses API."""
    kind = message.get("type")
    if kind in ("response.failed", "response.cancelled"):
        response = message.get("response")
        raise EndpointError(f"it broke off{word_of_error(response if isinstance(response, dict) else {})}")
    if kind in ("response.output_text.delta", "response.refusal.delta"):
        delta = message.get("delta")
        return (delta if isinstance(delta, str) else ""), False
    # An incomplete response is what chat's "length" is: the whole of what the model was let say.
    return "", kind in ("response.completed", "response.incomplete")


_TEXT_OF = {"chat": _chat, "responses": _responses}


def word_of_error(message: Mapping[str, Any]) -> str:
    """` (rate_limit_exceeded)`: the code or type of an error, if it is one word; nothing else of it is repeated."""
    error = message.get("error")
    details = error if isinstance(error, dict) else message
    for key in ("code", "type"):
        word = details.get(key)
        if isinstance(word, str) and _WORD.fullmatch(word):
            return f" ({word})"
    return ""
