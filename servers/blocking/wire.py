"""Blocking on the wire: the whole answer as one JSON document (pure).

{"tokens": [{"i": 0, "t": "Hello", "due": …, "sent": …}], "done": true, "n": 1, "sha256": "…"}
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from servers.messages import Count, EndMessage, ProtocolError, TokenMessage


class WholeAnswer(msgspec.Struct, frozen=True):
    """A complete answer: its tokens and the end message's fields."""

    tokens: list[TokenMessage]
    done: bool
    n: Count
    sha256: str

    @property
    def end(self) -> EndMessage:
        """The end message."""
        return EndMessage(self.done, self.n, self.sha256)


_decode = msgspec.json.Decoder(WholeAnswer).decode


def encode_part(tokens: Sequence[bytes], end: bytes | None, *, begun: bool) -> bytes:
    """Encoded token messages as the document has them: its first part, or (`begun`) a later one.

    `end` is the encoded end message, behind the last token.
    """
    head = b'{"tokens": [' if not begun else b", " if tokens else b""
    return head + b", ".join(tokens) + (b"" if end is None else b"], " + end[1:])


def decode_answer(body: bytes) -> WholeAnswer:
    """Read the document. Raises ProtocolError."""
    try:
        answer = _decode(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not an answer: {error}") from None
    if not answer.done:
        raise ProtocolError("an answer that is not done")
    return answer
