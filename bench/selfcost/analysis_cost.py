"""The analysis' own cost: seconds and memory for a run of ten million token rows.

`python -m bench.selfcost.analysis_cost RUN` analyses that run and prints one JSON line.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from bench.analysis.report.report import write_report
from bench.analysis.synthetic import FIELD, synthetic_run
from bench.selfcost.child_process import running
from bench.store import RunFolder

ROWS = 10_000_000
BLOCKS = 20
TOKENS = 120  # the median; the mean is 8 % more
_LIMIT_S = 600.0


class AnalysisCost(msgspec.Struct, frozen=True):
    """What analysing `rows` token rows took, charts and page included."""

    rows: int
    seconds: float
    peak_mib: float


def measure_analysis(rows: int = ROWS) -> AnalysisCost:
    """Make a run of about `rows` token rows and analyse it in a fresh process, whose peak memory is then its own.

    Raises ChildError.
    """
    with tempfile.TemporaryDirectory() as scratch:
        messages = max(1, round(rows / (BLOCKS * len(FIELD) * TOKENS * 1.08)))
        folder = synthetic_run(Path(scratch), blocks=BLOCKS, messages=messages, tokens=TOKENS)
        with running("bench.selfcost.analysis_cost", str(folder.path)) as child:
            return msgspec.convert(child.line(_LIMIT_S), AnalysisCost)


def _analyse(folder: RunFolder) -> AnalysisCost:
    rows = pq.read_metadata(folder.tokens_path).num_rows
    begun = time.perf_counter()
    write_report(folder)
    seconds = time.perf_counter() - begun
    # Linux counts in KiB, macOS in bytes.
    unit = 1024 if sys.platform != "darwin" else 1
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return AnalysisCost(rows, round(seconds, 2), round(peak_bytes / 2**20, 1))


if __name__ == "__main__":
    print(msgspec.json.encode(_analyse(RunFolder(Path(sys.argv[1])))).decode(), flush=True)
