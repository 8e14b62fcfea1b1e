"""The review notebook, executed as a reader would: in a folder of runs, from top to bottom, warnings as errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[2] / "results" / "review.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"

# Not by PYTHONWARNINGS, which would also be about what Jupyter does before the first cell. The exception is what the
# kernel says of itself when it is told to end.
_STRICT = nbformat.v4.new_code_cell(
    """import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module="ipykernel")""",
    id="strict",
)


def execute(results: Path, *more: str, timeout_s: float = 60) -> NotebookNode:
    """A copy of the notebook, executed in `results`, and `more` code after it. Raises CellExecutionError."""
    shutil.copy(NOTEBOOK, results)
    notebook: NotebookNode = nbformat.read(results / NOTEBOOK.name, as_version=4)
    count = len(notebook.cells)
    added = [nbformat.v4.new_code_cell(text, id=f"more-{k}") for k, text in enumerate(more)]
    notebook.cells = [_STRICT.copy(), *notebook.cells, *added]
    client = NotebookClient(
        notebook,
        timeout=timeout_s,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(results)}},
    )
    client.execute()
    notebook.cells = notebook.cells[1 : 1 + count]
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count = number
    return notebook


def readable_without_running(notebook: NotebookNode) -> NotebookNode:
    """The same without what shows nothing on a code host: controls, whose answers stand below them anyway.

    Nor does it say which Python executed it: that would change with every machine.
    """
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
    return notebook
