"""What a cell's words mean to a client, and how one is found."""

from __future__ import annotations

import pytest

from clients.core.clock import ClockReading, offset_of
from clients.core.endpoint import Endpoint
from clients.core.message_script import attempt_of
from clients.core.settings import ClientSettings
from clients.results import variant_words
from servers.transport import TRANSPORTS

URL = "http://127.0.0.1:1"


def test_the_words_of_a_variant() -> None:
    assert ClientSettings.of_variant({}, url=URL) == ClientSettings(URL)
    words = {"interval": 0.1, "wait": "20", "reuse": "off", "method": "get", "heartbeat": 15, "copy": "aa"}
    expected = ClientSettings(URL, interval_s=0.1, wait_s=20.0, reuse=False, method="get")
    assert ClientSettings.of_variant(words, url=URL) == expected
    assert ClientSettings.of_variant({"reuse": False}, url=URL).reuse is False
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
        ClientSettings.of_variant(variant, url=URL)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_transport_of_the_registry_has_a_client(transport: str) -> None:
    assert callable(attempt_of(transport))


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:8001", Endpoint("127.0.0.1", 8001, False, "127.0.0.1:8001")),
        ("http://[::1]:8080/", Endpoint("::1", 8080, False, "[::1]:8080")),
        ("https://example.org", Endpoint("example.org", 443, True, "example.org")),
        ("wss://user:pass@example.org/api/", Endpoint("example.org", 443, True, "example.org", "/api")),
        ("ws://localhost", Endpoint("localhost", 80, False, "localhost")),
    ],
)
def test_an_address_is_taken_apart(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(url) == endpoint
    assert endpoint.target("/chat") == f"{endpoint.base}/chat" == endpoint.target(f"{endpoint.base}/chat")


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:1", "ftp://a", "http://", "http://a:b", "http://a:0", "http://a:99999", "http://["),
        *("http://a..b:1", "http://a/?q=1", "http://a/#x", "http://\u00e9", "http://" + "a" * 64),
    ],
)
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(ValueError, match="takes an address as"):
        Endpoint.parse(url)


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
    assert offset_of([ClockReading(*reading) for reading in readings]) == offset_ns


@pytest.mark.parametrize("token", ["a\nb", "é", "a\x00"])
def test_a_token_that_is_no_header_s_value_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="auth token: takes printable ASCII"):
        ClientSettings(URL, token)
