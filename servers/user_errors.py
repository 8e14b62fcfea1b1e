"""Errors for people: one clear line each, which a command prints before it ends with the error's exit code (pure).

    UserError                  1: it cannot be done here, as things are
    ├── RedisUnavailable       no Redis, and none can be started
    ├── RealProxyError         nginx or HAProxy is not installed, or does not start
    ├── CertificateError       no certificate for it could be made
    ├── NoBrowser              Playwright or Chromium is not installed, or has died
    ├── OutputLost             standard output takes nothing any more
    ├── ChildError             a program of the self-cost benchmark ended or fell silent
    ├── GoldenError            the golden clock could not be read
    ├── WaterfallError         the stamps of a transport's tokens do not fit together
    └── InputError             2: what was given is wrong: arguments, a plan, a file (a ValueError too)
        ├── StreamError        a stream's parameters, or its recording
        ├── TraceError         a request trace
        ├── TranscriptError    a file that is no transcript of an answer
        ├── OptionError        an option or a form's field of Locust
        ├── ColumnsError       a table of another version
        ├── AddressError       a server's URL
        │   └── NoAddressError  no URL at all
        ├── LogError           the proxy's log cannot be written
        ├── StackError         no such way to write a server, or not installed
        ├── ProfileError       an intermediary's profile
        ├── PlanError          a plan, or an argument that changes it
        ├── StoreError         a run's folder
        │   └── TableClosed     a table that cannot be read as things are, and may be whole
        └── ComparisonError    two runs that cannot be compared

Errors of bytes on the wire (ProtocolError, MalformedError), of requests (RequestError), of what answers them
(SourceError, EndpointError) and of a client's message (clients.core.errors) are no part of it: programs judge those.
"""

from __future__ import annotations

import os


class UserError(Exception):
    """What was asked for cannot be done; the message is one line for the person who asked."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """The line alone in a notebook too (IPython, "Custom exception tracebacks")."""
        return [f"{type(self).__name__}: {self}"]


class OutputLost(UserError):
    """Standard output takes nothing any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {reason(error)}")
        self.reader_left = isinstance(error, BrokenPipeError)


class InputError(UserError, ValueError):
    """What was given is wrong; the message names the key and what it takes."""

    exit_code = 2


class StreamError(InputError):
    """A stream's parameters or its recording are wrong; the message names the key and says what it takes."""


def reason(error: BaseException) -> str:
    """Why something failed, in the system's words: asyncio's begin with numbers and repeat the address."""
    import ssl  # late, as most commands do without

    cause = getattr(error, "os_error", error)  # aiohttp's errors have the system's inside
    if isinstance(error.__cause__, ssl.SSLError):  # or are made of it, with its number, which is OpenSSL's
        cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        reason_given = getattr(cause, "reason", None)  # as WRONG_VERSION_NUMBER
        return reason_given.replace("_", " ").lower() if reason_given else str(cause)
    if isinstance(cause, ConnectionError) and cause.errno is None:  # asyncio's for an end that nobody has announced
        return "the connection was closed"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
