"""The analysis' own cost: seconds and memory for a run of ten million token rows.

`python -m bench.selfcost.analysis_cost RUN` analyses that run and prints one JSON line.
"""

from __future__ import annotations

import re
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
    """Make a run of about `rows` token rows and analyse it in a fresh process.

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
    return AnalysisCost(rows, round(seconds, 2), round(peak_bytes() / 2**20, 1))


def peak_bytes() -> int:
    """The most memory that this program has had. Linux's ru_maxrss would know no less than what started it had then."""
    status = Path("/proc/self/status")  # proc_pid_status(5)
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes


if __name__ == "__main__":
    print(msgspec.json.encode(_analyse(RunFolder(Path(sys.argv[1])))).decode(), flush=True)
