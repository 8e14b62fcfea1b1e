"""A server's side of TLS on memory: a test says which bytes go in which write, and what is broken."""

from __future__ import annotations

import socket
import ssl

from bench.proxy.certificate import Certificate


def server_context(made: Certificate, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """For a server with this certificate, which speaks that version alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TlsPeer:
    """One connection of a client, by a blocking socket. All raise ConnectionError when the client has gone."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self.connection = connection
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def shake_hands(self, greeting: bytes = b"") -> None:
        """To its end; `greeting` goes in one write with the last flight. Raises ssl.SSLError, and sends the alert."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._exchange()
            except ssl.SSLError:
                self.send(b"")
                raise
        self.send(greeting)

    def send(self, plain: bytes) -> None:
        """In one write with whatever else there is to send."""
        if plain:
            self.tls.write(plain)
        self.connection.sendall(self.outgoing.read())

    def receive(self) -> bytes:
        """The next plain bytes."""
        while True:
            try:
                plain = self.tls.read(65_536)
            except ssl.SSLWantReadError:
                self._exchange()
                continue
            if not plain:
                raise ConnectionError("the client has said goodbye")
            return plain

    def alert(self) -> None:
        """End TLS by an alert, as if a record had come that was changed on its way."""
        self.incoming.write(b"\x17\x03\x03\x00\x40" + b"x" * 64)
        try:
            self.tls.read(1)
        except ssl.SSLError:
            self.send(b"")

    def until_gone(self) -> None:
        """Read what the client says until it closes: who closes before that may send an RST."""
        while self.connection.recv(65_536):
            pass

    def _exchange(self) -> None:
        self.connection.sendall(self.outgoing.read())
        data = self.connection.recv(65_536)
        if not data:
            raise ConnectionError("the client has gone")
        self.incoming.write(data)
