"""What can go wrong with a message, by whose fault it was.

    ClientFailure
    ├── ServerFault
    │   ├── RequestRefused      an answer other than docs/wire-format.md names: a status, an error message
    │   └── NotTheFormat        bytes that are not the transport's format
    ├── NetworkFault
    │   ├── NoConnection        none could be opened
    │   │   └── NoSecureConnection   no TLS, or a certificate that is not trusted
    │   ├── ConnectionBroken    reset, or closed with an error, before the end message
    │   ├── StreamReset         of an HTTP/2 connection, which goes on: this stream alone was reset
    │   ├── ServerLeaves        of an HTTP/2 connection: the server has announced its end (GOAWAY)
    │   └── AnswerTruncated     closed as if all were well, but before the end message
    ├── LimitReached
    │   ├── MessageTimeout      the whole message took too long
    │   └── SilenceTimeout      no byte came for too long: a black hole
    │       └── TokenSilence    bytes came, but no token: what holds the answer back, or heartbeats alone
    └── OwnFault                the harness itself failed

A failure is data: it carries the outcome that its message gets, and `how` the client learnt of it.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from clients.core.record import Outcome
from servers.foreign_text import in_one_line

# Statuses after which asking again makes sense (RFC 9110 §15.5-15.6, RFC 6585; from 520 on Cloudflare's own words for
# a server that it does not reach, or that is silent for too long; 529 is a provider's that is overloaded).
_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
# An error message over a WebSocket or in mid-stream has a word for what HTTP has a status for.
_STATUS_OF_CODE = {
    "busy": 503,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "unknown_stream": 404,
    "source_busy": 429,
    "source_failed": 502,
    "source_timeout": 504,
    "stopping": 503,
}


_HOW_CHARS = 64
_MOST_CHARS = 300


class ClientFailure(Exception):
    """A message, or one attempt at it, has failed.

    `how` is a word or two for tables: `fin`, `rst`, `status 503`, `close 1001`, `silence`. `is_drop` is true when a
    connection that was open, or whoever stands in its way, let the message down; then a client may recover.
    """

    outcome: ClassVar[Outcome]
    is_drop: bool = False
    is_unprocessed: bool = False  # nothing was asked, or the server has promised that it did nothing with the request
    retry_after_s: float | None = None  # the server's wish

    def __init__(self, detail: str, how: str) -> None:
        super().__init__(detail)
        self.how = in_one_line(how, _HOW_CHARS)  # a server's own word may be in it

    def __str__(self) -> str:
        detail = " ".join(str(self.args[0]).split())
        return in_one_line(f"{self.how}: {detail}", _MOST_CHARS) if detail else self.how


class ServerFault(ClientFailure):
    """The server answered, but not as docs/wire-format.md says."""


class RequestRefused(ServerFault):
    """A status other than the wire format's, or an error message over a WebSocket.

    `by_server`: it is the server's own documented error, and not an intermediary's page.
    """

    outcome = Outcome.HTTP_ERROR

    def __init__(
        self,
        detail: str,
        how: str,
        status: int = 0,
        retry_after_s: float | None = None,
        *,
        by_server: bool = False,
    ) -> None:
        super().__init__(detail, how)
        self.status = status
        self.by_server = by_server
        self.retry_after_s = retry_after_s
        self.is_drop = status in _PASSING_STATUSES


class NotTheFormat(ServerFault):
    """Bytes that are not the transport's format, or not HTTP at all."""

    outcome = Outcome.PROTOCOL_ERROR

    def __init__(self, detail: str) -> None:
        super().__init__(detail, "format")


class NetworkFault(ClientFailure):
    """The connection let the message down."""

    is_drop = True


class NoConnection(NetworkFault):
    """No connection could be opened. Not a drop: there was nothing to lose."""

    outcome = Outcome.REFUSED
    is_drop = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail, "refused")


class NoSecureConnection(NoConnection):
    """The server speaks no TLS that we know, or its certificate is not trusted."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.how = "tls"


class ConnectionBroken(NetworkFault):
    """The connection was reset (`rst`) or closed with an error (`close 1011`, TLS's `alert internal error`)."""

    outcome = Outcome.DROPPED


class StreamReset(NetworkFault):
    """One stream of an HTTP/2 connection was reset (`rst_stream internal_error`), RFC 9113 §6.4."""

    outcome = Outcome.DROPPED

    def __init__(self, detail: str, error: str, *, is_unprocessed: bool = False) -> None:
        super().__init__(detail, f"rst_stream {error}")
        self.is_unprocessed = is_unprocessed


class ServerLeaves(NetworkFault):
    """The server announced the end of an HTTP/2 connection, and did not complete the answer (`goaway no_error`).

    RFC 9113 §6.8; of a stream above the last one that it names it has done nothing.
    """

    outcome = Outcome.DROPPED

    def __init__(self, detail: str, error: str, *, is_unprocessed: bool = False) -> None:
        super().__init__(detail, f"goaway {error}")
        self.is_unprocessed = is_unprocessed


class AnswerTruncated(NetworkFault):
    """The connection or the response ended in an orderly way (`fin`, `end`, `close 1000`), but too early."""

    outcome = Outcome.TRUNCATED


class LimitReached(ClientFailure):
    """The client's own patience was over."""

    outcome = Outcome.TIMEOUT


class MessageTimeout(LimitReached):
    """The whole message took longer than `timeout_s` from its intended start."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"not complete {timeout_s:g} s after its intended start", "timeout")


class SilenceTimeout(LimitReached):
    """Nothing was received for `silence_s`, not even a heartbeat."""

    is_drop = True

    def __init__(self, silence_s: float) -> None:
        super().__init__(f"no byte for {silence_s:g} s", "silence")


class TokenSilence(SilenceTimeout):
    """No token was received for `silence_s`, whatever else came."""

    def __init__(self, silence_s: float) -> None:
        super().__init__(silence_s)
        self.args = (f"no token for {silence_s:g} s",)
        self.how = "token silence"


class OwnFault(ClientFailure):
    """A fault of the harness; the message says nothing about the transport."""

    outcome = Outcome.CLIENT_ERROR

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}", "own fault")


def refused(code: str, message: str) -> RequestRefused:
    """The failure for an error message that is no HTTP response: recovered from exactly if HTTP's status would be."""
    return RequestRefused(message, f"error {code}", _STATUS_OF_CODE.get(code, 0), by_server=True)


_RESET = (errno.ECONNRESET, errno.EPIPE)


def broken(error: BaseException) -> ConnectionBroken:
    """The failure for what the operating system says of a connection."""
    number: int = getattr(error, "errno", None) or errno.ECONNRESET
    reset = number in _RESET
    return ConnectionBroken(str(error), "rst" if reset else errno.errorcode.get(number, str(number)).lower())


def not_opened(error: BaseException) -> NoConnection | ConnectionBroken:
    """The failure for what it says of one that was wanted.

    Who is refused is told ECONNREFUSED. A reset is of a connection that was open, if only until somebody looked: it
    must not depend on how soon that was (RFC 9293 §3.10.7).
    """
    return broken(error) if getattr(error, "errno", None) in _RESET else NoConnection(str(error))


def takes_nothing() -> ConnectionAbortedError:
    """What a driver says of a server that has left too many bytes unread (clients.core.session.MAX_UNSENT_BYTES)."""
    return ConnectionAbortedError(errno.ECONNABORTED, "the server takes nothing that it is sent")
