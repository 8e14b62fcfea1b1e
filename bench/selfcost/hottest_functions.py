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
FEW = 8
_LINE_CHARS = 80
_PREFIX = re.compile(r"/\S*(?=/site-packages/|/python3\.\d+/|/servers/|/clients/|/bench/)")
# A line of pstats' table: calls, seconds in the function itself, three more numbers, the function.
_ROW = re.compile(r"^ *\d+(?:/\d+)? +(\d+\.\d+) +\S+ +\S+ +\S+ (.+)$", re.MULTILINE)
_OF_THE_START = re.compile(r"marshal|importlib|_imp\.|builtins\.(compile|exec|__build_class__)|/re/|_ssl")  # imports
_TOTAL = re.compile(r"function calls.* in (\d+\.\d+) seconds")


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


def shares(table: str, functions: int = FEW) -> list[str]:
    """The first rows of a `hottest_functions` table, without imports: each as a share of all CPU, in 80 columns."""
    total = _TOTAL.search(table)
    total_s = float(total[1]) if total else 0.0
    if not total_s:
        return ["  no CPU time was counted"]
    rows = [row for row in _ROW.findall(table) if not _OF_THE_START.search(row[1])]
    return [
        f"{float(own_s) / total_s:6.0%}  {function.lstrip('/')}"[:_LINE_CHARS] for own_s, function in rows[:functions]
    ]
