"""Two runs: refused when they are not alike, silent about noise, loud about regressions."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.analysis.findings.comparison import ALL_CELLS, ComparisonError, compare
from bench.analysis.measures.metrics import METRICS
from bench.analysis.synthetic import Caricature, synthetic_run
from bench.cli import main
from bench.export.changes import WANTED_RATIO, findable, print_comparison
from bench.export.document import comparison_document
from bench.store import RunFolder

SSE = Caricature("sse", delay_ms=0.5)
COPY = Caricature("sse", "copy=aa", delay_ms=0.5)


def run_in(folder: Path, seed: int, *field: Caricature, blocks: int = 8) -> RunFolder:
    return synthetic_run(folder, blocks=blocks, messages=30, tokens=20, field=field or (SSE, COPY), seed=seed)


def changed(folder: RunFolder, **changes: Any) -> RunFolder:
    run = folder.load()
    for name, value in changes.items():
        setattr(run, name, value)
    folder.save(run)
    return folder


def text_of(comparison: Any) -> str:
    console = Console(width=120, record=True, file=StringIO())
    print_comparison(comparison, console)
    return console.export_text()


def test_a_run_against_itself_shows_nothing(tmp_path: Path) -> None:
    run = run_in(tmp_path, 1)
    found = compare(run, run)
    assert not found.regressed
    assert {c.judgement for c in found.changes} == {"no difference"}


def test_noise_is_no_regression(tmp_path: Path) -> None:
    found = compare(run_in(tmp_path, 1), run_in(tmp_path, 2))
    assert not found.regressed
    assert "No regression and no improvement: none of" in text_of(found)
    assert all(change.reason for change in found.changes if change.judgement == "not resolved")
    assert 1.01 < found.resolution["client_cpu_us_per_token"] < 1.2, "of CPU times that vary by 2 %"
    assert "Changes that two such runs show 4 times in 5: " in " ".join(text_of(found).split())


def test_cpu_at_equal_pace_shows_what_a_core_s_moods_hide(tmp_path: Path) -> None:
    """+10 % behind a core whose speed varies by a quarter, which the fixed work shows, and the tokens' CPU does not."""
    a, b = run_in(tmp_path, 1), run_in(tmp_path, 2)
    for folder, ratio in ((a, 1.0), (b, 1.1)):
        run, rng = folder.load(), np.random.default_rng(round(ratio * 10))
        for cell in run.cells:
            slowness = rng.lognormal(0, 0.25)
            cell.server_cpu_s = (cell.server_cpu_s or 0.0) * slowness * ratio
            cell.server_pace_us = 12.0 * slowness
        folder.save(run)
    changes = {(change.key.title, change.column): change for change in compare(a, b).changes}
    paced = changes["SSE", "server_cpu_us_per_token_at_equal_pace"]
    assert paced.judgement == "regression"
    assert paced.contrast.ratio.lo < 1.1 < paced.contrast.ratio.hi
    assert changes["SSE", "server_cpu_us_per_token"].judgement == "not resolved"


def with_cpu(folder: RunFolder, seed: int, ratio: float, spread: float) -> RunFolder:
    """The run with `ratio` times as much server CPU, which varies from cell to cell."""
    run, rng = folder.load(), np.random.default_rng(seed)
    for cell in run.cells:
        cell.server_cpu_s = (cell.server_cpu_s or 0.0) * ratio * float(rng.lognormal(0, spread))
    folder.save(run)
    return folder


def test_what_all_cells_share_is_found_where_no_cell_shows_it(tmp_path: Path) -> None:
    """+10 % of CPU in eight cells whose own spread is 12 %: each may be chance, together they are none."""
    field = [Caricature(name, f"copy={k}") for name in ("sse", "chunked") for k in range(4)]
    a = with_cpu(run_in(tmp_path, 1, *field, blocks=9), 1, 1.0, 0.12)
    b = with_cpu(run_in(tmp_path, 2, *field, blocks=9), 2, 1.1, 0.12)
    found = compare(a, b)
    cpu = {change.key: change for change in found.changes if change.column == "server_cpu_us_per_token"}
    together = cpu.pop(ALL_CELLS)
    assert {change.judgement for change in cpu.values()} == {"not resolved"}
    assert together.judgement == "regression"
    assert together.contrast.ratio.lo < 1.1 < together.contrast.ratio.hi
    mean_ratio = np.exp(np.mean([math.log(change.contrast.ratio.value) for change in cpu.values()]))
    assert together.contrast.ratio.value == pytest.approx(mean_ratio, rel=0.01)
    assert found.regressed
    said = " ".join(text_of(found).split())
    assert "all cells" in said
    assert 1 < found.shared_resolution["server_cpu_us_per_token"] < found.resolution["server_cpu_us_per_token"]
    assert "What all cells share shows from" in said
    assert ("all cells", "server_cpu_us_per_token", "regression") in {
        (row.transport, row.column, row.judgement) for row in comparison_document(found, ("a", "b")).rows
    }


def test_one_cell_alone_is_all_cells_and_is_counted_once(tmp_path: Path) -> None:
    found = compare(run_in(tmp_path, 1, SSE), run_in(tmp_path, 2, SSE))
    assert ALL_CELLS not in {change.key for change in found.changes}


def test_what_could_not_have_been_found_is_said(tmp_path: Path) -> None:
    """CPU that varies by a quarter: "no regression" says nothing of +10 %, and how many blocks that takes is said."""
    a, b = run_in(tmp_path, 1), run_in(tmp_path, 2)
    for folder, seed in ((a, 1), (b, 2)):
        run, rng = folder.load(), np.random.default_rng(seed)
        for cell in run.cells:
            cell.server_cpu_s = (cell.server_cpu_s or 0.0) * rng.lognormal(0, 0.25)
        folder.save(run)
    found = compare(a, b)
    needed = found.blocks_needed("server_cpu_us_per_token", WANTED_RATIO)
    assert needed is not None
    assert 100 < needed < 1000
    assert found.resolution["server_cpu_us_per_token"] > 1.2
    for said in (findable(found), comparison_document(found, ("a", "b")).verdict.sentence):
        assert f"To find 1.1× takes {needed} blocks in {METRICS['server_cpu_us_per_token'].title}." in said


def test_a_slower_run_is_a_regression_and_the_way_back_an_improvement(tmp_path: Path) -> None:
    slow = (Caricature("sse", delay_ms=1.0), Caricature("sse", "copy=aa", delay_ms=1.0))
    a, b = run_in(tmp_path, 1), run_in(tmp_path, 2, *slow)
    found = compare(a, b)
    worse = {c.column for c in found.changes if c.judgement == "regression"}
    assert {"delay_ms_p50", "delay_ms_p95", "ttft_overhead_ms_p50"} <= worse
    assert found.regressed
    assert "regression" in text_of(found)
    back = compare(b, a)
    assert not back.regressed
    assert worse == {c.column for c in back.changes if c.judgement == "improvement"}


def test_failing_messages_are_a_regression(tmp_path: Path) -> None:
    field = (Caricature("sse", delay_ms=0.5, failing=0.5), Caricature("sse", "copy=aa", delay_ms=0.5, failing=0.5))
    found = compare(run_in(tmp_path, 1), run_in(tmp_path, 1, *field))
    assert "completed_ratio" in {c.column for c in found.changes if c.judgement == "regression"}


def test_nothing_through_any_more_is_a_regression(tmp_path: Path) -> None:
    """A share of 0 has no logarithm, but no message is not "not resolved"."""
    lost = (Caricature("sse", failing=1.0), Caricature("sse", "copy=aa", failing=1.0))
    a, b = run_in(tmp_path, 1), run_in(tmp_path, 1, *lost)
    for found, judgement in ((compare(a, b), "regression"), (compare(b, a), "improvement")):
        assert {c.judgement for c in found.changes if c.column == "completed_ratio"} == {judgement}
    assert compare(a, b).regressed
    assert not compare(b, b).regressed


def test_a_number_that_became_infinite_is_said_to_be_so(tmp_path: Path) -> None:
    """More than half of the messages fail: no ratio, and not "too few blocks"."""
    field = (Caricature("sse", failing=0.9), Caricature("sse", "copy=aa", failing=0.9))
    found = compare(run_in(tmp_path, 1), run_in(tmp_path, 1, *field))
    infinite = [change for change in found.changes if change.contrast.a == float("inf")]
    assert infinite
    assert all("infinite" in change.reason for change in infinite)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"machine": {"cpu": "other", "cores": 2}}, "another machine: cpu"),
        ({"plan": {"blocks": 8, "stream": {"profile": "fast"}}}, "another plan: stream"),
        ({"time_scale": 20.0}, "time scale"),
    ],
)
def test_runs_that_are_not_alike_are_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    a, b = run_in(tmp_path, 1, blocks=2), changed(run_in(tmp_path, 1, blocks=2), **changes)
    with pytest.raises(ComparisonError, match=word):
        compare(a, b)
    assert any(word in warning for warning in compare(a, b, force=True).warnings)


def test_without_a_control_or_a_common_cell(tmp_path: Path) -> None:
    a, b = run_in(tmp_path, 1, SSE), run_in(tmp_path, 2, Caricature("sse", delay_ms=50))
    found = compare(a, b)
    assert found.regressed
    assert any("no A/A control" in warning for warning in found.warnings)
    with pytest.raises(
        ComparisonError, match=r"no valid cell in common: run A has SSE and run B has Chunked; it takes"
    ):
        compare(a, run_in(tmp_path, 1, Caricature("chunked")))


def test_runs_without_a_valid_cell_are_refused_with_the_reason_and_what_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two lines of a busy machine: which run, how many cells, why the first of them, and what to do."""
    valid, void = (
        synthetic_run(tmp_path, blocks=2, messages=6, tokens=6, field=(SSE,), void={(0, b) for b in range(1, last)})
        for last in (1, 3)
    )
    for a, b, runs in ((valid, void, "B"), (void, valid, "A"), (void, void, "AB")):
        with pytest.raises(SystemExit) as ended:
            main(["compare", str(a.path), str(b.path)])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        for name in runs:
            assert f"in run {name} nothing was measured: no cell is valid (2 void); block 1, sse: made up" in said
        assert said.count("measure again while nothing else computes") == len(runs)


def test_runs_that_are_too_small_say_that_nothing_is_known(tmp_path: Path) -> None:
    """No cell can be judged, which is no regression, and must not read as if none had been there."""
    small, other, large = (
        synthetic_run(tmp_path, blocks=blocks, messages=6, tokens=6, field=(SSE, COPY), seed=seed)
        for seed, blocks in ((1, 2), (2, 2), (2, 5))
    )
    found = compare(small, large)
    known = f"Nothing is known of {len(found.changes)} numbers: no cell has 5 valid blocks in both runs."
    assert known in " ".join(text_of(found).split())
    assert comparison_document(found, ("a", "b")).verdict.sentence.startswith(known)
    assert not found.regressed
    for a, b in ((small, other), (large, large), (small, small)):
        with pytest.raises(SystemExit) as ended:
            main(["compare", str(a.path), str(b.path)])
        assert (ended.value.code or 0) == 0


def test_a_cell_that_a_run_hardly_has_is_named_and_one_that_it_lacks_is_not_its_own(tmp_path: Path) -> None:
    def made(seed: int, void: int) -> RunFolder:
        frozen = {(0, block) for block in range(1, void + 1)}
        field = (SSE, COPY, Caricature("chunked"))
        return synthetic_run(tmp_path, blocks=6, messages=6, tokens=6, field=field, seed=seed, void=frozen)

    whole = made(1, 0)
    hardly, lacking = compare(whole, made(2, 2)), compare(whole, made(3, 6))
    assert "Nothing can be claimed of SSE: fewer than 5 valid blocks." in " ".join(text_of(hardly).split())
    assert not hardly.is_blind
    assert "only run A has valid cells of SSE" in lacking.warnings
    assert not any(warning.startswith("only run B") for warning in lacking.warnings)


def test_a_number_that_is_asked_for_alone_is_not_paid_for_by_others(tmp_path: Path) -> None:
    """The family is what was asked for: fewer comparisons, a smaller change found, fewer blocks needed."""
    a, b = run_in(tmp_path, 1), run_in(tmp_path, 2)
    column = "server_cpu_us_per_token"
    every, alone = compare(a, b), compare(a, b, numbers=[column])
    assert {change.column for change in alone.changes} == {column}
    assert len(alone.changes) == 3 < len(every.changes), "two cells, and both together"
    assert alone.resolution[column] < every.resolution[column]
    wanted = 1.02
    assert (alone.blocks_needed(column, wanted) or 0) < (every.blocks_needed(column, wanted) or 10_000)


def test_the_command_takes_the_numbers_that_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(synthetic_run(tmp_path, blocks=2, messages=6, tokens=6, field=(SSE,)).path)
    with pytest.raises(SystemExit) as ended:
        main(["compare", run, run, "--all", "--numbers", "server_cpu_us_per_token,drops"])
    assert ended.value.code == 2
    assert "--numbers: unknown 'drops'; " in capsys.readouterr().err
    with pytest.raises(ComparisonError, match="no cell has server memory per open stream in both runs"):
        compare(RunFolder(Path(run)), RunFolder(Path(run)), numbers=["server_memory_kb_per_open_stream"])
    with pytest.raises(SystemExit) as ended:
        main(["compare", run, run, "--all", "--numbers", "server_cpu_us_per_token,bytes_per_token"])
    assert (ended.value.code or 0) == 0
    assert "none of 2 numbers compared is shown to have changed" in " ".join(capsys.readouterr().out.split())
