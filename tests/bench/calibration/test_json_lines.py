"""A line that is longer than a pipe, and a signal while it waits for room."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import msgspec

PROGRAM = """
import signal
from bench.calibration.json_lines import print_line
signal.signal(signal.SIGALRM, lambda *_: None)
print("{}", flush=True)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
print_line({"numbers": list(range(100_000))})
"""


def test_a_signal_does_not_cut_a_long_line() -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"{}\n"
        time.sleep(0.4)  # the pipe is full, and signals come
        assert msgspec.json.decode(process.stdout.readline()) == {"numbers": list(range(100_000))}
