"""TLS between a connection's bytes and its protocol's (no I/O: OpenSSL works on memory here)."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clients.core.errors import (
    ClientFailure,
    ConnectionBroken,
    NoSecureConnection,
    NotTheFormat,
    broken,
    takes_nothing,
)
from clients.core.tls_words import alert_in, failed_handshake, refuses_us
from servers.given_file import check_is_file
from servers.user_errors import InputError, reason

HTTP_1, HTTP_2 = "http/1.1", "h2"  # as ALPN calls them (RFC 7301 §6, RFC 9113 §3.1)
_READ_BYTES = 65_536
_MOST_HELD_BYTES = 1 << 20  # of what is to be sent, while a server shakes hands anew


@dataclass(frozen=True)
class Trust:
    """Whose certificates are good: the system's authorities', those in `cafile`, or anybody's (`insecure`)."""

    cafile: str | None = None
    insecure: bool = False

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The same for OpenSSL, read once, for HTTP/1.1. Raises InputError where `cafile` is none."""
        return self._context(HTTP_1)

    @cached_property
    def _http2_context(self) -> ssl.SSLContext:
        return self._context(HTTP_2)

    def context_for(self, alpn: str) -> ssl.SSLContext:
        """The same for a version of HTTP."""
        return self._http2_context if alpn == HTTP_2 else self.context

    def _context(self, alpn: str) -> ssl.SSLContext:
        try:
            if self.cafile is not None:
                check_is_file(Path(self.cafile), f"--cafile: {self.cafile}")
            context = ssl.create_default_context(cafile=self.cafile)
        except ssl.SSLError:  # what it says of that is for programmers: [X509] PEM lib
            raise InputError(f"--cafile: {self.cafile}: takes a file of certificates in PEM form") from None
        except OSError as error:
            raise InputError(f"--cafile: {self.cafile}: {reason(error)}") from None
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([alpn])
        return context


class TlsLayer:
    """One connection's TLS: plain bytes on one side, records on the other."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.is_open = False
        self.is_over = False  # the server has said goodbye: nothing comes any more
        self.failure: ClientFailure | None = None
        self._held: list[bytes] = []  # to be encrypted as soon as that can be done
        self._has_spoken = False  # whether any plain byte has come
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._shake_hands()

    @property
    def alpn(self) -> str | None:
        """What the server has chosen to speak, if it says."""
        return self._tls.selected_alpn_protocol()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
            self.is_open = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.failure = NoSecureConnection(failed_handshake(error))

    def receive(self, data: bytes) -> bytes:
        """Records have come: the plain bytes in them. What comes with the handshake's end is kept for the next time."""
        if self.failure is not None or self.is_over:
            return b""
        self._incoming.write(data)
        if not self.is_open:
            self._shake_hands()
            return b""
        plain = self._plain()
        if self._held and self.failure is None:
            self._write()
        return plain

    def _plain(self) -> bytes:
        parts: list[bytes] = []
        try:
            while part := self._tls.read(_READ_BYTES):
                parts.append(part)
                self._has_spoken = True
            self.is_over = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:  # what came before it counts; the connection is of no more use
            self.failure = self._ended_by(error)
        return b"".join(parts)

    def _ended_by(self, error: ssl.SSLError) -> ClientFailure:
        alert = alert_in(error)
        if refuses_us(alert) and not self._has_spoken:
            return NoSecureConnection(failed_handshake(error))
        if alert:
            return ConnectionBroken(f"the server has ended TLS by an alert ({alert})", f"alert {alert}")
        return NotTheFormat(f"TLS: {error.reason or error}")

    def encrypt(self, data: bytes) -> None:
        """Plain bytes to send; the records are in `data_to_send`, where the server lets them go now."""
        self._held.append(data)
        if sum(map(len, self._held)) > _MOST_HELD_BYTES:
            self.failure = broken(takes_nothing())
        elif self.failure is None:
            self._write()

    def _write(self) -> None:
        try:
            while self._held:
                self._tls.write(self._held[0])
                del self._held[0]
        except ssl.SSLWantReadError:
            pass  # the server shakes hands anew (TLS 1.2 and before, RFC 5246 §7.4.1.1): they go when that is over
        except ssl.SSLError as error:
            self.failure = ConnectionBroken(f"TLS: {error.reason or error}", "tls")

    def say_goodbye(self) -> None:
        """Nothing more is sent: the other side can tell that from a cut (close_notify, RFC 8446 §6.1)."""
        if self.is_open and self.failure is None:
            with suppress(ssl.SSLError):  # it wants to read the answer, for which nobody waits
                self._tls.unwrap()

    def data_to_send(self) -> bytes:
        """Records on their way."""
        return self._outgoing.read()
