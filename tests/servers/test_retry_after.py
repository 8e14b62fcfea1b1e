"""`Retry-After`, in seconds and as a moment."""

from __future__ import annotations

import pytest

from servers.retry_after import MOST_S, retry_after_s

NOW = "Thu, 26 Nov 2026 13:00:00 GMT"


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("7", None, 7),
        (" 0 ", NOW, 0),
        ("99999999999", None, MOST_S),
        ("Thu, 26 Nov 2026 13:00:07 GMT", NOW, 7),
        ("Thursday, 26-Nov-26 13:00:07 GMT", NOW, 7),
        ("Thu Nov 26 13:00:07 2026", NOW, 7),
        ("Thu, 26 Nov 2026 12:59:00 GMT", NOW, 0),
        ("Thu, 26 Nov 2037 13:00:00 GMT", NOW, MOST_S),
        ("Thu, 26 Nov 2026 13:00:07 GMT", None, None),
        ("Thu, 26 Nov 2026 13:00:07 GMT", "noon", None),
        ("Thu, 99 Nov 2026 99:00:07 GMT", NOW, None),
        ("Wed, 21 Oct", NOW, None),
        ("-1", NOW, None),
        ("٧", NOW, None),
        ("x" * 100_000, NOW, None),
        (None, NOW, None),
    ],
)
def test_the_wish_is_read_as_rfc_9110_has_it(header: str | None, date: str | None, seconds: int | None) -> None:
    assert retry_after_s(header, date) == seconds
