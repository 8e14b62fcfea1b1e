"""`Retry-After`: for how long a server asks not to be asked again (RFC 9110, 10.2.3; pure)."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

MOST_S = 86_400


def retry_after_s(header: str | None, date: str | None = None) -> int | None:
    """The wish in whole seconds, a day at most; None if there is none, or none that can be read.

    It may be a moment, which is set beside the response's own `date`: no two machines' clocks agree.
    """
    given = (header or "").strip()
    if given.isascii() and given.isdigit():
        return min(int(given[:9]), MOST_S)
    until_s, now_s = _moment_s(given), _moment_s(date or "")
    return None if until_s is None or now_s is None else max(0, min(until_s - now_s, MOST_S))


def _moment_s(text: str) -> int | None:
    """Seconds since 1970 of an HTTP date."""
    try:
        at = parsedate_to_datetime(text[:64])
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
