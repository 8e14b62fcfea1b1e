"""A program of somebody else's that computes: `python -m bench.injuries.hog SECONDS [CORE]` prints its process id.

It is no child of who asked for it, as other people's programs are none, and ends by itself after SECONDS.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from signal import SIGKILL
from subprocess import PIPE, run

_MOST_S = 60  # longer than any run that is hurt by it


def main(seconds: str, core: str | None = None) -> None:
    """Leave a process behind that computes."""
    if pid := os.fork():
        print(pid, flush=True)
        return
    os.close(1)  # whoever reads the number waits for nothing more
    os.setsid()
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    end_s = time.monotonic() + float(seconds)
    while time.monotonic() < end_s:
        pass
    os._exit(0)


@contextmanager
def computing(cores: Sequence[int]) -> Iterator[None]:
    """Another program computes on the first of `cores` (on any, if there is none) until the context ends."""
    argv = [sys.executable, "-m", "bench.injuries.hog", str(_MOST_S), *map(str, cores[:1])]
    pid = int(run(argv, stdout=PIPE, text=True, check=True, timeout=_MOST_S).stdout)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
