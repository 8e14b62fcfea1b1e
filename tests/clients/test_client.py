"""What a cell's words mean to a client, and how one is found."""

from __future__ import annotations

import pytest

from clients.client import Settings, client_for
from clients.clock import Reading, offset_of
from clients.results import variant_words
from servers.transport import TRANSPORTS

URL = "http://127.0.0.1:1"


def test_the_words_of_a_variant() -> None:
    assert Settings.of_variant({}, url=URL) == Settings(URL)
    words = {"interval": 0.1, "wait": "20", "reuse": "off", "method": "get", "heartbeat": 15, "copy": "aa"}
    expected = Settings(URL, interval_s=0.1, wait_s=20.0, reuse=False, method="get")
    assert Settings.of_variant(words, url=URL) == expected
    assert Settings.of_variant({"reuse": False}, url=URL).reuse is False
    assert variant_words(words) == "copy=aa heartbeat=15 interval=0.1 method=get reuse=off wait=20"


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ({"interval": -1}, "interval: takes seconds from 0 to 3600, not -1"),
        ({"interval": "soon"}, "interval: takes seconds"),
        ({"interval": True}, "interval: takes seconds"),
        ({"wait": float("nan")}, "wait: takes seconds"),
        ({"wait": None}, "wait: takes seconds"),
        ({"reuse": "maybe"}, "reuse: takes one of on, off"),
        ({"method": "put"}, "method: takes one of post, get"),
    ],
)
def test_wrong_words_are_named(variant: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Settings.of_variant(variant, url=URL)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_transport_of_the_registry_has_a_client(transport: str) -> None:
    user = client_for(transport, Settings("http://[::1]:8080", auth_token="x"))
    assert (user.host, user.port, user.headers) == ("::1", 8080, {"Authorization": "Bearer x"})


@pytest.mark.parametrize(
    ("readings", "offset_ns"),
    [
        ([(100, 150, 200)], 0),  # within the round trip: the same clock
        ([(100, 249, 200)], 0),
        ([(100, 260, 200)], 110),
        ([(100, 40, 200)], -110),
        ([(0, 5_000, 1_000), (2_000, 6_420, 2_100)], 4_370),  # the quickest reading is believed
    ],
)
def test_the_clock_offset(readings: list[tuple[int, int, int]], offset_ns: int) -> None:
    assert offset_of([Reading(*reading) for reading in readings]) == offset_ns
