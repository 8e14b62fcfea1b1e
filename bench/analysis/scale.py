"""The analysis' own cost: seconds and memory for a run of ten million token rows.

`python -m bench.analysis.scale` makes such a run, analyses it in a process of its own and prints one JSON line. The
targets are 20 s and 2 GiB.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from bench.analysis.report import write_report
from bench.analysis.synthetic import FIELD, synthetic_run
from bench.store import RunFolder

ROWS = 10_000_000
BLOCKS = 20
TOKENS = 120  # the median; the mean is 8 % more


class Cost(msgspec.Struct, frozen=True):
    """What analysing `rows` token rows took, charts and page included."""

    rows: int
    seconds: float
    peak_mib: float


def measure_cost(rows: int = ROWS) -> Cost:
    """Make a run of about `rows` token rows and analyse it in a fresh process, whose peak memory is then its own."""
    with tempfile.TemporaryDirectory() as scratch:
        messages = max(1, round(rows / (BLOCKS * len(FIELD) * TOKENS * 1.08)))
        folder = synthetic_run(Path(scratch), blocks=BLOCKS, messages=messages, tokens=TOKENS)
        command = [sys.executable, "-m", "bench.analysis.scale", str(folder.path)]
        done = subprocess.run(command, check=True, capture_output=True)
        return msgspec.json.decode(done.stdout, type=Cost)


def _analyse(folder: RunFolder) -> Cost:
    rows = pq.read_metadata(folder.tokens_path).num_rows
    begun = time.perf_counter()
    write_report(folder)
    seconds = time.perf_counter() - begun
    # Linux counts in KiB, macOS in bytes.
    unit = 1024 if sys.platform != "darwin" else 1
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Cost(rows, round(seconds, 2), round(peak_bytes / 2**20, 1))


if __name__ == "__main__":
    found = _analyse(RunFolder(Path(sys.argv[1]))) if len(sys.argv) > 1 else measure_cost()
    print(json.dumps(msgspec.to_builtins(found)))
