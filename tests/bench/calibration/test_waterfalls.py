"""What a token goes through: real servers, the stamping proxy and the stamping client; then the sums."""

from __future__ import annotations

import pytest

from bench.analysis.measures.waterfall import STAGES, waterfall
from bench.calibration.tapped_proxy import tokens_of
from bench.calibration.waterfalls import WaterfallError, joined, waterfalls

MOST_MS = 0.1  # by which stages may miss the whole


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_the_stages_of_real_tokens_add_up_to_their_delay(transport: str) -> None:
    (found,) = waterfalls((transport,), messages=1)
    assert found.tokens == 60
    assert sum(found.mean_ms) == pytest.approx(found.whole_mean_ms, abs=MOST_MS)
    assert found.surplus_ms <= MOST_MS, "no stamp is before the one that it follows"
    assert min(found.mean_ms) >= 0
    longest = STAGES[found.median_ms.index(max(found.median_ms))]
    assert longest == "sent to proxy in" if transport == "polling" else found.median_ms[1] < 1000


def test_stamps_out_of_order_show() -> None:
    in_order = [[0, 1, 2, 3, 4, 5_000_000]] * 99
    assert waterfall("sse", in_order).surplus_ms == pytest.approx(0)
    wrong = waterfall("sse", [[0, 3_000_000, 1_000_000, 4_000_000, 5_000_000, 6_000_000]])
    assert wrong.surplus_ms == pytest.approx(2)
    assert wrong.mean_ms == (3, -2, 3, 1, 1)


def token(i: int, text: str) -> bytes:
    return b'{"i": %d, "t": %b, "due": 12, "sent": 13}' % (i, text.encode())


def test_a_token_passes_with_the_piece_that_completes_it() -> None:
    first, second, third = (token(k, text) for k, text in enumerate(('" a"', r'"\"}"', '"{"')))
    pieces = [b"HTTP/1.1 200 OK\r\n\r\n" + first[:9], first[9:], second + b"\n" + third[:-1], third[-1:] + b"\n"]
    passed = [(10 * k, 10 * k + 1, piece) for k, piece in enumerate(pieces)]
    assert list(tokens_of(passed)) == [(0, 10, 11), (1, 20, 21), (2, 30, 31)]


def test_other_tokens_than_those_that_passed_are_no_waterfall() -> None:
    received = [[0, 1, 2, 5, 6], [1, 1, 2, 5, 6]]
    assert joined("sse", received[:1], [[0, 3, 4]]) == [[1, 2, 3, 4, 5, 6]]
    with pytest.raises(WaterfallError, match="2 came, 1 passed"):
        joined("sse", received, [[0, 3, 4]])
