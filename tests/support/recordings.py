"""What the real servers send, byte by byte, and which of those bytes complete what."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from support.transports import message_ends, record

from servers.stream import Schedule


@dataclass(frozen=True)
class Recording:
    """What a real server sent for one question: a response per request (a WebSocket's first is the handshake).

    Offsets count bytes over all responses.
    """

    transport: str
    responses: tuple[bytes, ...]

    @property
    def starts(self) -> list[int]:
        """The offset of each response's first byte, and of the end."""
        return [0, *accumulate(map(len, self.responses))]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.starts[-1]

    @cached_property
    def _message_ends(self) -> tuple[list[int], int]:
        return message_ends(self.transport, self.responses)

    @property
    def complete(self) -> int:
        """The offset behind the end message's last byte."""
        return self._message_ends[1]

    @property
    def token_ends(self) -> list[int]:
        """For each token, the offset behind which a client can know it."""
        return self._message_ends[0]


@dataclass
class Hazards:
    """Real servers that all know one answer.

    stream: the parameters that ask for it; urls: where each transport's server is
    """

    answer: Schedule
    stream: dict[str, object]
    urls: dict[str, str]
    _recordings: dict[str, Recording] = field(default_factory=dict)

    def recording(self, transport: str) -> Recording:
        """The bytes of that server's answer, recorded when first asked for."""
        if transport not in self._recordings:
            body = {"message": "hello", "seed": 7, "stream": self.stream, "stream_id": "s"}
            self._recordings[transport] = Recording(transport, record(transport, self.urls[transport], body))
        return self._recordings[transport]
