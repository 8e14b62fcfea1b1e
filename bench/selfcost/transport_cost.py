"""What a client and a server of each transport spend on a token, beside the floors; and on a request, apart."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field

import numpy as np

from bench.running.machine import pinning
from bench.selfcost.child_process import ChildError, running
from bench.selfcost.loaded_server import Loaded, LoadedRole, run_load
from clients.job import Load

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class SteadyTraffic:
    """So many answers side by side, started within a second, each so many tokens a second for so long."""

    streams: int = 200
    tokens_per_s: int = 50
    seconds: float = 5.0

    @property
    def tokens(self) -> int:
        """Tokens of one answer."""
        return max(1, round(self.tokens_per_s * self.seconds))

    @property
    def load(self) -> Load:
        """For the load process."""
        return Load(
            arrivals="constant",
            streams=self.streams,
            rate_per_s=self.streams,
            warmup_streams=0,
            timeout_s=self.seconds + _TIMEOUT_S,
        )

    def stream(self, tokens: int, ttft_ms: float = 500) -> dict[str, object]:
        """An answer of so many tokens."""
        gap_ms = 1000 / self.tokens_per_s
        return {
            "profile": "fast", "tokens": tokens, "ttft_ms": ttft_ms, "ttft_sigma": 0.3, "gap_ms": gap_ms,
            "gap_sigma": 0.1,
        }  # fmt: skip

    @property
    def arguments(self) -> tuple[str, str, str]:
        """For a bare server or source."""
        return str(self.streams), str(self.tokens_per_s), str(self.seconds)

    @property
    def limit_s(self) -> float:
        """A bare client that has not ended after so long hangs."""
        return self.seconds + _TIMEOUT_S


@dataclass
class Floor:
    """Repeated CPU µs per token of the bare client and of the bare server, both with what a request takes them."""

    client_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)


@dataclass
class TransportCost:
    """Repeated figures of one transport: CPU in µs, times in ms. `ttft_error_ms`: first tokens, received after due.

    `floor`: of the same moments, so that a ratio compares neighbours: what a token costs can double within minutes.
    """

    client_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    ttft_error_ms: list[float] = field(default_factory=list)
    emit_lag_ms_p99: list[float] = field(default_factory=list)
    server_parts: list[Parts] = field(default_factory=list)
    floor: Floor = field(default_factory=Floor)
    decoding_us: list[float] = field(default_factory=list)  # SSE: of the client's parser, decoder and ledger alone


@dataclass(frozen=True)
class Parts:
    """CPU of a server, its two parts: µs per request, and µs for each further token."""

    us_per_request: float
    us_per_token: float


def measure_floors(floor: Floor, traffic: SteadyTraffic) -> None:
    """Once: the bare client against the SSE server, then the bare server read by the bare client.

    So each side's floor has what it is compared with at the other end: the client's the moments at which real answers
    come (a bare server's tokens are evenly spread, which spares its reader many a turn of its event loop).

    Raises ChildError unless every token comes.
    """
    cores = pinning()["servers"]
    with running("servers", "sse", cores=cores) as server:
        floor.client_us.append(_read_barely("client", server.line_with("url")["url"], traffic))
    with running("bench.selfcost.bare_peers", "server", *traffic.arguments, cores=cores) as server:
        url, before_s = server.line_with("url")["url"], server.cpu_s()
        _read_barely("client", url, traffic)
        floor.server_us.append((server.cpu_s() - before_s) / (traffic.streams * traffic.tokens) * 1e6)


def _read_barely(role: str, url: str, traffic: SteadyTraffic) -> float:
    """CPU µs per token of a bare client, or of one that decodes."""
    body = json.dumps({"message": "floor", "stream": traffic.stream(traffic.tokens)})
    asked = role, url, str(traffic.streams), body
    with running("bench.selfcost.bare_peers", *asked, cores=pinning()["load"]) as client:
        count = client.line_with("tokens", traffic.limit_s)
    if count["tokens"] != traffic.streams * traffic.tokens:
        raise ChildError(f"the bare {role} counted {count['tokens']} tokens of {traffic.streams * traffic.tokens}")
    return float(count["cpu_s"] / count["tokens"] * 1e6)


def measure_transport(name: str, cost: TransportCost, traffic: SteadyTraffic, seed: int = 0) -> None:
    """Once: the floors; straight after them long answers, nearly all tokens; five times as many short ones, nearly all
    requests.
    """
    measure_floors(cost.floor, traffic)
    long = run_load(name, traffic.load, traffic.stream(traffic.tokens), seed=seed)
    if name == "sse":
        with running("servers", name, cores=pinning()["servers"]) as server:
            cost.decoding_us.append(_read_barely("decoder", server.line_with("url")["url"], traffic))
    short_load = traffic.load
    short_load.streams *= 5
    short = run_load(name, short_load, traffic.stream(max(1, traffic.tokens // 50), ttft_ms=100), seed=seed)
    cost.client_us.append(long.cpu_us_per_token("client"))
    cost.server_us.append(long.cpu_us_per_token("server"))
    cost.emit_lag_ms_p99.append(long.emit_lag_ms_p99)
    first = long.i == 0
    cost.ttft_error_ms += list((long.received_ns - long.due_ns)[first] / 1e6)
    cost.server_parts.append(apart(long, short))


def apart(long: Loaded, short: Loaded, role: LoadedRole = "server") -> Parts:
    """Per request and per token: two runs are two equations, CPU = requests × a + tokens × b."""
    counts = [[run.messages, run.tokens] for run in (long, short)]
    spent_us = [run.cpu_us_per_token(role) * run.tokens for run in (long, short)]
    per_request, per_token = np.linalg.solve(counts, spent_us)
    return Parts(float(per_request), float(per_token))


def medians(parts: list[Parts]) -> Parts:
    """The median of each part."""
    return Parts(
        statistics.median(part.us_per_request for part in parts), statistics.median(part.us_per_token for part in parts)
    )
