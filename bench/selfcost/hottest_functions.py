"""Where the CPU of a client, a server or the proxy goes under the load of `make perf`: its hottest functions.

By cProfile, which charges every call, so that small functions look larger than they are: good for the order only.
What uvloop and the kernel take for reading and writing stands with the function that called them, or with the loop's
`run`.
"""

from __future__ import annotations

import io
import pstats
import re
import tempfile
from pathlib import Path

from bench.selfcost.loaded_server import run_load
from bench.selfcost.proxy_cost import ProxyCost, measure_proxy
from bench.selfcost.transport_cost import SteadyTraffic

FUNCTIONS = 25
_PREFIX = re.compile(r"/\S*(?=/site-packages/|/python3\.\d+/|/servers/|/clients/|/bench/)")


def hottest_functions(role: str, transport: str, traffic: SteadyTraffic, functions: int = FUNCTIONS) -> str:
    """A table of the functions that `role` (client, server, proxy) spent most in, itself. Raises ChildError.

    The proxy's traffic is SSE, whatever `transport` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile"
        if role == "proxy":
            measure_proxy(ProxyCost(), traffic, profile)
        else:
            profiles = {"client": profile} if role == "client" else {"server": profile}
            run_load(transport, traffic.load, traffic.stream(traffic.tokens), profiles=profiles)  # type: ignore[arg-type]
        text = io.StringIO()
        pstats.Stats(str(profile), stream=text).sort_stats("tottime").print_stats(functions)
    return _PREFIX.sub("", text.getvalue())
