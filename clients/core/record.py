"""What became of one message, as plain records (pure)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import StrEnum

UNKNOWN_NS = -1
"""Of a time that nobody tells: when an endpoint's model made a token, when a source meant to begin."""


class Outcome(StrEnum):
    """How a message ended. Anything but `OK` is a failure and counts as infinitely late.

    `OK`: every index once, in order, the text's hash right, and the end message seen.
    """

    OK = "ok"
    LOST = "lost"  # the end message came, but indices are missing
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    ALTERED = "altered"  # the text's hash differs
    TRUNCATED = "truncated"  # the connection ended without an end message, whatever the status code was
    DROPPED = "dropped"  # the connection was reset or broke
    REFUSED = "refused"  # no connection could be opened
    HTTP_ERROR = "http_error"  # a status other than the one in docs/wire-format.md
    PROTOCOL_ERROR = "protocol_error"  # bytes that are not the transport's format
    TIMEOUT = "timeout"  # the client's own limit for a whole message, or for silence
    CLIENT_ERROR = "client_error"  # our own fault


@dataclass
class StreamRecord:
    """One message: a row of `streams.parquet`, and the rows of `tokens.parquet` as parallel arrays.

    Times are CLOCK_MONOTONIC nanoseconds; 0 stands for "never". `bytes_in` and `bytes_out` are payload bytes at the
    client's sockets, None where the platform does not tell. `packets_in`, `packets_out` and `wire_bytes` also have what
    passed until the user's next message (clients.sockets). `read` is the number of the client read that
    completed the token, so that tokens which arrived together stay visible.

    Of drops: `noticed_by` says for each how the client learnt of it (`fin`, `rst`, `status 504`, `close 1001`,
    `silence`); `detection_ms` adds up how long nothing had come by then; `recovery_ms` how long it took from there to
    the next message not seen before, `catch_up_ms` from there until tokens came at the model's pace again.
    `head_ms` is the time from a request to the head of its response, of the first that got one; a message over a
    WebSocket that is open already has none. `response_ms` has, for each request that was answered, the time until the
    answer's first byte.
    `dns_ms`, `tcp_ms` and `tls_ms` say how long the message's connections took to open; TTFT counts that time as well.
    `requests_at_ns` says when each request was sent. `attempts` counts the tries at the message, `causes` says how each
    that failed did, behind its transport's name (`websocket status 403`), and `finished_by` is the transport of the
    last: another than the cell's only with recovery `fallback`. `drops_at_ns` has for each drop when its attempt began
    and when it was noticed; `stop_s` how long from there the server went on for it, added up (clients.stopping).
    `usage_tokens` is how many tokens the text has by an endpoint's own account, None where there is none.
    `tokens_discarded` came, but were thrown away by starting again; `tokens_wasted` the model made for nobody.
    """

    stream_id: str
    intended_start_ns: int
    tokens_expected: int
    start_ns: int = 0
    first_token_ns: int = 0
    end_ns: int = 0
    outcome: Outcome = Outcome.CLIENT_ERROR
    detail: str = ""
    tokens_received: int = 0
    tokens_lost: int = 0
    tokens_duplicated: int = 0
    tokens_reordered: int = 0
    text_ok: bool = False
    requests: int = 0
    connections: int = 0
    drops: int = 0
    bytes_in: int | None = None
    bytes_out: int | None = None
    packets_in: int | None = None
    packets_out: int | None = None
    wire_bytes: int | None = None
    head_ms: float | None = None
    recovery_ms: float | None = None
    noticed_by: list[str] = field(default_factory=list)
    detection_ms: float | None = None
    catch_up_ms: float | None = None
    usage_tokens: int | None = None
    tokens_discarded: int = 0
    tokens_wasted: int = 0
    dns_ms: float = 0.0
    tcp_ms: float = 0.0
    tls_ms: float = 0.0
    response_ms: list[float] = field(default_factory=list)
    requests_at_ns: list[int] = field(default_factory=list)
    attempts: int = 0
    causes: list[str] = field(default_factory=list)
    finished_by: str = ""
    drops_at_ns: list[tuple[int, int]] = field(default_factory=list)
    stop_s: float | None = None
    ttft_scheduled_ns: int = 0  # the simulated model's own time to first token; UNKNOWN_NS of a source
    conversation: int = 0
    turn: int = 0
    i: array[int] = field(default_factory=lambda: array("q"))
    due_ns: array[int] = field(default_factory=lambda: array("q"))
    sent_ns: array[int] = field(default_factory=lambda: array("q"))
    received_ns: array[int] = field(default_factory=lambda: array("q"))
    read: array[int] = field(default_factory=lambda: array("q"))
