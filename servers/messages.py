"""The two messages that every transport carries, as bytes and back (pure).

A token message is `{"i": 12, "t": " the", "due": ns, "sent": ns}`; the end message is
`{"done": true, "n": 128, "sha256": hex}`. Text is escaped to ASCII: then no line splitter anywhere on the way can take
U+2028, U+0085 or a split UTF-8 sequence for something else.
"""

from __future__ import annotations

import json

import msgspec


class TokenMessage(msgspec.Struct, frozen=True, gc=False):
    """Token `i`: its text, when the model produced it and when the server sent it (CLOCK_MONOTONIC ns)."""

    i: int
    t: str
    due: int
    sent: int


class EndMessage(msgspec.Struct, frozen=True, gc=False):
    """The answer is complete: it has `n` tokens, and its UTF-8 text hashes to `sha256` (hex)."""

    done: bool
    n: int
    sha256: str


class _Message(msgspec.Struct, gc=False):
    """Either message, so that one decoding pass tells them apart: the fields of the other stay at None."""

    i: int | None = None
    t: str | None = None
    due: int = 0
    sent: int = 0
    done: bool = False
    n: int | None = None
    sha256: str | None = None


_decoder = msgspec.json.Decoder(_Message)


def json_text(text: str) -> bytes:
    """`text` as an ASCII JSON string, quotes included."""
    return json.dumps(text).encode("ascii")


def encode_token(i: int, text_json: bytes, due_ns: int, sent_ns: int) -> bytes:
    """The token message as JSON; `text_json` is what `json_text` made of the token's text."""
    return b'{"i": %d, "t": %b, "due": %d, "sent": %d}' % (i, text_json, due_ns, sent_ns)


def encode_end(n: int, sha256: str) -> bytes:
    """The end message as JSON."""
    return b'{"done": true, "n": %d, "sha256": "%b"}' % (n, sha256.encode("ascii"))


def decode(data: bytes | str) -> TokenMessage | EndMessage:
    """Read either message. Raises ValueError for anything that is neither."""
    message = _decoder.decode(data)
    if message.i is not None and message.t is not None:
        return TokenMessage(message.i, message.t, message.due, message.sent)
    if message.done and message.n is not None and message.sha256 is not None:
        return EndMessage(True, message.n, message.sha256)
    raise ValueError("neither a token message nor an end message")
