"""What is claimed, and what is not: equal cells must not win, real differences must be found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.findings.verdicts import COMPLETENESS, Verdict, verdicts
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements
from bench.analysis.statistics import histogram
from bench.analysis.statistics.estimators import Floats
from bench.run_record import CellRecord, Run

SSE, COPY, CHUNKED, WEBSOCKET = Key("sse"), Key("sse", "copy=aa"), Key("chunked"), Key("websocket")
FIELD = (SSE, COPY, CHUNKED, WEBSOCKET)


def cell(key: Key, rng: np.random.Generator, blocks: int, slower: float, mood: Floats) -> MeasuredCell:
    """40 messages of 5 tokens a block; delays are `slower` times lognormal, with a mood shared by a block's cells."""
    messages, totals, delays = [], [], {}
    for block in range(1, blocks + 1):
        level = slower * mood[block - 1] * rng.lognormal(0, 0.05)
        overhead = level * rng.lognormal(0, 0.5, 40)
        rows = {"block": block, "ttft_overhead_ms": overhead, "ttft_ms": 600 + overhead, "completed": True}
        messages.append(
            pd.DataFrame({**rows, "intended_start_ns": np.arange(40), "ttft_scheduled_ns": 0, "end_ns": 10**10})
        )
        token_delays = level * rng.lognormal(0, 0.5, 200)
        delays[block] = np.bincount(histogram.bins_of(token_delays), minlength=histogram.BINS).astype(np.int32)
        cpu = 200 * slower * rng.lognormal(0, 0.03)
        waited_s = float(token_delays.sum()) / 1000
        sums = {
            "wait_s": waited_s,
            "wire_bytes": 24000,
            "wire_delivered": 200,
            "messages": 40,
            "completed": 40,
            "delivered": 200,
            "requests": 40,
            "rows": 200,
            "reads": 200,
        }
        totals.append(
            {"block": block, **sums, "bytes": 18000, "bytes_delivered": 200, "cpu_us": cpu, "redis_cpu_us": 0}
        )
    frame = pd.concat(messages).assign(outcome="ok", tokens_lost=0, tokens_duplicated=0, noticed_by="")
    records = [CellRecord(id=f"{key}{b}", block=b, cell="", transport=key.transport, status="ok") for b in delays]
    return MeasuredCell(key, records, frame, pd.DataFrame(totals).set_index("block"), delays)


def run_of(
    seed: int, *, blocks: int = 10, slower: dict[Key, float] | None = None, field: Sequence[Key] = FIELD
) -> Measurements:
    rng = np.random.default_rng(seed)
    mood = rng.lognormal(0, 0.2, blocks)
    cells = [cell(key, rng, blocks, (slower or {}).get(key, 1.0), mood) for key in field]
    run = Run(name="x", plan={}, seed=seed, schedule_sha256="", status="complete")
    return Measurements(run, cells, {}, 0, 0)


def claims(found: Sequence[Verdict]) -> list[tuple[str, Key, Key]]:
    return [(p.column, p.better, p.worse) for v in found for p in v.pairs if p.claimed]


@pytest.mark.parametrize("blocks", [5, 10])
def test_equal_cells_hardly_ever_win(blocks: int) -> None:
    """Runs in which nothing differs: at most 5 % may claim anything at all (docs/statistics.md has the large trial)."""
    false_wins = sum(bool(claims(verdicts(run_of(seed, blocks=blocks)))) for seed in range(12))
    assert false_wins <= 1, f"{false_wins} of 12 runs claimed a difference between equal cells"


def test_a_real_shift_of_ten_percent_is_found() -> None:
    found = wrong = 0
    for seed in range(10):
        claimed = claims(verdicts(run_of(seed, blocks=20, slower={CHUNKED: 1.1})))
        wrong += any(worse != CHUNKED for *_, worse in claimed)
        found += {("cpu_us_per_token", SSE, CHUNKED), ("cpu_us_per_token", WEBSOCKET, CHUNKED)} <= set(claimed)
    assert found >= 9
    assert wrong <= 1


def test_a_clear_winner_is_named_with_milliseconds_and_ratio() -> None:
    found = verdicts(run_of(1, slower={CHUNKED: 3.0, WEBSOCKET: 300.0}))
    first = found[0]
    assert first.status == "resolved"
    assert first.sentence.startswith("First token (over the model's own time, at the median): SSE brings it soonest: ")
    assert "Behind: Chunked" in first.sentence
    assert "ms" in first.sentence
    assert "Chunked" in first.sentence
    assert "291 times SSE's (95 % CI 260–326)" in first.sentence
    requests = next(v for v in found if v.column == "requests_per_message")
    assert requests.sentence == "Requests: SSE, Chunked and WebSocket are equal, 1 requests/message."
    assert found[-1].question == COMPLETENESS
    assert found[-1].sentence.startswith("Yes: all 1,600 messages")


def test_the_copy_is_no_contestant() -> None:
    assert all(COPY not in (p.better, p.worse) for v in verdicts(run_of(1)) for p in v.pairs)


def test_with_few_blocks_nothing_is_claimed() -> None:
    found = verdicts(run_of(1, slower={CHUNKED: 100.0}, blocks=4))
    assert {v.status for v in found[:-1]} == {"no claim"}
    assert all("4 valid blocks, 5 needed" in v.sentence for v in found[:-1])
    assert not claims(found)


def test_a_control_is_no_longer_needed_for_a_claim() -> None:
    found = verdicts(run_of(1, slower={CHUNKED: 100.0}, field=(SSE, CHUNKED)))
    assert ("ttft_overhead_ms_p50", SSE, CHUNKED) in claims(found)


def test_a_control_that_differs_from_its_equal_is_a_warning() -> None:
    differs = [d for d in run_warnings(run_of(2, blocks=20, slower={COPY: 1.3})) if d.code == "control differs"]
    assert differs
    assert "SSE" in differs[0].text


def test_cells_under_other_loads_do_not_race() -> None:
    bursty = (Key("sse", "load=bursty"), Key("sse", "copy=aa load=bursty"), Key("chunked", "load=bursty"))
    found = verdicts(run_of(1, field=(*FIELD, *bursty)))
    assert {v.group for v in found} == {"", "load=bursty"}
    for verdict in found:
        assert all(p.better.group == p.worse.group for p in verdict.pairs)


def test_a_clean_run_has_no_warnings_but_small_samples_are_noted() -> None:
    found = run_warnings(run_of(3, blocks=10))
    assert [d.code for d in found if d.severity == "warning"] == []


def test_drift_inside_cells_is_a_warning() -> None:
    measured = run_of(4)
    sse = measured.cells[0].messages
    sse["ttft_overhead_ms"] += np.tile(np.linspace(0, 5, 40), 10)
    assert [d.text.partition(" ")[0] for d in run_warnings(measured) if d.code == "drift"] == ["SSE"]


def test_a_machine_that_was_busy_is_a_warning() -> None:
    measured = run_of(5)
    measured.run.machine = {"cores": 2}
    for record in measured.cells[0].records:
        record.client_cpu_s, record.server_cpu_s = 8.0, 9.0  # of 10 s on 2 cores
    (warning,) = [d for d in run_warnings(measured) if d.code == "busy"]
    assert "SSE (85 %)" in warning.text


def test_scaled_and_unfinished_runs_say_so() -> None:
    measured = run_of(6)
    measured.run.time_scale, measured.run.status = 20, "interrupted"
    texts = " ".join(d.text for d in run_warnings(measured))
    assert "divided by 20" in texts
    assert "interrupted" in texts
