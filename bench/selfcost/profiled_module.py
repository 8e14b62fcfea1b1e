"""`python -m bench.selfcost.profiled_module FILE MODULE ARGUMENTS`: MODULE as `python -m` runs it, under cProfile.

Unlike `python -m cProfile` it counts CPU time, not time: an event loop that waits costs nothing.
"""

from __future__ import annotations

import cProfile
import runpy
import sys
import time


def main(arguments: list[str]) -> None:
    """Run the module; the findings are in the file when it has ended, however it did."""
    file, module, *rest = arguments
    sys.argv = [module, *rest]
    profile = cProfile.Profile(time.process_time)
    try:
        profile.runcall(runpy.run_module, module, run_name="__main__", alter_sys=True)
    finally:
        profile.dump_stats(file)


if __name__ == "__main__":
    main(sys.argv[1:])
