"""HTTP/1.1 as a client speaks it: requests to bytes, bytes to responses (pure). The parser is llhttp, by httptools.

Interim answers (1xx, RFC 9110 §15.2) are passed over, a body may be compressed, redirects are answers like any other,
and what comes behind a response is nobody's: then the connection is not fit for another request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from clients.core.endpoint import Endpoint
from clients.core.errors import AnswerTruncated, ClientFailure, NotTheFormat
from clients.core.response import Response
from clients.core.session import Session

# A response is looked at in windows of so many bytes, counted from its beginning, so that it does not matter how they
# were split: one without a byte of the body is a head, or framing, or trailers without end.
MAX_BARE_BYTES = 65_536
MAX_INTERIM = 100  # answers before the one that counts
_SWITCHING = 101


@dataclass(frozen=True)
class Request:
    """What to ask for. `path` is below the endpoint's; a body is JSON."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def fields(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The header's fields but for the host; `headers` go with every request."""
        body = {"Content-Type": "application/json", "Content-Length": str(len(self.body))} if self.body else {}
        return {**headers, **self.headers, **body}

    def encode(self, endpoint: Endpoint, headers: Mapping[str, str]) -> bytes:
        """The request's bytes; `headers` go with every request to `endpoint`."""
        fields = {"Host": endpoint.authority, **self.fields(headers)}
        lines = [f"{self.method} {endpoint.target(self.path)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        # All are ASCII but Last-Event-ID, which goes back as it came (WHATWG HTML §9.2.3: UTF-8).
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Http1Response(Response):
    """A response as llhttp reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_fit = True  # whether its connection may be used again
        self.on_body = self._body.append  # what httptools calls for a part of the body, of this response or the next
        self._last_part: int | None = None  # what follows this part is another response's
        self._parser = HttpResponseParser(self)
        self._left_bytes = MAX_BARE_BYTES  # of this window
        self._has_body = False  # in this window
        self._interim = 0
        self._is_switched = False  # to the other protocol

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A second response behind the first is nobody's."""
        if self.is_complete:
            self.is_fit = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head, or a trailer, which says nothing here."""
        if not self.has_head:
            self.add_field(name, value)

    def on_headers_complete(self) -> None:
        """A head is complete; an interim one is forgotten."""
        if self.has_head:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != _SWITCHING:
            self.headers.clear()
            self._interim += 1
            if self._interim > MAX_INTERIM:  # ends the parsing, so that it does not matter how the bytes were split
                self.failure = NotTheFormat("interim answers without end")
                raise self.failure
            return
        self.complete_head(status)

    def on_message_complete(self) -> None:
        """The response is complete (an interim one ends like any other)."""
        if self.has_head and not self.is_complete:
            self.is_complete = True
            self._last_part = len(self._body)
            self.is_fit = self.is_fit and self._parser.should_keep_alive()

    # What its connection tells it.

    def feed(self, data: bytes) -> None:
        """Bytes have come; whatever they are, this returns."""
        self.has_begun = True
        while data and self.failure is None and not self._is_switched:
            part, data = data[: self._left_bytes], data[self._left_bytes :]
            self._parse(part)
            if not self._left_bytes:
                self._end_window()
        if self._is_switched:
            self.surplus += data

    def _end_window(self) -> None:
        if not (self._has_body or self.is_complete):
            self.failure = self.failure or NotTheFormat(f"a head, or framing, of more than {MAX_BARE_BYTES} bytes")
        self._left_bytes, self._has_body = MAX_BARE_BYTES, False

    def _parse(self, data: bytes) -> None:
        """What is left of a window at most."""
        self._left_bytes -= len(data)
        parts = len(self._body)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self.is_complete = self.has_head = self._is_switched = True
            self.surplus = data[upgrade.args[0] :]
        except HttpParserError as error:
            self.is_fit = False
            if not self.is_complete:  # else the response is good, and what follows it is not
                self.failure = self.failure or NotTheFormat(str(error))
        if len(self._body) > parts:
            self._has_body = True

    def let_go(self) -> None:
        """Nothing is fed any more: the parser, which knows the response, must not keep it where nobody collects."""
        del self._parser

    def end(self, failure: ClientFailure | None) -> None:
        """The connection has ended: in an orderly way (None), which can complete the response, or not."""
        self.is_fit = False
        if self.is_complete or self.failure is not None:
            return
        if failure is None and self._lasts_to_the_end():
            self.is_complete = True
        else:
            where = "within" if self.has_head else "before"
            self.failure = failure or AnswerTruncated(f"the connection was closed {where} the response", "fin")

    def _lasts_to_the_end(self) -> bool:
        """RFC 9112 §6.3, rule 8: a body without a length lasts as long as the connection."""
        return self.has_head and not {"content-length", "transfer-encoding"} & self.headers.keys()

    def read(self, data: bytes) -> bytes:
        """See Response."""
        if len(data) < self._left_bytes:  # nearly always
            if data:
                self._parse(data)
        else:
            self.feed(data)
        return self.take() if self.is_complete or self._unpack is not None or len(self._body) != 1 else self._body.pop()

    def take(self) -> bytes:
        """The body's bytes that have come since the last time, unpacked. Raises NotTheFormat."""
        body = self._body
        data = body[0] if len(body) == 1 and self._last_part != 0 else b"".join(body[: self._last_part])
        body.clear()
        if self._last_part is not None:
            self._last_part = 0
        return data if self._unpack is None else self._unpack(data)


class HttpConnection:
    """A connection over which requests go one after the other."""

    def __init__(self) -> None:
        self.failure: ClientFailure | None = None  # between two responses the end of a connection is none
        self.is_fit = True
        self._response: Http1Response | None = None

    def begin(self) -> Http1Response:
        """The response to the request that is about to be sent."""
        self._response = response = Http1Response()
        return response

    def ask(self, session: Session, request: Request, headers: Mapping[str, str]) -> Response:
        """Send a request; its response, which is still to come."""
        response = self.begin()
        closing = {} if session.settings.reuse else {"Connection": "close"}
        session.send(request.encode(session.endpoint, {**headers, **closing}))
        return response

    def finish(self) -> None:
        """Nobody waits for the response any more: what comes from now on makes the connection unfit."""
        response, self._response = self._response, None
        self.is_fit = response is not None and response.is_complete and response.is_fit
        if response is not None:
            response.let_go()

    def receive(self, data: bytes) -> None:
        """Bytes have come."""
        if self._response is not None:
            self._response.feed(data)
        else:
            self.is_fit = False

    def end(self, failure: ClientFailure | None) -> None:
        """The connection has ended."""
        self.is_fit = False
        if self._response is not None:
            self._response.end(failure)

    def data_to_send(self) -> list[bytes]:
        """What the protocol itself has to say: nothing."""
        return []

    def say_goodbye(self) -> bool:
        """HTTP/1.1 has no farewell."""
        return False

    def leave(self) -> None:
        """See clients.core.session.Connection."""
