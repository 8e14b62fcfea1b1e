"""results/review.ipynb: as committed, on the reference run, and on a run that has just been made."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from support.any_machine import VALIDITY
from support.notebooks import NOTEBOOK, WIDGET, execute, readable_without_running

from bench.analysis.report.charts import CHARTS

REFERENCE = NOTEBOOK.parent / "reference"
DEFINITIONS = {"imports", "ask"}  # cells that only define what the others use
REFRESH = "to bring it up to date: python scripts/refresh_notebook.py"

# One short block, with something in between: too small to claim anything, which the notebook has to survive as well.
PLAN = f"""
blocks = 1
control = "none"

[stream]
profile = "fast"
tokens = 8

[load]
streams = 6
rate_per_s = 50
warmup_streams = 1

{VALIDITY}
[[cells]]
transport = "sse"
profile = ["direct", "none"]

[[cells]]
transport = "polling"
interval = 0.1
"""

# What a reader may do with the controls: every choice of every list, other numbers, and then as before.
TURN_ALL = """
from ipywidgets.widgets.widget import _instances

for control in list(_instances.values()):
    if isinstance(control, widgets.Dropdown):
        before = control.value
        for option in [*control.options, before]:
            control.value = option
    elif isinstance(control, (widgets.IntText, widgets.FloatText)):
        control.value = 3 * control.value
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a run in it that has just been made."""
    folder = tmp_path_factory.mktemp("fresh")
    (folder / "tiny.toml").write_text(PLAN)
    command = [sys.executable, "-m", "bench.cli", "run", "tiny.toml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder / "results"


def outputs(notebook: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """The id of each cell of code with each of its outputs."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from ((cell.id, output) for output in cell.outputs)


def texts(notebook: NotebookNode, kind: str = "text/markdown") -> list[str]:
    """What is shown as text of that kind."""
    return [output.data[kind] for _, output in outputs(notebook) if kind in output.get("data", {})]


def pictures(notebook: NotebookNode) -> int:
    """How many pictures are shown."""
    return len(texts(notebook, "image/png"))


@pytest.fixture(scope="module")
def committed() -> NotebookNode:
    """The notebook as a code host shows it."""
    notebook: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)
    return notebook


class TestAsCommitted:
    def test_valid_and_small(self, committed: NotebookNode) -> None:
        nbformat.validate(committed)
        assert (committed.nbformat, committed.nbformat_minor) == (4, 5)
        assert NOTEBOOK.stat().st_size < 1_000_000

    def test_every_answer_is_there(self, committed: NotebookNode) -> None:
        answered = {cell for cell, _ in outputs(committed)}
        assert answered == {cell.id for cell in committed.cells if cell.cell_type == "code"} - DEFINITIONS
        assert {output.output_type for _, output in outputs(committed)} <= {"display_data", "execute_result", "stream"}
        assert not any(WIDGET in output.get("data", {}) for _, output in outputs(committed))
        assert not any(output.get("name") == "stderr" for _, output in outputs(committed))

    def test_the_verdicts_come_before_everything(self, committed: NotebookNode) -> None:
        code = [cell.id for cell in committed.cells if cell.cell_type == "code"]
        assert code[0] == "verdicts"
        assert code.index("charts") < code.index("machine"), "machine tables come late"
        first = next(cell for cell in committed.cells if cell.id == "verdicts")
        assert "Take " in "".join(output.data.get("text/markdown", "") for output in first.outputs)

    def test_nothing_of_the_machine_it_was_made_on(self, committed: NotebookNode) -> None:
        shown = str([*(cell.source for cell in committed.cells), *texts(committed), *texts(committed, "text/plain")])
        shown += str([output.text for _, output in outputs(committed) if output.output_type == "stream"])
        assert not re.findall(r"(?<![\w.])/(?:home|root|work|tmp|usr|var|opt|Users)\b", shown)


@pytest.mark.slow
def test_the_reference_run_gives_what_is_committed(tmp_path: Path, committed: NotebookNode) -> None:
    (tmp_path / "reference").symlink_to(REFERENCE, target_is_directory=True)
    executed = readable_without_running(execute(tmp_path))
    assert texts(executed) == texts(committed), REFRESH
    assert pictures(executed) == pictures(committed), REFRESH


@pytest.mark.slow
def test_a_damaged_run_is_one_clear_line(tmp_path: Path) -> None:
    run = Path(shutil.copytree(REFERENCE, tmp_path / "reference"))
    table = run / "streams.parquet"
    table.write_bytes(table.read_bytes()[:5000])
    with pytest.raises(CellExecutionError) as caught:
        execute(tmp_path)
    *_source, said = caught.value.traceback.strip().splitlines()
    assert said.startswith("StoreError: ")
    assert "streams.parquet: damaged or not Parquet" in said
    assert "tables.py" not in caught.value.traceback  # no frames


@pytest.mark.slow
def test_a_fresh_run_and_every_control(fresh: Path) -> None:
    executed = execute(fresh, TURN_ALL)
    (run,) = (path.name for path in fresh.glob("2*"))
    (said,) = (output.text for cell, output in outputs(executed) if output.output_type == "stream")
    assert said == f"runs here: {run}\n"
    assert not any(output.output_type == "error" for _, output in outputs(executed))
    everything = "\n".join(texts(executed))
    assert all(f"### {chart.title}" in everything for chart in CHARTS)
    assert "Yes: all 18 messages arrived whole" in everything
    assert "No claim: 1 valid block, 5 needed." in everything
    assert pictures(executed) >= 6 + 2  # charts, where the delay comes from, one message
