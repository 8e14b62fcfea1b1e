"""The golden clock: real clients against the independent server, and what is made of its stamps."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from bench.analysis.measures import harness_error
from bench.analysis.measures.harness_error import ClientError, HarnessError
from bench.analysis.synthetic import synthetic_run
from bench.calibration import calibrate, golden_clock, waterfalls
from bench.calibration.golden_formats import GOLDEN_TRANSPORTS
from bench.selfcost.transport_cost import Floor

LINE = {"samples": 100, "max_ms": 9.0, "early": 0}
CLIENTS = (
    ClientError(transport="sse", streams=20, p50_ms=0.05, p99_ms=0.6, **LINE),  # type: ignore[arg-type]
    ClientError(transport="websocket", streams=20, p50_ms=0.06, p99_ms=0.5, **LINE),  # type: ignore[arg-type]
    ClientError(transport="sse", streams=200, p50_ms=0.1, p99_ms=4.0, **LINE),  # type: ignore[arg-type]
)
FOUND = HarnessError(measured="2026-11-25T12:00:00Z", cpu="a", cores=2, clients=CLIENTS)


def _floors(floor: Floor, _: object) -> None:
    floor.client_us.append(7.0)
    floor.server_us.append(8.0)


def test_no_client_stamps_before_the_independent_server_has_sent() -> None:
    found = {each.transport: each for each in golden_clock.client_errors((3,), length_s=0.3)}
    assert list(found) == list(GOLDEN_TRANSPORTS)
    for transport, each in found.items():
        assert each.early == 0, transport
        assert 0 < each.p50_ms <= each.p99_ms <= each.max_ms < 10_000
    assert found["sse"].samples == found["websocket"].samples == 3 * 15
    assert found["blocking"].samples == 3


def test_a_sample_per_send_and_early_stamps_are_counted() -> None:
    before = {"a": [1_000_000, 1_000_000, 2_000_000], "b": [5_000_000]}
    received = {"a": [1_100_000, 1_100_000, 2_300_000], "b": [4_999_999]}
    after = {"a": [1_020_000, 1_020_000, 2_010_000], "b": [5_040_000]}
    found = golden_clock.compared("polling", 2, received, before, after)
    assert (found.samples, found.early) == (3, 1)
    assert found.max_ms == pytest.approx(0.3)
    assert found.p50_ms == pytest.approx(0.1)
    assert found.send_p99_ms == pytest.approx(0.04)
    assert "1 stamp came before it" in calibrate.sentence([found])


def test_a_calibration_is_of_its_machine(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert harness_error.read_calibration(run, {"cpu": "a", "cores": 2}) is None
    path = harness_error.write_calibration(tmp_path, FOUND)
    assert harness_error.read_calibration(run, {"cpu": "a", "cores": 2}) == FOUND
    assert harness_error.read_calibration(run, {"cpu": "b", "cores": 2}) is None
    path.write_text("{")
    assert harness_error.read_calibration(run, {"cpu": "a", "cores": 2}) is None


def test_the_band_is_that_of_the_next_level_up() -> None:
    assert FOUND.band_ms(7) == FOUND.band_ms(20) == (0.06, 0.6)
    assert FOUND.band_ms(21) == FOUND.band_ms(500) == (0.1, 4.0)
    assert FOUND.band_ms(1, "websocket") == (0.06, 0.5)
    assert str(FOUND.band_ms(1, "blocking")) == "(nan, nan)"


@pytest.mark.parametrize(
    ("streams", "p50_ms", "p99_ms", "busy"),
    [(50, 0.1, 1.9, ""), (50, 0.2, 1.9, "50 streams"), (50, 0.1, 2.1, "50 streams"), (200, 0.4, 6, "200 streams")],
)
def test_a_busy_machine_is_named(streams: int, p50_ms: float, p99_ms: float, busy: str) -> None:
    each = ClientError(transport="sse", streams=streams, p50_ms=p50_ms, p99_ms=p99_ms, **LINE)  # type: ignore[arg-type]
    said = calibrate.sentence([each])
    assert ("other programs" in said) == bool(busy)
    assert busy in said


def test_calibrate_says_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        golden_clock, "client_errors", partial(golden_clock.client_errors, (2,), ("sse",), length_s=0.1)
    )
    monkeypatch.setattr(waterfalls, "waterfalls", partial(waterfalls.waterfalls, ("sse",), 1))
    monkeypatch.setattr(calibrate, "measure_floors", _floors)  # tests/bench/selfcost has them
    console = Console(record=True, width=100)
    calibrate.calibrate(synthetic_run(tmp_path, blocks=5, messages=5), tmp_path, console)
    said = console.export_text()
    assert "(the worst: SSE, 2 streams at once)." in said
    assert said.index("The harness's own error") < said.index("The noise floor") < said.index("a bare client")
    assert "a bare client: 7.0 CPU µs per token; server: 8.0" in said
    kept = json.loads((tmp_path / harness_error.FILE).read_bytes())
    assert [each["transport"] for each in kept["clients"]] == ["sse"] == [f["transport"] for f in kept["waterfalls"]]
    assert b"SSE: " in (tmp_path / "waterfall.svg").read_bytes()
