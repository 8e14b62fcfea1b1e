"""Users of both drivers and a server that says in which write its TLS goes, and how it ends."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from h2.settings import SettingCodes
from support.asking import ANSWER, question
from support.drivers import AsyncUser
from support.http2 import Speaker
from support.programs import program
from support.scripted import blocking
from support.tls import certificate
from support.tls_peers import TlsPeer, server_context
from support.transports import pieces

from bench.proxy.certificate import Certificate
from clients.core.http1 import HttpConnection
from clients.core.record import Outcome
from clients.core.session import Script, Session
from clients.core.settings import ClientSettings
from clients.core.tls import TlsLayer, Trust
from servers.process import free_port

MakeClient = Callable[..., AsyncUser]
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_comes_with_the_end_of_the_handshake(
    client: MakeClient, made: Certificate, version: ssl.TLSVersion
) -> None:
    """HTTP/2's SETTINGS, which a server may send at once, and which are to be acknowledged (RFC 9113 §3.4, §6.5.3)."""
    context = server_context(made, version)
    context.set_alpn_protocols(["h2"])
    speaker = Speaker()
    speaker.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 3})

    def serve(connection: socket.socket) -> None:
        peer = TlsPeer(connection, context)
        peer.shake_hands(speaker.h2.data_to_send())
        connection.settimeout(1)
        with suppress(TimeoutError):
            while not (speaker.asked and speaker.h2.local_settings.max_concurrent_streams == 3):
                speaker.hear(peer.receive())
        speaker.head(speaker.asked[0].stream_id, "text/plain", 418)
        speaker.h2.end_stream(speaker.asked[0].stream_id)
        peer.send(speaker.h2.data_to_send())

    async with blocking(serve) as url:
        user = client("sse", url.replace("http", "https"), trust=Trust(str(made.cert)), http=2)
        record = await user.ask(question())
    assert record.detail == "status 418"
    assert speaker.h2.local_settings.max_concurrent_streams == 3  # which is so once the client has said that it knows


def test_the_question_goes_with_the_end_of_the_handshake(made: Certificate) -> None:
    """In one write: a second one would break where the server refuses the handshake's end, and hide its reason."""
    session = Session(ClientSettings("https://127.0.0.1", trust=Trust(str(made.cert))))

    def script() -> Script[None]:
        yield from session.open(HttpConnection())
        session.send(b"the question")

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = server_context(made, ssl.TLSVersion.TLSv1_3).wrap_bio(incoming, outgoing, server_side=True)
    session.begin(script(), 1)
    session.actions.clear()
    session.connected(2, 0, 0)
    (hello,) = session.actions
    session.actions.clear()
    assert isinstance(hello, bytes)
    incoming.write(hello)
    with suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    session.received(outgoing.read(), 3)
    (end_and_question,) = session.actions
    assert isinstance(end_and_question, bytes)
    incoming.write(end_and_question)
    peer.do_handshake()
    assert peer.read(100) == b"the question"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("transport", ["sse", "websocket", "blocking"])
async def test_a_server_that_wants_a_certificate_of_its_clients(
    client: MakeClient, made: Certificate, version: ssl.TLSVersion, transport: str
) -> None:
    """With TLS 1.3 it says so when the client's handshake is over, and the question sent (RFC 8446 §4.4.2.4)."""
    context = server_context(made, version)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(made.cert)

    def serve(connection: socket.socket) -> None:
        peer = TlsPeer(connection, context)
        with pytest.raises(ssl.SSLError):
            peer.shake_hands()
        peer.until_gone()

    async with blocking(serve) as url:
        user = client(transport, url.replace("http", "https"), trust=Trust(str(made.cert)))
        record = await user.ask(question())
    assert (record.outcome, record.drops, record.tokens_wasted) == (Outcome.REFUSED, 0, 0)
    assert re.match(r"tls: no TLS with this server \(.*\); it .*wants a certificate of its clients", record.detail)


@pytest.mark.parametrize("is_begun", [False, True])
async def test_an_alert_in_mid_answer_is_a_drop(client: MakeClient, made: Certificate, is_begun: bool) -> None:
    def serve(connection: socket.socket) -> None:
        peer = TlsPeer(connection, server_context(made))
        peer.shake_hands()
        peer.receive()
        if is_begun:
            peer.send(b"".join(pieces("sse", ANSWER)[:3]))
        peer.alert()
        peer.until_gone()

    async with blocking(serve) as url:
        record = await client("sse", url.replace("http", "https"), trust=Trust(str(made.cert))).ask(question())
    assert (record.outcome, record.noticed_by) == (Outcome.DROPPED, ["alert bad record mac"])
    assert record.detail == "alert bad record mac: the server has ended TLS by an alert (bad record mac)"
    assert record.tokens_received == (2 if is_begun else 0)


def test_what_is_sent_while_the_server_shakes_hands_anew(made: Certificate, tmp_path: Path) -> None:
    """openssl's own server asks for it (TLS 1.2); the question waits until that is over."""
    port = free_port("127.0.0.1")
    words = ["-accept", f"127.0.0.1:{port}", "-cert", str(made.cert), "-key", str(made.key), "-tls1_2"]
    command, pipe = [program("openssl"), "s_server", *words], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            _read_until(server.stdout, b"ACCEPT")
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                layer = TlsLayer(Trust(str(made.cert)).context, "127.0.0.1")
                while not layer.is_open:
                    _exchange(layer, connection)
                server.stdin.write(b"r\n")
                server.stdin.flush()
                _exchange(layer, connection)
                layer.encrypt(b"the question\n")
                while layer._held and layer.failure is None:
                    _exchange(layer, connection)
                connection.sendall(layer.data_to_send())
                assert layer.failure is None
                _read_until(server.stdout, b"the question")
        finally:
            server.kill()


def test_a_server_that_never_ends_the_new_handshake_is_given_up(made: Certificate) -> None:
    layer = TlsLayer(Trust(str(made.cert)).context, "127.0.0.1")  # whose handshake is not over either
    for _ in range(17):
        layer.encrypt(b"x" * 65_536)
    assert "takes nothing" in str(layer.failure)


def _exchange(layer: TlsLayer, connection: socket.socket) -> None:
    connection.sendall(layer.data_to_send())
    layer.receive(connection.recv(65_536))


def _read_until(lines: object, text: bytes) -> None:
    for line in lines:  # type: ignore[attr-defined]
        if text in line:
            return
    raise AssertionError(f"{text!r} was not said")
