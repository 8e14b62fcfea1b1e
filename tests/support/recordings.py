"""What the real servers send, byte by byte, and which of those bytes complete what.

The patterns below share nothing with the clients' decoders.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from time import sleep
from urllib.parse import urlsplit

from servers.stream import Schedule

CHAT = "POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# The last byte of an end message, in the bytes of each transport. Within a token's text its quotes are escaped.
END = {
    "sse": re.compile(rb'"sha256": "[0-9a-f]{64}"\}\n\n'),
    "chunked": re.compile(rb'"sha256": "[0-9a-f]{64}"\}\n'),
    "websocket": re.compile(rb'"sha256": "[0-9a-f]{64}"\}'),
    "polling": re.compile(rb'"sha256": "[0-9a-f]{64}"\}'),
    "blocking": re.compile(rb'"sha256": "[0-9a-f]{64}"\}'),
}
# The last byte of a token message. In a page or a whole answer none counts before the body's last byte.
TOKEN = {
    "sse": re.compile(rb'"sent": \d+\}\n\n'),
    "chunked": re.compile(rb'"sent": \d+\}\n'),
    "websocket": re.compile(rb'"sent": \d+\}'),
    "polling": re.compile(rb'"sent": \d+\}'),
    "blocking": re.compile(rb'"sent": \d+\}'),
}


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

    @property
    def complete(self) -> int:
        """The offset behind the end message's last byte."""
        return [match.end() for match in END[self.transport].finditer(b"".join(self.responses))][-1]

    def token_ends(self) -> list[int]:
        """For each token, the offset behind which a client can know it."""
        pattern, whole = TOKEN[self.transport], self.transport in ("polling", "blocking")
        return [
            start + (len(response) if whole else match.end())
            for start, response in zip(self.starts, self.responses, strict=False)
            for match in pattern.finditer(response)
        ]


def record(transport: str, url: str, stream: object) -> Recording:
    """Ask a real server over a raw socket."""
    request = json.dumps({"message": "hello", "seed": 7, "stream": stream, "stream_id": "s"})
    post = CHAT.format(len(request), request).encode()
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as peer:
        if transport == "polling":
            return Recording(transport, tuple(_record_pages(peer, post)))
        responses = []
        if transport == "websocket":
            peer.sendall(UPGRADE)
            responses.append(_read(peer, rb"\r\n\r\n\Z"))
            post = bytes([0x81, 0xFE]) + len(request).to_bytes(2, "big") + bytes(4) + request.encode()
        peer.sendall(post)
        last = rb"\r\n0\r\n\r\n\Z" if transport in ("sse", "chunked") else END[transport].pattern + rb"\Z"
        return Recording(transport, (*responses, _read(peer, last)))


def _record_pages(peer: socket.socket, post: bytes) -> Iterator[bytes]:
    """The answer to the question, a page with the first token, and one with the rest."""
    peer.sendall(post)
    yield _read(peer, rb'"/chat/s"\}\Z')
    first = 0
    while True:
        peer.sendall(b"GET /chat/s?from=%d&wait=5 HTTP/1.1\r\nHost: x\r\n\r\n" % first)
        page = _read(peer, rb'"done": false\}\Z|"[0-9a-f]{64}"\}\Z')
        yield page
        if END["polling"].search(page):
            return
        first += page.count(b'"sent"')
        sleep(0.5)  # the rest falls due and is written


def _read(peer: socket.socket, until: bytes) -> bytes:
    data = b""
    while not re.search(until, data):
        part = peer.recv(65_536)
        assert part, f"the server closed after {data!r}"
        data += part
    return data


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
            self._recordings[transport] = record(transport, self.urls[transport], self.stream)
        return self._recordings[transport]
