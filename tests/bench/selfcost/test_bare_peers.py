"""The bare peers speak legal HTTP: an independent parser reads what they write."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import h11
import pytest

from bench.selfcost.bare_peers import HEAD, LAST_CHUNK, chunk, token_chunk
from bench.selfcost.child_process import running
from servers.messages import MAX_COUNT, TokenMessage
from servers.sse.wire import Decoder

REQUEST = h11.Request(method="POST", target="/chat", headers=[("Host", "x"), ("Content-Length", "2")])


def parsed_body(response: bytes, piece_bytes: int) -> bytes:
    """The response's body by h11, fed in pieces; h11 raises for a framing that is not legal."""
    connection = h11.Connection(h11.CLIENT)
    for sent in (REQUEST, h11.Data(b"{}"), h11.EndOfMessage()):
        connection.send(sent)
    body = b""
    events: list[type] = []
    for at in range(0, len(response), piece_bytes):
        connection.receive_data(response[at : at + piece_bytes])
        while (event := connection.next_event()) is not h11.NEED_DATA:
            events.append(type(event))
            if isinstance(event, h11.Data):
                body += event.data
            if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    assert events[0] is h11.Response
    assert events[-1] is h11.EndOfMessage
    assert connection.trailing_data == (b"", False)
    return body


@pytest.mark.parametrize("sent_ns", [0, 1, 999_999_999, 1_234_567_890_123_456, MAX_COUNT])
@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
def test_tokens_of_any_length_are_legal_chunks_and_events_of_the_wire(sent_ns: int, piece_bytes: int) -> None:
    body = parsed_body(HEAD + 3 * token_chunk(sent_ns) + LAST_CHUNK, piece_bytes)
    assert Decoder().feed(body) == 3 * [TokenMessage(100, " token", sent_ns, sent_ns)]


@pytest.mark.parametrize("size", [1, 15, 16, 255, 256, 70_000])
def test_a_chunk_says_how_long_it_is(size: int) -> None:
    assert parsed_body(HEAD + chunk(b"x" * size) + LAST_CHUNK, 1 << 20) == b"x" * size


@pytest.mark.parametrize("kind", ["server", "source"])
def test_what_comes_over_a_socket_is_legal_too(kind: str) -> None:
    with running("bench.selfcost.bare_peers", kind, "2", "50", "0.2") as server:
        url = urlsplit(server.line()["url"])
        connections = [socket.create_connection((url.hostname, url.port), timeout=30) for _ in range(2)]
        begun = []
        for connection in connections:  # head and body apart, as a proxy sends them
            connection.sendall(b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
            begun.append(connection.recv(1))
            connection.sendall(b"{}")
        for first, connection in zip(begun, connections, strict=True):
            tokens = Decoder().feed(parsed_body(first + read_response(connection), 1 << 20))
            assert [token.t for token in tokens if isinstance(token, TokenMessage)] == [" token"] * 10
            connection.close()
        assert server.line()["tokens"] == 20


def read_response(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\r\n" + LAST_CHUNK):
        data = connection.recv(65_536)
        assert data, "closed before its end"
        received += data
    return received


@pytest.mark.parametrize("role", ["client", "decoder"])
def test_the_bare_client_and_the_decoding_one_count_the_same_tokens(role: str) -> None:
    body = '{"message": "hi", "stream": {"profile": "fast", "tokens": 30, "ttft_ms": 20, "gap_ms": 2}}'
    with (
        running("servers", "sse") as server,
        running("bench.selfcost.bare_peers", role, server.line()["url"], "3", body) as client,
    ):
        assert client.line(30)["tokens"] == 90
