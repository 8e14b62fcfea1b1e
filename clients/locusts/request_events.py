"""A message as Locust's statistics see it: `sse` × `message`, `TTFT`, `delay p50`, `delay p99`, `requests`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from clients.core.record import Outcome, StreamRecord

MESSAGE = "message"  # the row that is a whole message
_P99_NEEDS = 100  # tokens of one message; with fewer the highest delay would pass for a percentile

Fire = Callable[..., object]
"""`environment.events.request.fire`, which takes its values by name; times in ms, lengths in bytes."""


def rows_of(environment: Any) -> Fire:
    """A `Fire` for Locust's table: a message is a request of Locust's, its delays are rows beside it and no more.

    Else the row "Aggregated", and with it the charts and the failures, would add milliseconds of tokens to messages.
    """

    def tell(**event: Any) -> None:
        if event["name"] == MESSAGE:
            environment.events.request.fire(**event)
            return
        row = environment.stats.get(event["name"], event["request_type"])
        row.log(event["response_time"], event["response_length"])
        if event["exception"] is not None:
            row.log_error(event["exception"])

    return tell


class MessageFailed(Exception):
    """A message that is not whole; the text is the finding: its outcome, and how it showed."""

    def __init__(self, record: StreamRecord) -> None:
        super().__init__(f"{record.outcome}: {record.detail}" if record.detail else str(record.outcome))


def fire_events(fire: Fire, transport: str, record: StreamRecord, ended_ns: int) -> None:
    """Tell Locust of a message. A failed one is a failure of `message`, and of `TTFT` if not even a token came.

    `message` lasts from the intended start to the end message, or to `ended_ns`, when the user gave up. `requests` has
    one entry for each request, with the time to the first byte that answered it.
    """
    failure = None if record.outcome is Outcome.OK else MessageFailed(record)

    def tell(name: str, ms: float, exception: Exception | None = None, length: int = 0) -> None:
        fire(
            request_type=transport,
            name=name,
            response_time=ms,
            response_length=length,
            exception=exception,
            context={},
        )

    begun_ns, over_ns = record.intended_start_ns, record.end_ns or ended_ns
    tell(MESSAGE, (over_ns - begun_ns) / 1e6, failure, record.bytes_in or 0)
    if record.first_token_ns:
        tell("TTFT", (record.first_token_ns - begun_ns) / 1e6)
    else:
        tell("TTFT", (over_ns - begun_ns) / 1e6, failure)
    delays_ms = sorted((r - d) / 1e6 for r, d in zip(record.received_ns, record.due_ns, strict=True))
    if delays_ms:
        tell("delay p50", _rank(delays_ms, 0.5))
    if len(delays_ms) >= _P99_NEEDS:
        tell("delay p99", _rank(delays_ms, 0.99))
    for ms in record.response_ms:
        tell("requests", ms)


def _rank(ascending: Sequence[float], p: float) -> float:
    """The smallest value that at least the share `p` of them does not exceed."""
    return ascending[max(0, ceil(p * len(ascending)) - 1)]
