"""WebSocket on the wire: a message is a text frame, so the frame is all the framing there is (pure)."""

from __future__ import annotations

from servers import messages
from servers.messages import EndMessage, TokenMessage


def decode(frame: str | bytes) -> TokenMessage | EndMessage:
    """The message in a frame's payload. Raises ProtocolError for anything else."""
    return messages.decode(frame)
