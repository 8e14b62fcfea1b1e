"""HTTP/2 as a client speaks it: requests to frames, frames to responses (pure). The protocol is h2's.

h2 is given one frame at a time, for three reasons. What came before a frame that breaks the rules counts, however the
bytes were split; a frame that is too long is refused when its length is known, and not when all of it is there; and a
GOAWAY is read here, because h2 takes nothing more after one, while RFC 9113 §6.8 lets what is under way go on.

Limits: h2 refuses a header list of more than 64 KiB, more than 64 CONTINUATION frames in a row, and every frame that
its state does not allow. A response may bring STREAM_WINDOW_BYTES that nobody has taken yet, a connection
CONNECTION_WINDOW_BYTES; what is taken is handed back. Nothing is kept of interim answers, trailers and pushed streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from clients.core.endpoint import Endpoint
from clients.core.errors import AnswerTruncated, ClientFailure, NotTheFormat, ServerLeaves, StreamReset
from clients.core.http1 import Request
from clients.core.response import Response

STREAM_WINDOW_BYTES = 1 << 20
CONNECTION_WINDOW_BYTES = 8 << 20
MAX_FRAME_BYTES = 16_384  # what RFC 9113 §4.2 has a peer send that was told of nothing else
_FIRST_WINDOW_BYTES = 65_535  # §6.9.2
_UNLIMITED = 1 << 31  # streams, until the server says otherwise (§6.5.2)
_HEAD_BYTES = 9  # of a frame (§4.1)
_GOAWAY = 7


class Http2Response(Response):
    """The response on one stream. `failure` says what is wrong with it, or that it ended too early."""

    def __init__(self, stream_id: int, hand_back: Callable[[int, int], None]) -> None:
        super().__init__()
        self.stream_id = stream_id
        self._hand_back = hand_back
        self._unread_bytes = 0  # of the stream's window

    def add(self, data: bytes, window_bytes: int) -> None:
        """A part of the body; it takes so much of the window."""
        self._body.append(data)
        self._unread_bytes += window_bytes

    def take(self) -> bytes:
        """See Response; what is taken may come again."""
        self.hand_back()
        return super().take()

    def hand_back(self) -> None:
        """Nobody reads what has come, or somebody does now: the server may send as much again."""
        if self._unread_bytes:
            self._hand_back(self._unread_bytes, self.stream_id)
            self._unread_bytes = 0

    def fail(self, failure: ClientFailure) -> None:
        """It will not be completed."""
        if not self.is_complete and self.failure is None:
            self.failure = failure


class Http2Connection:
    """A connection over which many requests go at once. `failure`: it is over, or of no more use."""

    def __init__(self) -> None:
        self.failure: ClientFailure | None = None
        self.leaving: ServerLeaves | None = None  # the server has announced the end: no new request goes
        self._news: dict[Http2Response, None] = {}  # what something has happened to, in order
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=False))
        self._responses: dict[int, Http2Response] = {}  # those that somebody waits for
        self._unsent: dict[int, bytes] = {}  # what has yet to be sent of a request's body
        self.max_streams = _UNLIMITED  # at once
        self._partial = bytearray()  # of a frame

    def begin(self) -> None:
        """The connection is open: the preface, and our settings."""
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES})
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - _FIRST_WINDOW_BYTES)

    # Requests.

    @property
    def is_fit(self) -> bool:
        """Whether another request may go now."""
        return self.failure is None and self.leaving is None and len(self._responses) < self.max_streams

    def ask(self, request: Request, endpoint: Endpoint, headers: Mapping[str, str]) -> Http2Response:
        """Send a request; its response, which is still to come. Only where `is_fit`."""
        stream_id = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, _fields(request, endpoint, headers), end_stream=not request.body)
        response = self._responses[stream_id] = Http2Response(stream_id, self._hand_back)
        if request.body:
            self._unsent[stream_id] = request.body
            self._try(self._send_bodies)
        return response

    def finish(self, response: Http2Response) -> None:
        """Nobody waits for the response any more: where it is not complete, its stream is reset."""
        waited = self._responses.pop(response.stream_id, None)
        unsent = self._unsent.pop(response.stream_id, b"")
        if waited is None or self.failure is not None:
            return
        response.hand_back()
        if response.failure is None and (unsent or not response.is_complete):
            self._try(self._h2.reset_stream, response.stream_id, ErrorCodes.CANCEL)

    def _send_bodies(self) -> None:
        """Send what the server's windows have room for."""
        for stream_id in list(self._unsent):
            while (room := self._room(stream_id)) > 0:
                body = self._unsent[stream_id]
                self._h2.send_data(stream_id, body[:room], end_stream=len(body) <= room)
                if len(body) <= room:
                    del self._unsent[stream_id]
                    break
                self._unsent[stream_id] = body[room:]

    def _room(self, stream_id: int) -> int:
        """How many bytes may go in one frame; below zero where the server has made a window smaller (§6.9.2)."""
        return min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)

    def _hand_back(self, window_bytes: int, stream_id: int) -> None:
        if self.failure is None:
            self._try(self._h2.acknowledge_received_data, window_bytes, stream_id)

    def _try(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """What h2 does, or None where the connection is broken now."""
        try:
            return do(*arguments)
        except (H2Error, ValueError) as error:  # a field that cannot be decoded is a ValueError
            self.end(NotTheFormat(f"HTTP/2: {error}"))
            return None

    # What the connection tells it.

    def receive(self, data: bytes) -> None:
        """Bytes have come; whatever they are, this returns."""
        frames, at = self._partial, 0
        frames += data
        while self.failure is None and len(frames) - at >= _HEAD_BYTES:
            size = int.from_bytes(frames[at : at + 3], "big")
            end = at + _HEAD_BYTES + size
            if size > MAX_FRAME_BYTES:
                self.end(NotTheFormat(f"HTTP/2: a frame of {size} bytes, or no frame at all"))
            elif end > len(frames):
                break
            else:
                self._receive_frame(bytes(frames[at:end]))
                at = end
        del frames[: at if self.failure is None else len(frames)]

    def _receive_frame(self, frame: bytes) -> None:
        payload = frame[_HEAD_BYTES:]
        if frame[3] == _GOAWAY and not any(frame[5:_HEAD_BYTES]) and len(payload) >= 8:
            self._leave(int.from_bytes(payload[:4], "big") & (1 << 31) - 1, int.from_bytes(payload[4:8], "big"))
            return
        for event in self._try(self._h2.receive_data, frame) or ():
            if handler := _HANDLERS.get(event.__class__):
                handler(self, event)

    def _leave(self, last_stream_id: int, code: int) -> None:
        """A GOAWAY: what is above the last stream was not looked at, the rest may still be completed."""
        error, said = _name(code), f"the server has announced the end of the connection ({_name(code)})"
        self.leaving = ServerLeaves(said, error)
        for stream_id, response in self._responses.items():
            if stream_id > last_stream_id:
                response.fail(ServerLeaves(said, error, is_unprocessed=True))
                self._news[response] = None

    def take_news(self) -> Iterable[Http2Response]:
        """The responses that something has happened to since the last time, in order."""
        news, self._news = self._news, {}
        return news

    def end(self, failure: ClientFailure | None) -> None:
        """The connection has ended: in an orderly way (None), or not. What is not complete has failed."""
        if self.failure is not None:
            return
        rude = failure if isinstance(failure, NotTheFormat) else self.leaving or failure
        self.failure = rude or AnswerTruncated("the connection was closed before the response was complete", "fin")
        for response in self._responses.values():
            response.fail(self.failure)
            self._news[response] = None

    def data_to_send(self) -> list[bytes]:
        """Frames on their way."""
        data = self._h2.data_to_send()
        return [data] if data else []

    def say_goodbye(self) -> bool:
        """Send a GOAWAY, which nobody answers."""
        if self.failure is None:
            self._try(self._h2.close_connection)
        return False

    def leave(self) -> None:
        """See clients.core.session.Connection."""

    def let_go(self) -> None:
        """It is over. h2's object refers to itself, and would stay where nobody collects, as in a load process."""
        self.end(None)
        vars(self._h2).clear()

    # What h2 has found.

    def _of(self, event: Any) -> Http2Response | None:
        """The response that the event is about, if anybody waits for it; then there is news of it."""
        response = self._responses.get(event.stream_id)
        if response is not None:
            response.has_begun = True
            self._news[response] = None
        return response

    def _on_head(self, event: events.ResponseReceived) -> None:
        if (response := self._of(event)) is not None:
            status = 0
            for name, value in event.headers:
                if name == b":status":
                    status = int(value) if value.isdigit() and len(value) == 3 else 0
                else:
                    response.add_field(bytes(name), bytes(value))
            response.complete_head(status)

    def _on_data(self, event: events.DataReceived) -> None:
        if (response := self._of(event)) is None:
            self._hand_back(event.flow_controlled_length, event.stream_id)
        else:
            response.add(event.data, event.flow_controlled_length)

    def _on_end(self, event: events.StreamEnded) -> None:
        if (response := self._of(event)) is not None:
            response.is_complete = True

    def _on_reset(self, event: events.StreamReset) -> None:
        self._unsent.pop(event.stream_id, None)
        if (response := self._of(event)) is None:
            return
        error = _name(event.error_code)
        if event.remote_reset:
            is_refused = event.error_code == ErrorCodes.REFUSED_STREAM  # §8.7: it has done nothing
            response.fail(StreamReset("the server has reset the stream", error, is_unprocessed=is_refused))
        else:
            response.fail(NotTheFormat(f"HTTP/2: the stream had to be reset ({error})"))

    def _on_window(self, event: events.WindowUpdated) -> None:
        self._try(self._send_bodies)

    def _on_settings(self, event: events.RemoteSettingsChanged) -> None:
        if (streams := event.changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)) is not None:
            self.max_streams = streams.new_value
        self._try(self._send_bodies)

    def _on_push(self, event: events.PushedStreamReceived) -> None:
        self._try(self._h2.reset_stream, event.pushed_stream_id, ErrorCodes.REFUSED_STREAM)


_HANDLERS: dict[type, Callable[[Http2Connection, Any], object]] = {
    events.InformationalResponseReceived: Http2Connection._of,
    events.ResponseReceived: Http2Connection._on_head,
    events.DataReceived: Http2Connection._on_data,
    events.StreamEnded: Http2Connection._on_end,
    events.StreamReset: Http2Connection._on_reset,
    events.WindowUpdated: Http2Connection._on_window,
    events.RemoteSettingsChanged: Http2Connection._on_settings,
    events.PushedStreamReceived: Http2Connection._on_push,
}


def _name(code: int) -> str:
    """An error code in the RFC's word for it (§7), in lower case."""
    try:
        return ErrorCodes(code).name.lower()
    except ValueError:
        return f"{code:#x}"


def _fields(request: Request, endpoint: Endpoint, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The request's head (§8.3.1): pseudo-header fields first, names in lower case."""
    named = {
        ":method": request.method,
        ":scheme": "https" if endpoint.secure else "http",
        ":authority": endpoint.authority,
        ":path": endpoint.target(request.path),
    }
    named |= {name.lower(): value for name, value in request.fields(headers).items()}
    return [(name.encode(), value.encode()) for name, value in named.items()]
