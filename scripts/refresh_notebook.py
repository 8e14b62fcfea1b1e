"""Execute results/review.ipynb on the reference run and keep its outputs: `python scripts/refresh_notebook.py`.

To be run after a change to the notebook, to what it calls, or to the reference run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import nbformat

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests"))
from support.notebooks import NOTEBOOK, execute, readable_without_running  # noqa: E402  # found by the line above


def main() -> None:
    """Write the notebook back."""
    argparse.ArgumentParser(description=__doc__).parse_args()  # who asks for help wants nothing written
    with tempfile.TemporaryDirectory() as results:
        (Path(results) / "reference").symlink_to(PROJECT / "results" / "reference", target_is_directory=True)
        notebook = readable_without_running(execute(Path(results)))
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK.relative_to(PROJECT)}: {NOTEBOOK.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
