"""Each injury once: the cell is void, and its reasons name what was done."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.processes import wait_until
from support.programs import program

from bench.injuries.hog import computing
from bench.injuries.injuries_command import InjuryCount, injuries
from bench.injuries.injury import INJURIES, UNHURT, Injury
from bench.injuries.struck_run import is_caught, needs_redis, struck_run
from bench.run_record import CellRecord
from bench.running.machine import pinning
from bench.store import RunFolder

pytestmark = pytest.mark.slow
FAST = {"profile": "fast", "tokens": 80, "ttft_ms": 100}
BRIEF: dict[str, object] = {"streams": 30, "rate_per_s": 60, "warmup_streams": 2, "timeout_s": 20}


# Every second of them here; `make injuries` strikes with all.
_MARKED = [
    pytest.param(injury, id=injury.name, marks=[pytest.mark.extra] if number % 2 else [])
    for number, injury in enumerate(INJURIES)
]


@pytest.mark.parametrize("injury", _MARKED)
async def test_an_injury_is_caught(injury: Injury, tmp_path: Path) -> None:
    if needs_redis(injury):
        program("redis")
    record = await struck_run(injury, tmp_path, {"stream": FAST, "load": {**BRIEF, **injury.load}})
    assert is_caught(injury, record), (record.status, record.reasons)
    assert record.messages, "it came to its end"


async def test_a_void_cell_is_run_again_and_what_it_was_stays_visible(tmp_path: Path) -> None:
    injury = Injury("load process stands still once", stop="load", stop_s=1.5)
    wide = dict.fromkeys(("generator_lag_ms_p99", "request_lag_ms_p99", "emit_lag_ms_p99", "loop_lag_ms_p99"), 9e3)
    limits = {**wide, "loop_lag_ms_max": 1200, "foreign_cpu_ratio": 100, "steal_ratio": 1, "client_cpu_ratio": 1}
    record = await struck_run(injury, tmp_path, {"stream": FAST, "load": BRIEF, "validity": limits})
    assert (record.status, record.reasons) == ("ok", [])
    (first,) = record.earlier
    assert first.status == "void"
    (reason,) = first.reasons
    assert reason.startswith("client's event loop stood still: ")
    assert (first.loop_lag_ms_max or 0) > 1200 > (record.loop_lag_ms_max or 0)
    (run,) = (RunFolder(path) for path in tmp_path.iterdir())
    assert run.load().cells == [record]
    run.merge()
    messages = pq.read_table(run.streams_path)
    assert len(messages) == record.messages == BRIEF["streams"], "only those of the last attempt"
    assert set(pq.read_table(run.tokens_path)["stream_id"].to_pylist()) == set(messages["stream_id"].to_pylist())


def record_of(*reasons: str, status: str = "void") -> CellRecord:
    given = {"id": "b01-sse", "block": 1, "cell": "sse", "transport": "sse"}
    return CellRecord(**given, status=status, reasons=list(reasons))  # type: ignore[arg-type]


def test_only_the_right_reasons_count_as_caught() -> None:
    stopped = next(injury for injury in INJURIES if injury.stop == "server" and injury.at)
    late, still = "server emitted late: p99 900.0 ms > 10 ms", "server's event loop stood still: 980.0 ms > 40 ms"
    assert is_caught(stopped, record_of(late, still, "load came late: p99 11.0 ms > 10 ms"))
    assert not is_caught(stopped, record_of(late))
    assert not is_caught(stopped, record_of("CPU time of other programs, of a core: 90.0 % > 25 %"))
    assert not is_caught(stopped, record_of(late, still, status="ok"))


def test_a_count_says_what_was_missed() -> None:
    hurt, unhurt = InjuryCount(INJURIES[0]), InjuryCount(UNHURT)
    for reasons in (("client's event loop stood still: 44.0 ms > 40 ms", "load came late: p99 20.0 ms > 10 ms"), ()):
        record = record_of(*reasons, status="void" if reasons else "ok")
        hurt.note(record)
        unhurt.note(record)
    assert (hurt.missed, unhurt.missed) == (1, 0)
    assert hurt.row() == (
        "| load process stands still for 50 ms, open loop | 1 of 2 | 1 of 2 "
        "| client's event loop stood still (1); load came late (1) |"
    )


def test_a_program_of_somebody_else_s_is_no_child_of_ours_and_ends() -> None:
    cores = pinning()["servers"]
    before = set(psutil.pids())
    with computing(cores):
        (hog,) = [p for p in psutil.process_iter() if p.pid not in before and "bench.injuries.hog" in p.cmdline()]
        assert hog not in psutil.Process().children(recursive=True)
        if hasattr(os, "sched_getaffinity"):
            wanted = set(cores) or os.sched_getaffinity(0)
            wait_until(lambda: os.sched_getaffinity(hog.pid) == wanted)  # it moves there by itself
    psutil.wait_procs([hog], timeout=10)
    assert not hog.is_running() or hog.status() == psutil.STATUS_ZOMBIE


def test_words_that_no_injury_has() -> None:
    done = CliRunner().invoke(injuries, ["--only", "earthquake"])
    assert done.exit_code == 2
    assert "no injury has 'earthquake' in its name" in done.output
