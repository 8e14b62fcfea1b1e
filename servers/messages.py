"""The messages that every transport carries, as bytes and back (pure).

A token message is `{"i": 12, "t": " the", "due": ns, "sent": ns}`; the end message is
`{"done": true, "n": 128, "sha256": hex}`; an error is `{"error": {"code": word, "message": text}}`. Text is escaped to
ASCII: then no line splitter anywhere on the way can take U+2028, U+0085 or a split UTF-8 sequence for something else.
A server that is told so (`--raw-text`) sends it as UTF-8, as most providers do, for those who want to see what breaks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import msgspec

MAX_MESSAGE_BYTES = 4 << 20  # what a decoder buffers of one unfinished message; the hazards go up to 1 MiB of text
MAX_TOKENS = 20_000  # of one answer
MAX_ERROR_CHARS = 500
_KEPT_TEXT_CHARS = 64
_KEPT_TEXTS = 50_000

MAX_COUNT = 2**62 - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
"""A number of the wire format: it, and the difference of any two, fits a signed 64-bit column."""


NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What msgspec.json.decode raises for bytes of somebody else's: no JSON, no UTF-8, brackets without end."""


class ProtocolError(ValueError):
    """Bytes that are not the transport's format. `messages` are those that were complete before the fault."""

    messages: Sequence[TokenMessage | EndMessage] = ()


class AnswerFailed(ProtocolError):
    """In place of the end message came an error: the server has given the answer up."""

    def __init__(self, error: ErrorMessage) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


class TokenMessage(msgspec.Struct, frozen=True, gc=False):
    """Token `i`: its text, when the model produced it and when the server sent it (CLOCK_MONOTONIC ns)."""

    i: Count
    t: str
    due: Count
    sent: Count


class EndMessage(msgspec.Struct, frozen=True, gc=False):
    """The answer is complete: it has `n` tokens, and its UTF-8 text hashes to `sha256` (hex)."""

    done: bool
    n: Count
    sha256: str


class ErrorMessage(msgspec.Struct, frozen=True):
    """What the server refused: a word for programs, and a sentence for people."""

    code: str
    message: str


class _ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorMessage


decode_token = msgspec.json.Decoder(TokenMessage).decode
"""Read a token message. Raises ValueError (or RecursionError) for anything else, an end message too."""
_decode_end = msgspec.json.Decoder(EndMessage).decode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def json_text(text: str, *, raw: bool = False) -> bytes:
    """`text` as a JSON string, quotes included: in ASCII, or `raw`, where only what JSON demands is escaped."""
    return json.dumps(text, ensure_ascii=not raw).encode("utf-8")


class JsonTexts(dict[str, bytes]):
    """`texts[text]` is what `json_text` makes of it; short texts, which come again and again, are kept."""

    def __init__(self, *, raw: bool = False) -> None:
        super().__init__()
        self._raw = raw

    def __missing__(self, text: str) -> bytes:
        encoded = json_text(text, raw=self._raw)
        if len(text) <= _KEPT_TEXT_CHARS and len(self) < _KEPT_TEXTS:
            self[text] = encoded
        return encoded


TOKEN_FORMAT = b'{"i": %d, "t": %b, "due": %d, "sent": %d}'
"""A token message as JSON: `i`, what `json_text` made of the text, `due`, `sent`. For where a call costs too much."""


def encode_token(i: int, text_json: bytes, due_ns: int, sent_ns: int) -> bytes:
    """The token message as JSON; `text_json` is what `json_text` made of the token's text."""
    return TOKEN_FORMAT % (i, text_json, due_ns, sent_ns)


def encode_end(n: int, sha256: str) -> bytes:
    """The end message as JSON."""
    return b'{"done": true, "n": %d, "sha256": "%b"}' % (n, sha256.encode("ascii"))


def encode_error(code: str, message: str) -> bytes:
    """The error as JSON: an HTTP error's body, or a WebSocket's last message."""
    if len(message) > MAX_ERROR_CHARS:
        message = message[:MAX_ERROR_CHARS] + "…"
    return json.dumps({"error": {"code": code, "message": message}}).encode("ascii")


def decode(data: bytes | str) -> TokenMessage | EndMessage:
    """Read a token or an end message. Raises ProtocolError for anything else, AnswerFailed for an error."""
    try:
        return decode_token(data)
    except (ValueError, RecursionError) as not_a_token:
        try:
            end = _decode_end(data)
        except (ValueError, RecursionError):
            if (error := decode_error(data)) is not None:
                raise AnswerFailed(error) from None
            raise ProtocolError(f"neither a token nor an end message: {not_a_token}") from None
    if not end.done:
        raise ProtocolError("an end message that is not done")
    return end


def decode_error(data: bytes | str) -> ErrorMessage | None:
    """Read an error message; None if it is not one."""
    try:
        return _decode_error(data).error
    except (ValueError, RecursionError):
        return None
