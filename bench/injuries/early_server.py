"""`python -m bench.injuries.early_server sse`: a server up to `EARLY_NS` before its model's time, else as any."""

from __future__ import annotations

from time import monotonic_ns

from servers import emitter
from servers.__main__ import main

EARLY_NS = 3_000_000

if __name__ == "__main__":
    vars(emitter)["monotonic_ns"] = lambda: monotonic_ns() + EARLY_NS
    main(prog_name="early_server")
