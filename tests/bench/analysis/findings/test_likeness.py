"""Whether two runs may be compared: another machine and other work forbid it, a newer version's defaults do not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.analysis.findings.likeness import MAX_NAMED, notes, run_differences
from bench.run_record import Run
from clients.job import Load

MACHINE: dict[str, Any] = {
    "cpu": "EPYC",
    "cores": 2,
    "cores_usable": [0, 1],
    "memory_bytes": 25_274_793_984,
    "system": "Linux 6.18.44-fc-v445",
    "architecture": "x86_64",
}
PLAN: dict[str, Any] = {
    "blocks": 5,
    "stream": {"profile": "hosted", "tokens_median": 32},
    "load": msgspec.to_builtins(Load(rate_per_s=60)),
    "loads": {"bursty": msgspec.to_builtins(Load(arrivals="gamma"))},
}


def run(machine: dict[str, Any] | None = None, plan: dict[str, Any] | None = None, **changes: Any) -> Run:
    given: dict[str, Any] = {"name": "quick", "seed": 1, "schedule_sha256": "", "machine": MACHINE | (machine or {})}
    return Run(**given | {"plan": PLAN | (plan or {})} | changes)


def without(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


@pytest.mark.parametrize(
    "other",
    [
        run(),
        run(machine={"memory_bytes": 25_276_563_456}),  # 0.007 % more, as one kernel after another keeps for itself
        run(machine={"system": "Linux 6.19.1-fc-v500"}),
        run(machine={"cores_usable": [2, 3]}),
        run(machine={"governor": "performance", "load_average": [3, 2, 1]}),
        run(plan={"blocks": 9, "validity": {"steal_ratio": 0.5}, "slo": {"drops": 0}}),
        run(plan={"load": without(PLAN["load"], "backoff_s")}),  # a key that came later, at its default
        run(plan={"parallel": 1, "story": False, "streams": {}}),
        run(plan={"stream": PLAN["stream"] | {"gap_ms": 12.0}}),  # what the profile says anyway
        run(plan={"loads": {}}),  # its cells are in one run only
        Run(name="quick", seed=2, schedule_sha256="x", machine={}, plan=PLAN),
    ],
)
def test_no_reason_to_refuse(other: Run) -> None:
    assert run_differences(run(), other) == []
    assert run_differences(other, run()) == []


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (run(machine={"cpu": "Xeon"}), "another machine: cpu (EPYC and Xeon)"),
        (run(machine={"cores": 4, "cores_usable": [0, 1, 2, 3]}), "another machine: cores (2 and 4), cores usable"),
        (run(machine={"memory_bytes": 17 << 30}), "another machine: memory (23.5 GiB and 17.0 GiB)"),
        (run(machine={"system": "Darwin 24.1.0"}), "another machine: system (Linux and Darwin)"),
        (run(plan={"load": PLAN["load"] | {"streams": 40}}), "another plan: load.streams (80 and 40)"),
        (run(plan={"load": PLAN["load"] | {"silence_s": 40}}), "another plan: load.silence_s (none and 40)"),
        (run(plan={"stream": {"profile": "hosted"}}), "another plan: stream.tokens_median (32 and 187)"),
        (run(plan={"loads": {"bursty": {"arrivals": "closed"}}}), "another plan: loads.bursty.arrivals (gamma and clo"),
        (run(plan={"parallel": 24}), "another plan: parallel (1 and 24)"),
        (run(time_scale=20.0), "time scale 1 and 20"),
    ],
)
def test_only_what_differs_is_named(other: Run, text: str) -> None:
    (found,) = run_differences(run(), other)
    assert found.startswith(text)
    assert "rate_per_s" not in found


def test_files_are_the_same_in_another_folder_and_many_differences_are_counted() -> None:
    one = run(plan={"load": PLAN["load"] | {"trace": "/here/a.csv"}, "stream": {"recording": "/here/b.jsonl"}})
    two = run(plan={"load": PLAN["load"] | {"trace": "/there/a.csv"}, "stream": {"recording": "/there/b.jsonl"}})
    assert run_differences(one, two) == []
    (found,) = run_differences(run(), run(plan={"stream": {"profile": "article"}, "load": {"arrivals": "closed"}}))
    assert found.count(" and ") == MAX_NAMED
    assert found.endswith(" more")


def test_what_does_not_forbid_is_noted() -> None:
    one, two = run(versions={"aiohttp": "3.14.5", "numpy": "2.4.6"}), run(versions={"aiohttp": "3.14.6"})
    two.machine = MACHINE | {"system": "Linux 6.19.1"}
    assert notes(one, two) == ["system: Linux 6.18.44-fc-v445 and Linux 6.19.1", "aiohttp: 3.14.5 and 3.14.6"]
    assert notes(one, one) == []


@pytest.mark.parametrize("damaged", [{"load": 3, "stream": [], "loads": "x"}, {"stream": {"profile": "gone"}}])
def test_what_another_version_wrote_is_no_crash(damaged: dict[str, Any]) -> None:
    assert isinstance(run_differences(run(), run(plan=damaged)), list)
