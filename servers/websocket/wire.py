"""WebSocket on the wire: a message is a text frame, so the frame is all the framing there is (pure)."""

from __future__ import annotations

from servers import messages
from servers.messages import EndMessage, TokenMessage


def encode_frame(payload: bytes) -> bytes:
    """A message as a server's text frame: in one piece, and unmasked (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65_536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def decode(frame: str | bytes) -> TokenMessage | EndMessage:
    """The message in a frame's payload. Raises ProtocolError for anything else."""
    return messages.decode(frame)
