"""The analysis can be measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.selfcost.analysis_cost import measure_analysis
from bench.selfcost.child_process import running


@pytest.mark.extra
def test_the_cost_of_the_analysis_can_be_measured() -> None:
    cost = measure_analysis(rows=20_000)
    assert cost.rows > 10_000
    assert cost.seconds > 0
    assert cost.peak_mib > 10


def test_its_peak_is_its_own_and_not_that_of_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "peak.py").write_text(
        "import json\nfrom bench.selfcost.analysis_cost import peak_bytes\nprint(json.dumps({'peak': peak_bytes()}))"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    large = b"x" * 400_000_000  # in memory once; ru_maxrss of all that is started from now on is no less
    assert large
    with running("peak") as child:
        assert 10_000_000 < child.line_with("peak")["peak"] < 350_000_000
