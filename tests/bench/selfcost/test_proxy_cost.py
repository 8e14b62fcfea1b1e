"""The proxy's figure is of its HTTP path, or there is none."""

from __future__ import annotations

import io
import pstats
from pathlib import Path
from typing import Any

import pytest

from bench.selfcost import proxy_cost
from bench.selfcost.child_process import ChildError, running
from bench.selfcost.proxy_cost import ProxyCost, check_phases, measure_proxy
from bench.selfcost.transport_cost import SteadyTraffic

TINY = SteadyTraffic(streams=4, tokens_per_s=50, seconds=0.3)

BROKEN_SOURCE = """
import sys
from bench.selfcost.bare_peers import server, token_chunk
from servers.process import run
short = token_chunk(1234567890123456)
short = b"5a" + short[short.index(b"\\r\\n"):]  # says 90 bytes, brings more
run(server(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), lambda: short))
"""


def test_every_stream_is_followed_and_everything_measured(
    tmp_path: Path, asked_cores: list[tuple[str, list[int]]]
) -> None:
    cost, profile = ProxyCost(), tmp_path / "profile"
    measure_proxy(cost, TINY, profile)
    assert asked_cores == [
        ("source", [5]), ("sink", [5]), ("pump", [2]), ("sink", [5]), ("bench.selfcost.proxy_cost", [2]), ("sink", [5])
    ]  # fmt: skip
    assert [len(figures) for figures in (cost.proxy_us, cost.pump_us, cost.direct_ms, cost.proxied_ms)] == [1] * 4
    assert all(0 < p50 <= p99 for p50, p99 in (*cost.direct_ms, *cost.proxied_ms))
    table = io.StringIO()
    pstats.Stats(str(profile), stream=table).print_stats("proxy/http_follower.py.*down")
    assert "(down)" in table.getvalue()


def test_a_stream_that_the_proxy_cannot_follow_is_an_error_and_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_source.py").write_text(BROKEN_SOURCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def with_broken_source(module: str, *arguments: str, **options: Any) -> Any:
        return running("broken_source" if arguments[0] == "source" else module, *arguments, **options)

    monkeypatch.setattr(proxy_cost, "running", with_broken_source)
    cost = ProxyCost()
    with pytest.raises(ChildError, match="tunnel"):
        measure_proxy(cost, TINY)
    assert cost == ProxyCost()


@pytest.mark.parametrize("phases", [{}, {"idle": 3}, {"idle": 4, "tunnel": 1}, {"responding": 4}, {"tunnel": 4}])
def test_no_other_phase_will_do(phases: dict[str, int]) -> None:
    with pytest.raises(ChildError, match="did not follow"):
        check_phases(phases, 4)
    check_phases({"idle": 4}, 4)
