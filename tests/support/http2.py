"""A server that says in HTTP/2 exactly what a test wants: by h2's other side, or byte by byte."""

from __future__ import annotations

from dataclasses import dataclass, field

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from support.scripted import Connection

PREFACE = b"\0\0\0\4\0\0\0\0\0"  # a server's: SETTINGS that say nothing


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream_id: int = 0, size: int | None = None) -> bytes:
    """A frame (RFC 9113 §4.1); `size`: what it says of its length, if not the truth."""
    length = len(payload) if size is None else size
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8


def goaway(last_stream_id: int, code: int = 0) -> bytes:
    """The server announces the connection's end."""
    return frame(GOAWAY, last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big"))


@dataclass
class Asked:
    """A request that has come, whole."""

    stream_id: int
    head: dict[str, str]
    body: bytes = b""


@dataclass
class Speaker:
    """The server's side of a connection (pure): what has been asked, what to say."""

    h2: H2Connection = field(default_factory=lambda: H2Connection(H2Configuration(False, header_encoding="utf-8")))
    asked: list[Asked] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    has_said_goodbye: bool = False
    _open: dict[int, Asked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.h2.initiate_connection()

    def hear(self, data: bytes) -> None:
        """What the client says."""
        for event in self.h2.receive_data(data):
            if isinstance(event, events.RequestReceived):
                head = {str(name): str(value) for name, value in event.headers}
                self._open[event.stream_id] = Asked(event.stream_id, head)
            elif isinstance(event, events.DataReceived):
                self._open[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, events.StreamEnded):
                self.asked.append(self._open.pop(event.stream_id))
            elif isinstance(event, events.StreamReset):
                self.resets.append(event.stream_id)
            elif isinstance(event, events.ConnectionTerminated):
                self.has_said_goodbye = True

    def head(self, stream_id: int, content_type: str, status: int = 200, **more: str) -> None:
        """A response's head; `more` fields, with _ for -."""
        fields = {name.replace("_", "-"): value for name, value in more.items()}
        self.h2.send_headers(stream_id, [(":status", str(status)), ("content-type", content_type), *fields.items()])


class Http2Peer(Speaker):
    """The same over a connection of a scripted server."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    async def next(self) -> Asked:
        """The next request that is whole. Raises ConnectionError when the client has gone."""
        while not self.asked:
            await self.listen()
        return self.asked.pop(0)

    async def listen(self) -> None:
        """Answer what HTTP/2 itself has to, and hear what comes. Raises ConnectionError when the client has gone."""
        await self.flush()
        data = await self._connection.receive()
        if not data:
            raise ConnectionError("the client has gone")
        self.hear(data)

    async def flush(self) -> None:
        """Send what there is to say."""
        await self._connection.send(self.h2.data_to_send())
