"""A little server for the golden clock: raw sockets, one loop, and a stamp before and after each send.

    python -m bench.calibration.golden_server TRANSPORT GAP_MS

It prints `{"url": …}`, sends every answer at the same pace (a page that is asked for has what the pace has made by
then), and at SIGTERM prints its stamps, per stream: `{"before": {name: [ns of token 0, …]}, "after": …}`. A request's
`stream` says how many `tokens` it wants.
"""

from __future__ import annotations

import heapq
import json
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic_ns

from bench.calibration import golden_formats as formats
from bench.calibration.json_lines import print_line

_LEAD_NS = 20_000_000  # the model's time to its first token
_GOLDEN_RATIO = 0.618034  # spreads the streams evenly over a gap, however many there are
_READ_BYTES = 65_536
_MOST_BYTES = 1 << 20  # of a request
_SEND_S = 5.0
_LOOK_S = 0.2


@dataclass(eq=False)
class Peer:
    """A client's connection."""

    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    speaks_websocket: bool = False


@dataclass(order=True)
class GoldenAnswer:
    """An answer under way; `at_ns` is when its next token falls due."""

    at_ns: int
    name: str = field(compare=False)
    peer: Peer = field(compare=False)
    begun_ns: int = field(compare=False)
    tokens: int = field(compare=False)
    sent: int = field(default=0, compare=False)


class GoldenServer:
    """Serves until it is told to stop."""

    def __init__(self, transport: str, gap_ms: float) -> None:
        self._transport, self._gap_ns = transport, round(gap_ms * 1e6)
        self._format = formats.GOLDEN_FORMATS.get(transport)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._due: list[GoldenAnswer] = []
        self._answers: dict[str, GoldenAnswer] = {}  # of polling, until they are fetched
        self._is_over = False
        self.before: dict[str, list[int]] = {}
        self.after: dict[str, list[int]] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def stop(self, *_: object) -> None:
        """At the next look at the clock."""
        self._is_over = True

    def serve(self) -> None:
        """Accept, read and send, each as it falls due."""
        while not self._is_over:
            left_s = (self._due[0].at_ns - monotonic_ns()) / 1e9 if self._due else _LOOK_S
            for key, _ in self._selector.select(min(max(left_s, 0.0), _LOOK_S)):
                self._read(key.data) if key.data else self._accept()
            while self._due and self._due[0].at_ns <= monotonic_ns():
                self._send_next(heapq.heappop(self._due))

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(_SEND_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, Peer(connection))

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        peer.buffer += data
        if not data or len(peer.buffer) > _MOST_BYTES:
            self._selector.unregister(peer.socket)
            peer.socket.close()
        elif peer.speaks_websocket:
            self._read_frames(peer)
        else:
            self._read_requests(peer)

    def _read_requests(self, peer: Peer) -> None:
        while (end := peer.buffer.find(b"\r\n\r\n")) >= 0:
            lines = bytes(peer.buffer[:end]).split(b"\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
            size = int(fields.get(b"content-length", b"0"))
            if len(peer.buffer) < end + 4 + size:
                return
            body = bytes(peer.buffer[end + 4 : end + 4 + size])
            del peer.buffer[: end + 4 + size]
            if b"sec-websocket-key" in fields:
                peer.speaks_websocket = True
                peer.socket.sendall(formats.switching(fields[b"sec-websocket-key"]))
                return
            self._answer_request(peer, lines[0].split()[1].decode(), body)

    def _answer_request(self, peer: Peer, target: str, body: bytes) -> None:
        if target.startswith("/poll/"):
            name, _, first = target.removeprefix("/poll/").partition("?from=")
            self._send_page(self._answers[name], peer, int(first.partition("&")[0]))
            return
        answer = self._begin(peer, body)
        if self._transport == "polling":
            self._answers[answer.name] = answer
            accepted = {"stream_id": answer.name, "poll": f"/poll/{answer.name}"}
            peer.socket.sendall(formats.whole_response("202 Accepted", json.dumps(accepted).encode()))
            return
        if self._format is not None:
            peer.socket.sendall(self._format.head)
        else:
            answer.at_ns += answer.tokens * self._gap_ns
        heapq.heappush(self._due, answer)

    def _read_frames(self, peer: Peer) -> None:
        """A client's frames are masked, and none of ours needs more than two bytes for its length."""
        buffer = peer.buffer
        while len(buffer) >= 8:
            size, at = buffer[1] & 0x7F, 2
            if size == 126:
                size, at = int.from_bytes(buffer[2:4], "big"), 4
            if len(buffer) < at + 4 + size:
                return
            mask, opcode = buffer[at : at + 4], buffer[0] & 0x0F
            payload = bytes(byte ^ mask[k % 4] for k, byte in enumerate(buffer[at + 4 : at + 4 + size]))
            del buffer[: at + 4 + size]
            if opcode == 8:
                peer.socket.sendall(b"\x88\x02" + payload[:2])
            else:
                heapq.heappush(self._due, self._begin(peer, payload))

    def _begin(self, peer: Peer, request: bytes) -> GoldenAnswer:
        now_ns = monotonic_ns()
        asked = json.loads(request)
        name, tokens = str(asked["stream_id"]), int(asked["stream"]["tokens"])
        phase_ns = round(len(self.before) * _GOLDEN_RATIO % 1 * self._gap_ns)
        self.before[name], self.after[name] = [], []
        begun_ns = now_ns + _LEAD_NS + phase_ns
        return GoldenAnswer(begun_ns, name, peer, begun_ns, tokens)

    def _send_next(self, answer: GoldenAnswer) -> None:
        if self._format is None:
            self._send_page(answer, answer.peer, 0)
            return
        self._send(answer.name, answer.peer, self._format.token(answer.name, answer.sent))
        answer.sent += 1
        if answer.sent == answer.tokens:
            answer.peer.socket.sendall(self._format.end(answer.tokens))
            return
        answer.at_ns += self._gap_ns
        heapq.heappush(self._due, answer)

    def _send_page(self, answer: GoldenAnswer, peer: Peer, first: int) -> None:
        made = min(max((monotonic_ns() - answer.begun_ns) // self._gap_ns + 1, first), answer.tokens)
        data = formats.whole_response("200 OK", formats.tokens_page(first, made, answer.tokens))
        self._send(answer.name, peer, data, made - first)

    def _send(self, name: str, peer: Peer, data: bytes, tokens: int = 1) -> None:
        before_ns = monotonic_ns()
        peer.socket.sendall(data)
        after_ns = monotonic_ns()
        self.before[name] += [before_ns] * tokens
        self.after[name] += [after_ns] * tokens


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM, then print the stamps."""
    transport, gap_ms = arguments
    server = GoldenServer(transport, float(gap_ms))
    signal.signal(signal.SIGTERM, server.stop)
    print_line({"url": server.url})
    server.serve()
    print_line({"before": server.before, "after": server.after})


if __name__ == "__main__":
    main(sys.argv[1:])
