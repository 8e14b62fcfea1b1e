"""Become another program that does not outlive the runner: `python -m bench.running.child RUNNER_PID CPUS -- ARGV`.

What a process may do for itself between its birth and its real program is done here, instead of in the runner, which
has threads. CPUS is a comma-separated list of cores to stay on, or `-`. Children inherit the cores.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, pin it, and become ARGV."""
    runner_pid, cpus, _, *argv = arguments
    if sys.platform == "linux":
        # SIGTERM, so that the polling server can still stop the Redis that it started.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(runner_pid):
            sys.exit("the runner has gone")
        if cpus != "-":
            os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    os.execvp(argv[0], argv)  # noqa: S606 - the runner's own command


if __name__ == "__main__":
    main(sys.argv[1:])
