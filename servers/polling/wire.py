"""Polling on the wire: 202 with the address to poll, then pages of tokens (pure).

{"stream_id": "s1", "poll": "/chat/s1"}
{"tokens": [{"i": 0, "t": "Hello", "due": …, "sent": …}], "next": 1, "done": false}
{"tokens": [], "next": 1, "done": true, "n": 1, "sha256": "…"}
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from servers.messages import Count, EndMessage, ProtocolError, TokenMessage


class Accepted(msgspec.Struct, frozen=True):
    """The answer to the question: which stream it is, and the path to poll."""

    stream_id: str
    poll: str


class Page(msgspec.Struct, frozen=True):
    """What a poll brings: tokens, the index to ask for next, and, once all were produced, the end message's fields."""

    tokens: list[TokenMessage]
    next: Count
    done: bool
    n: Count | None = None
    sha256: str | None = None

    @property
    def end(self) -> EndMessage | None:
        """The end message, if the answer is complete."""
        if self.done and self.n is not None and self.sha256 is not None:
            return EndMessage(True, self.n, self.sha256)
        return None


_decode_accepted = msgspec.json.Decoder(Accepted).decode
_decode_page = msgspec.json.Decoder(Page).decode


def encode_accepted(stream_id: str) -> bytes:
    """The 202's body."""
    return msgspec.json.encode(Accepted(stream_id, f"/chat/{stream_id}"))


def decode_accepted(body: bytes) -> Accepted:
    """Read the 202's body. Raises ProtocolError."""
    try:
        return _decode_accepted(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not an accepted question: {error}") from None


PAGE_HEAD = b'{"tokens": ['


def encode_page_part(tokens: Sequence[bytes], *, begun: bool) -> bytes:
    """Encoded token messages as they follow `PAGE_HEAD`, or (`begun`) the tokens of an earlier part."""
    return (b", " if begun and tokens else b"") + b", ".join(tokens)


def encode_page_tail(next_index: int, end: bytes | None) -> bytes:
    """What follows the last token; `end` is the encoded end message once all tokens were produced."""
    return b'], "next": %d, %b' % (next_index, b'"done": false}' if end is None else end[1:])


def encode_page(tokens: Sequence[bytes], next_index: int, end: bytes | None) -> bytes:
    """A whole page."""
    return PAGE_HEAD + encode_page_part(tokens, begun=False) + encode_page_tail(next_index, end)


def decode_page(body: bytes) -> Page:
    """Read a page. Raises ProtocolError."""
    try:
        page = _decode_page(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a page of tokens: {error}") from None
    if page.done and page.end is None:
        raise ProtocolError("the last page lacks n or sha256")
    return page
