"""Locust's users without Locust: the same findings as the asyncio clients have, on real sockets."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import pytest
from support.processes import RunningServer

from clients.client import Settings
from clients.exchange import Question
from clients.locusts.asking import GeventClient
from clients.locusts.http import ChunkedClient, PollingClient, SseClient
from clients.locusts.websocket import WebSocketClient
from clients.record import Outcome, StreamRecord
from clients.recovery import Policy
from servers.stream import StreamSpec, build

CLIENTS: dict[str, type[GeventClient]] = {
    "polling": PollingClient,
    "websocket": WebSocketClient,
    "chunked": ChunkedClient,
    "sse": SseClient,
}
STREAM: dict[str, object] = {"profile": "fast", "tokens": 40, "ttft_ms": 20, "gap_ms": 3}
Asking = Callable[..., StreamRecord]


def question(name: str, timeout_s: float = 10.0) -> Question:
    schedule = build(StreamSpec.parse(STREAM), 7)
    return Question(name, 7, STREAM, schedule, time.monotonic_ns(), timeout_s=timeout_s)


@contextmanager
def client_of(transport: str, url: str, **settings: object) -> Iterator[GeventClient]:
    client = CLIENTS[transport](Settings(url, interval_s=0.02, **settings))  # type: ignore[arg-type]
    try:
        yield client
    finally:
        client.hang_up()


@contextmanager
def serving(answer: Callable[[socket.socket], object], connections: int = 1) -> Iterator[str]:
    """A server of one answer for each of some connections; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(connections):
                connection, _ = listening.accept()
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(5)


def saying(data: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(data)

    return answer


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'{"i": 0, "t": "Hello", "due": 1, "sent": 2}\n'


@pytest.mark.parametrize("transport", CLIENTS)
class TestWhole:
    def test_one_message_after_another(self, transport: str, server: Callable[[str], RunningServer]) -> None:
        running = server(transport)
        before = running.get("/stats")
        with client_of(transport, running.url) as client:
            records = [client.ask(question(f"g-{transport}-{k}")) for k in range(3)]
        after = running.get("/stats")
        assert [(r.outcome, r.detail) for r in records] == [(Outcome.OK, "")] * 3
        assert [r.connections for r in records] == [1, 0, 0]
        assert [r.tokens_received for r in records] == [40] * 3
        assert sum(r.requests for r in records) == after["requests"] - before["requests"]
        assert after["tokens_sent"] - before["tokens_sent"] == 120
        assert all(r.received_ns[k] >= r.sent_ns[k] >= r.due_ns[k] for r in records for k in range(40))

    def test_times_and_bytes_are_measured(self, transport: str, server: Callable[[str], RunningServer]) -> None:
        with client_of(transport, server(transport).url) as client:
            record = client.ask(question(f"t-{transport}"))
            assert len(client.response_ms) == record.requests
            assert all(ms >= 0 for ms in client.response_ms)
        assert record.start_ns < record.first_token_ns == record.received_ns[0] <= record.end_ns
        assert record.bytes_in is None or record.bytes_in > 40 * 40

    def test_tokens_are_not_held_back(self, transport: str, server: Callable[[str], RunningServer]) -> None:
        """Blocks of 1,024 bytes would bring a dozen tokens at once; only polls may bring several."""
        with client_of(transport, server(transport).url) as client:
            record = client.ask(question(f"b-{transport}"))
        assert len(set(record.read)) > (5 if transport == "polling" else 30)

    def test_refused(self, transport: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        with client_of(transport, f"http://127.0.0.1:{port}") as client:
            assert client.ask(question("r")).outcome is Outcome.REFUSED

    def test_status(self, transport: str) -> None:
        body = b'{"error": {"code": "busy", "message": "later"}}'
        refusal = b"HTTP/1.1 503 no\r\nContent-Length: %d\r\nRetry-After: 3\r\n\r\n%b" % (len(body), body)
        with serving(saying(refusal)) as url, client_of(transport, url) as client:
            record = client.ask(question("s"))
        assert (record.outcome, record.detail) == (Outcome.HTTP_ERROR, "status 503: busy: later")

    def test_not_http(self, transport: str) -> None:
        with serving(saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")) as url, client_of(transport, url) as client:
            assert client.ask(question("p")).outcome is Outcome.PROTOCOL_ERROR

    def test_closed_before_the_response(self, transport: str) -> None:
        with serving(saying(b"")) as url, client_of(transport, url) as client:
            assert client.ask(question("c")).outcome is Outcome.TRUNCATED

    def test_silence(self, transport: str) -> None:
        with serving(lambda connection: time.sleep(0.4)) as url, client_of(transport, url, silence_s=0.1) as client:
            record = client.ask(question("q"))
        assert (record.outcome, record.detail) == (Outcome.TIMEOUT, "silence: no byte for 0.1 s")

    def test_message_timeout(self, transport: str) -> None:
        with serving(lambda connection: time.sleep(0.4)) as url, client_of(transport, url) as client:
            record = client.ask(question("m", timeout_s=0.1))
        assert record.outcome is Outcome.TIMEOUT
        assert "not complete 0.1 s after" in record.detail


class TestTruncated:
    @pytest.mark.parametrize(
        ("sent", "outcome"),
        [
            (HEAD + chunks(TOKEN), Outcome.TRUNCATED),  # the connection ends within the response
            (HEAD + chunks(TOKEN) + b"0\r\n\r\n", Outcome.TRUNCATED),  # a proper end, but no end message
            (HEAD + chunks(TOKEN[:9]), Outcome.TRUNCATED),  # within a token
            (HEAD + chunks(TOKEN, b"no JSON\n"), Outcome.PROTOCOL_ERROR),
            (HEAD.replace(b"x-ndjson", b"json"), Outcome.PROTOCOL_ERROR),
        ],
    )
    def test_chunked(self, sent: bytes, outcome: Outcome) -> None:
        with serving(saying(sent)) as url, client_of("chunked", url) as client:
            assert client.ask(question("x")).outcome is outcome

    def test_tokens_before_the_fault_count(self) -> None:
        with serving(saying(HEAD + chunks(TOKEN))) as url, client_of("chunked", url) as client:
            record = client.ask(question("x"))
        assert (record.tokens_received, record.tokens_lost) == (1, 39)
        assert record.first_token_ns

    @pytest.mark.parametrize(
        ("frames", "outcome", "detail"),
        [
            ([b"\x81" + bytes([len(TOKEN)]) + TOKEN], Outcome.TRUNCATED, "fin"),
            ([b"\x88\x02\x03\xe9"], Outcome.TRUNCATED, "close 1001"),
            ([b"\x88\x02\x03\xf3"], Outcome.DROPPED, "close 1011"),
            ([b"\x81\x02no"], Outcome.PROTOCOL_ERROR, "format"),
            ([b"\x81\x2b" + b'{"error": {"code": "bad", "message": "no"}}'], Outcome.HTTP_ERROR, "error bad: no"),
        ],
    )
    def test_websocket(self, frames: Sequence[bytes], outcome: Outcome, detail: str) -> None:
        def answer(connection: socket.socket) -> None:
            request = connection.recv(65_536).decode()
            key = next(line for line in request.splitlines() if line.lower().startswith("sec-websocket-key"))
            text = key.partition(":")[2].strip() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(text.encode()).digest())
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            connection.recv(65_536)
            connection.sendall(b"".join(frames))

        with serving(answer) as url, client_of("websocket", url) as client:
            record = client.ask(question("w"))
        assert record.outcome is outcome
        assert record.detail.startswith(detail)


@contextmanager
def cutting(upstream: str, after_bytes: int) -> Iterator[str]:
    """A relay that closes its first connection after so many bytes of the answer, and then lets all pass."""
    host, _, port = upstream.removeprefix("http://").partition(":")
    left = [after_bytes]

    def pump(source: socket.socket, target: socket.socket, *, answers: bool) -> None:
        try:
            while data := source.recv(65_536):
                if answers and left[0] > 0:
                    left[0] -= len(data)
                    if left[0] <= 0:
                        break
                target.sendall(data)
        except OSError:
            pass
        for connection in (source, target):  # the other thread is still reading: only this wakes it and ends the line
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)

        def relay() -> None:
            for _ in range(2):
                connection = stack.enter_context(listening.accept()[0])
                other = stack.enter_context(socket.create_connection((host, int(port))))
                for ends, answers in (((connection, other), False), ((other, connection), True)):
                    threads.append(threading.Thread(target=pump, args=ends, kwargs={"answers": answers}, daemon=True))
                    threads[-1].start()

        threads = [threading.Thread(target=relay, daemon=True)]
        threads[0].start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for thread in threads:
            thread.join(5)


@pytest.mark.parametrize("mode", ["resume", "restart"])
@pytest.mark.parametrize("transport", CLIENTS)
def test_recovery(transport: str, mode: str, server: Callable[[str], RunningServer]) -> None:
    policy = Policy(mode, base_s=0.01)  # type: ignore[arg-type]
    with cutting(server(transport).url, 1500) as url, client_of(transport, url, recovery=policy) as client:
        record = client.ask(question(f"{mode}-{transport}"))
    assert (record.outcome, record.detail) == (Outcome.OK, "")
    assert (record.drops, record.tokens_received, record.tokens_lost) == (1, 40, 0)
    assert record.recovery_ms is not None


def test_a_closed_connection_is_not_used_again(server: Callable[[str], RunningServer]) -> None:
    with client_of("sse", server("sse").url) as client:
        assert isinstance(client, SseClient)
        client.ask(question("k1"))
        connection = client._connection
        assert connection is not None
        connection._socket.shutdown(socket.SHUT_RDWR)
        record = client.ask(question("k2"))
    assert (record.outcome, record.connections) == (Outcome.OK, 1)
