"""`python -m bench.injuries.slow_server sse`: a server whose model emits up to `TICK_NS` late, and is else as any."""

from __future__ import annotations

from servers import emitter
from servers.__main__ import main

TICK_NS = 60_000_000

if __name__ == "__main__":
    emitter.TICK_NS = TICK_NS
    main(prog_name="slow_server")
