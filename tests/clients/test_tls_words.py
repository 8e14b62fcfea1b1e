"""What is said of a handshake that fails, by OpenSSL on both sides: each with what helps."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.programs import program
from support.tls import certificate
from support.tls_peers import server_context

from bench.proxy.certificate import Certificate
from clients.core.tls import TlsLayer, Trust
from servers.process import free_port

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
HOST = "localhost"
Change = Callable[[ssl.SSLContext], object]


def shaken(server: ssl.SSLContext, trust: Trust) -> str:
    """What the client says when each side has had its say; nothing where all is well."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = server.wrap_bio(incoming, outgoing, server_side=True)
    layer = TlsLayer(trust.context, HOST)
    for _ in range(4):
        incoming.write(layer.data_to_send())
        with suppress(ssl.SSLError):
            peer.do_handshake()
        layer.receive(outgoing.read())
    assert layer.is_open == (layer.failure is None)
    return str(layer.failure or "")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


def old(context: ssl.SSLContext) -> None:
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1


def strange(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")  # which no client takes that is careful


def nameless(context: ssl.SSLContext) -> None:
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: None, ""),
        (old, "tls: no TLS with this server (protocol version); it takes a server that speaks TLS 1.2 or 1.3"),
        (strange, "tls: no TLS with this server (handshake failure); it shares no cipher with us, or "),
        (nameless, "tls: no TLS with this server (unrecognized name); it knows no such name: takes a URL with one"),
    ],
)
def test_what_a_server_does_not_speak(made: Certificate, change: Change, told: str) -> None:
    context = server_context(made)
    change(context)
    said = shaken(context, Trust(str(made.cert)))
    assert said.startswith(told) if told else said == ""


def test_a_server_that_speaks_another_version_of_http_alone(made: Certificate) -> None:
    """By an alert whose name Python 3.11 does not know."""
    port = free_port("127.0.0.1")
    words = ["-accept", f"127.0.0.1:{port}", "-cert", str(made.cert), "-key", str(made.key), "-alpn", "h2"]
    pipe = subprocess.PIPE
    with subprocess.Popen([program("openssl"), "s_server", *words], stdin=pipe, stdout=pipe) as server:
        assert server.stdout is not None
        try:
            assert any(b"ACCEPT" in line for line in server.stdout)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                layer = TlsLayer(Trust(str(made.cert)).context, HOST)
                connection.sendall(layer.data_to_send())
                while layer.failure is None and (data := connection.recv(65_536)):
                    layer.receive(data)
        finally:
            server.kill()
    assert str(layer.failure) == (
        "tls: no TLS with this server (no application protocol); "
        "it does not speak the version of HTTP that is asked for"
    )


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("DNS:localhost", ""),
        ("DNS:*.localhost", "tls: the server's certificate is not trusted (Hostname mismatch, "),
        ("IP:127.0.0.1", "tls: the server's certificate is not trusted (Hostname mismatch, "),
    ],
)
def test_a_certificate_for_other_names(tmp_path: Path, names: str, told: str) -> None:
    other = certificate(tmp_path, names)
    said = shaken(server_context(other), Trust(str(other.cert)))
    assert said.startswith(told) if told else said == ""
    assert said.endswith(
        "'localhost'); takes a URL with a name that the certificate has, or --insecure" if told else ""
    )
    assert shaken(server_context(other), Trust(insecure=True)) == ""


def test_a_certificate_whose_time_is_over(tmp_path: Path) -> None:
    key, wish, cert = (str(tmp_path / name) for name in ("key.pem", "wish.pem", "cert.pem"))
    for words in (
        ("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", wish, "-subj", "/CN=localhost"),
        ("x509", "-req", "-in", wish, "-signkey", key, "-days", "-1", "-out", cert),
    ):
        subprocess.run([program("openssl"), *words], check=True, capture_output=True, timeout=60)
    said = shaken(server_context(Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")), Trust(cert))
    assert said == (
        "tls: the server's certificate is not trusted (certificate has expired); "
        "it takes a certificate that is valid now (and a clock that is right), or --insecure"
    )
