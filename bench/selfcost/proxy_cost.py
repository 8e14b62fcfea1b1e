"""What the timeout proxy spends on a token that it follows as HTTP, beside a bare pump; and the delay that it adds.

A source, what stands between, and a sink are processes of their own: the one between has a core for itself.
`python -m bench.selfcost.proxy_cost URL` is the proxy, which says at its end where the HTTP on each connection stood.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.proxy.profile import load_profile
from bench.proxy.serve import Proxy
from bench.running.machine import pinning
from bench.selfcost.child_process import ChildError, MeasuredChild, running
from bench.selfcost.transport_cost import SteadyTraffic
from servers.process import run

PROFILE = "aws-alb"  # follows HTTP and has timers, as most do
_FOLLOWED = "idle"  # the phase after a whole response; one fault in its framing, and it is "tunnel" for good


@dataclass
class ProxyCost:
    """Repeated figures: CPU µs per token of the proxy and of the bare pump; quantiles of the delay in ms."""

    proxy_us: list[float] = field(default_factory=list)
    pump_us: list[float] = field(default_factory=list)
    direct_ms: list[tuple[float, float]] = field(default_factory=list)  # p50, p99, with nothing between
    proxied_ms: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Passed:
    delay_ms: tuple[float, float]  # p50, p99
    us_per_token: float = 0.0


def measure_proxy(cost: ProxyCost, traffic: SteadyTraffic, profile: Path | None = None) -> None:
    """Once: nothing between, the pump, the proxy. `profile`: a file for cProfile's findings in the proxy.

    Raises ChildError if the proxy did not follow the HTTP of every stream to its end.
    """
    cores = pinning()
    with running("bench.selfcost.bare_peers", "source", *traffic.arguments, cores=cores["load"]) as source:
        url = source.line_with("url")["url"]
        direct = _drain(url, traffic, cores["load"])
        with running("bench.selfcost.bare_peers", "pump", url, cores=cores["servers"]) as pump:
            pumped = _drain(pump.line_with("url")["url"], traffic, cores["load"], pump)
        with running("bench.selfcost.proxy_cost", url, cores=cores["servers"], profile=profile) as proxy:
            proxied = _drain(proxy.line_with("url")["url"], traffic, cores["load"], proxy, followed=True)
    cost.direct_ms.append(direct.delay_ms)
    cost.proxied_ms.append(proxied.delay_ms)
    cost.pump_us.append(pumped.us_per_token)
    cost.proxy_us.append(proxied.us_per_token)


def _drain(
    url: str,
    traffic: SteadyTraffic,
    cores: Sequence[int],
    between: MeasuredChild | None = None,
    *,
    followed: bool = False,
) -> _Passed:
    """Read all streams through `url`; what `between` spent on that. `followed`: it must tell that it followed HTTP."""
    before_s = between.cpu_s() if between else 0.0
    arguments = "sink", url, str(traffic.streams), "{}"
    with running("bench.selfcost.bare_peers", *arguments, cores=cores) as sink:
        read = sink.line_with("tokens", traffic.limit_s)
        spent_s = between.cpu_s() - before_s if between else 0.0
        if read["tokens"] != traffic.streams * traffic.tokens:
            raise ChildError(f"{read['tokens']} tokens came, of {traffic.streams * traffic.tokens}")
        if between and followed:
            between.terminate()  # now, while its connections are open
            check_phases(between.line_with("phases")["phases"], traffic.streams)
    return _Passed((read["delay_ms_p50"], read["delay_ms_p99"]), spent_s / read["tokens"] * 1e6)


def check_phases(phases: dict[str, int], streams: int) -> None:
    """Raise ChildError unless every stream's response was followed to its end."""
    if phases != {_FOLLOWED: streams}:
        raise ChildError(f"the proxy did not follow the HTTP of all {streams} streams: {phases}")


async def observed_proxy(upstream_url: str) -> None:
    """The proxy until SIGTERM; then says on how many of the open connections the HTTP stands where."""
    upstream = urlsplit(upstream_url)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Proxy((upstream.hostname or "", upstream.port or 80), load_profile(PROFILE).rules) as proxy:
        print(json.dumps({"url": f"http://127.0.0.1:{proxy.address[1]}"}), flush=True)
        await stop.wait()
        phases = Counter(relay.chain.phase for relay in proxy.relays)
    print(json.dumps({"phases": phases}), flush=True)


if __name__ == "__main__":
    run(observed_proxy(sys.argv[1]))
