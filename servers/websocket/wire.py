"""WebSocket on the wire: a message is a text frame, so the frame is all the framing there is (pure)."""

from __future__ import annotations

from servers import messages
from servers.messages import EndMessage, TokenMessage


def _head(n_bytes: int) -> bytes:
    """What stands in front of a message of so many bytes."""
    if n_bytes < 126:
        return b"\x81%c" % n_bytes
    if n_bytes < 65_536:
        return b"\x81\x7e" + n_bytes.to_bytes(2, "big")
    return b"\x81\x7f" + n_bytes.to_bytes(8, "big")


_HEADS = tuple(map(_head, range(1024)))


def encode_frame(payload: bytes) -> bytes:
    """A message as a server's text frame: in one piece, and unmasked (RFC 6455, 5.2)."""
    size = len(payload)
    return (_HEADS[size] if size < len(_HEADS) else _head(size)) + payload


def decode(frame: str | bytes) -> TokenMessage | EndMessage:
    """The message in a frame's payload. Raises ProtocolError for anything else."""
    return messages.decode(frame)
