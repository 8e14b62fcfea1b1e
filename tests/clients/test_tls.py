"""Users of both drivers behind TLS that a real nginx ends, and what is said of a certificate that is not trusted."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from secrets import token_hex

import pytest
from support.asking import question
from support.drivers import AsyncUser
from support.processes import RunningServer
from support.scripted import Connection, blocking, scripted, switching
from support.tls import certificate, nginx_with_tls

from bench.proxy.certificate import Certificate
from clients.core.record import Outcome
from clients.core.recovery import Policy
from clients.core.tls import TlsLayer, Trust
from servers.stream import StreamSpec, build
from servers.transport import TRANSPORTS

STREAM: dict[str, object] = {"profile": "fast", "tokens": 20, "ttft_ms": 20, "gap_ms": 3}
ANSWER = build(StreamSpec.parse(STREAM), 7)
MakeClient = Callable[..., AsyncUser]
Secured = Callable[[str], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def secured(
    made: Certificate, server: Callable[[str], RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    """`secured("sse")`: that server's https address."""
    with ExitStack() as stack:
        urls: dict[str, str] = {}

        def url(transport: str) -> str:
            if transport not in urls:
                proxy = nginx_with_tls(server(transport).url, made, tmp_path_factory.mktemp(transport))
                urls[transport] = stack.enter_context(proxy)
            return urls[transport]

        yield url


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_transport_through_tls(
    client: MakeClient, transport: str, secured: Secured, made: Certificate
) -> None:
    url = secured(transport).replace("https", "wss" if transport == "websocket" else "https")
    user = client(transport, url, interval_s=0.02, trust=Trust(str(made.cert)))
    records = [await user.ask(question(ANSWER, stream_id=token_hex(8), stream=STREAM)) for _ in range(2)]
    assert [(r.outcome, r.detail, r.tokens_received, r.connections) for r in records] == [
        (Outcome.OK, "", 20, 1),
        (Outcome.OK, "", 20, 0),
    ]
    assert records[0].tls_ms > 0 < records[0].tcp_ms
    assert records[1].tls_ms == records[1].tcp_ms == records[1].dns_ms == 0
    assert (records[0].first_token_ns - records[0].start_ns) / 1e6 > records[0].tls_ms  # set-up is within TTFT


@pytest.mark.parametrize("transport", ["sse", "websocket"])
@pytest.mark.parametrize("mode", ["none", "resume"])
async def test_a_certificate_that_is_not_trusted(
    client: MakeClient, transport: str, mode: str, secured: Secured
) -> None:
    policy = Policy(mode, base_s=0.001, attempts=2)  # type: ignore[arg-type]
    record = await client(transport, secured(transport), recovery=policy).ask(question(ANSWER))
    assert (record.outcome, record.drops, record.tokens_wasted) == (Outcome.REFUSED, 0, 0)
    assert record.detail == (
        "tls: the server's certificate is not trusted (self-signed certificate); see --cafile and --insecure"
    )


async def test_a_certificate_of_somebody_else(
    client: MakeClient, server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    other = certificate(tmp_path, "DNS:elsewhere.example")
    with nginx_with_tls(server("sse").url, other, tmp_path) as url:
        mismatch = await client("sse", url, trust=Trust(str(other.cert))).ask(question(ANSWER))
        trusting = await client("sse", url, trust=Trust(insecure=True)).ask(
            question(ANSWER, stream_id=token_hex(8), stream=STREAM)
        )
    assert "IP address mismatch" in mismatch.detail
    assert mismatch.detail.endswith("'); takes a URL with a name that the certificate has, or --insecure")
    assert trusting.outcome is Outcome.OK


async def test_no_tls_at_all(client: MakeClient, server: Callable[[str], RunningServer]) -> None:
    record = await client("sse", server("sse").url.replace("http", "https")).ask(question(ANSWER))
    assert (record.outcome, record.detail.split(":")[0]) == (Outcome.REFUSED, "tls")
    assert record.detail.endswith("is it an http:// address?")


@pytest.mark.parametrize("said", [b"", b"\x15\x03\x03\x00\x02\x02\x28", b"x" * 99])
async def test_a_handshake_that_fails(client: MakeClient, said: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.send(said)

    async with scripted(script) as server:
        record = await client("sse", server.url.replace("http", "https")).ask(question(ANSWER))
    assert (record.outcome, record.detail.split(":")[0]) == (Outcome.REFUSED, "tls"), record.detail


@pytest.mark.parametrize("http", [1, 2])
@pytest.mark.parametrize(("limit", "silence_s", "timeout_s"), [("silence", 0.1, 5.0), ("timeout", None, 0.1)])
async def test_silence_in_the_handshake(
    client: MakeClient, http: int, limit: str, silence_s: float | None, timeout_s: float
) -> None:
    """No model is at work on what was never asked."""
    async with scripted(Connection.hold) as server:
        user = client("sse", server.url.replace("http", "https"), silence_s=silence_s, http=http)
        record = await user.ask(question(ANSWER, timeout_s=timeout_s))
    assert (record.outcome, record.detail.split(":")[0]) == (Outcome.TIMEOUT, limit)
    assert (record.connections, record.tokens_wasted) == (1, 0)


@pytest.mark.parametrize("file", ["missing.pem", "empty.pem", "pipe.pem"])
def test_a_cafile_that_is_none_is_said(file: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    os.mkfifo(tmp_path / "pipe.pem")
    trust = Trust(str(tmp_path / file))
    with pytest.raises(ValueError, match=f"--cafile: .*{file}: "):
        trust.context  # noqa: B018


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_who_hangs_up_says_so(client: MakeClient, made: Certificate, transport: str) -> None:
    """By close_notify: else a server behind TLS takes it for an attack, or a fault of the network."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    ends: list[str] = []

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as secured:
            asked = secured.recv(65_536)
            secured.sendall(switching(asked) if transport == "websocket" else b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while secured.recv(65_536):
                    pass
                ends.append("close_notify")
            except OSError as error:
                ends.append(str(error))

    async with blocking(serve) as url:
        user = client(transport, url.replace("http", "https"), silence_s=0.3, trust=Trust(str(made.cert)))
        await user.ask(question(ANSWER))
    assert ends == ["close_notify"]


def test_records_behind_the_end_of_tls_are_not_kept(made: Certificate) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    layer = TlsLayer(Trust(str(made.cert)).context, "127.0.0.1")
    for _ in range(2):
        to_server.write(layer.data_to_send())
        with suppress(ssl.SSLWantReadError):
            server.do_handshake()
        layer.receive(to_client.read())
    with suppress(ssl.SSLWantReadError):
        server.unwrap()
    assert (layer.is_open, layer.receive(to_client.read()), layer.is_over) == (True, b"", True)
    for _ in range(3):
        assert layer.receive(b"x" * 10_000) == b""
    assert layer._incoming.pending == 0
