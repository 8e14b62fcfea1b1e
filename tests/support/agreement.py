"""Do Locust's users see what the asyncio client sees? Both ask the same server, in turns, one transport at a time.

    python tests/support/agreement.py --users 50 --rounds 3

Prints first-token overhead and token delay of both at p50 and p99, and their differences, over the answers that both
have asked for. Each user's first message is left out: there, both open all connections at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.processes import running_server

from clients.job import Job, Load
from servers.transport import STREAMING, TRANSPORTS

TOKENS, GAP_MS = 60, 12
# Polling: with an interval the delay is the polls' phase, which hides everything else; so polls are held. Each token
# then costs a request, so there are fewer: a machine at its limit would tell nothing of the clients.
POLLING_TOKENS, POLLING_GAP_MS = 20, 60
WAIT_S = 20.0
THINK_S = 0.5
QUANTITIES = {"ttft_ms": "first token's overhead", "delay_ms": "token delay"}
LOCUSTFILE = Path(__file__).parents[2] / "clients" / "locustfile.py"


@dataclass
class Seen:
    """What one kind of client saw of some messages, by the messages' numbers; a number is the same answer for both."""

    ttft_ms: dict[int, float]
    delay_ms: dict[int, list[float]]

    @classmethod
    def of(cls, streams: pd.DataFrame, tokens: pd.DataFrame, first: Sequence[str]) -> Seen:
        """All messages but those named in `first`."""
        assert (streams["outcome"] == "ok").all(), streams["detail"].unique()
        streams = streams[~streams["stream_id"].isin(first)].set_index("stream_id")
        overhead_ns = streams["first_token_ns"] - streams["intended_start_ns"] - streams["ttft_scheduled_ns"]
        tokens = tokens[tokens["stream_id"].isin(streams.index)]
        delays = ((tokens["received_ns"] - tokens["due_ns"]) / 1e6).groupby(tokens["stream_id"].astype(str))
        return cls(
            {_number(name): ns / 1e6 for name, ns in overhead_ns.items()},
            {_number(name): part.tolist() for name, part in delays},
        )


def _number(stream_id: object) -> int:
    return int(str(stream_id).rpartition("-")[2])


@dataclass(frozen=True)
class Difference:
    """One quantile of one quantity, by both clients (ms)."""

    transport: str
    what: str
    p: float
    locust_ms: float
    asyncio_ms: float

    @property
    def ms(self) -> float:
        """Locust minus asyncio."""
        return self.locust_ms - self.asyncio_ms

    @property
    def limit_ms(self) -> float:
        """The project's own demand: p50 within 1 ms, p99 within 5 ms."""
        return 1.0 if self.p == 0.5 else 5.0

    @property
    def holds(self) -> bool:
        """Whether it is met."""
        return abs(self.ms) <= self.limit_ms

    @property
    def line(self) -> str:
        """A line of the table."""
        what = f"{self.transport:<10} {self.what:<22} p{100 * self.p:<3.0f}"
        figures = f"{self.locust_ms:9.3f} {self.asyncio_ms:9.3f} {self.ms:+11.3f} {self.limit_ms:6.0f}"
        return f"{what} {figures}  {'pass' if self.holds else 'FAIL'}"


def stream_of(transport: str) -> dict[str, object]:
    """The answers' length and pace."""
    tokens, gap_ms = (POLLING_TOKENS, POLLING_GAP_MS) if TRANSPORTS[transport].pulls else (TOKENS, GAP_MS)
    return {"profile": "hosted", "tokens": tokens, "gap_ms": gap_ms}


def ask_with_locust(transport: str, url: str, users: int, seconds: float, seed: int) -> Seen:
    """Locust's users of one transport, headless in one process."""
    stream = stream_of(transport)
    parameters = f"tokens={stream['tokens']} gap_ms={stream['gap_ms']}"
    with tempfile.TemporaryDirectory() as results:
        words = ["-f", LOCUSTFILE, TRANSPORTS[transport].user_class, "--headless"]
        words += ["-u", users, "-r", 100, "-t", f"{seconds:g}s"]
        words += [f"--{transport}-url", url, "--stream-parameters", parameters]
        words += ["--seed", seed, "--think-time", THINK_S, "--poll-wait", WAIT_S]
        words += ["--results-dir", results, "--only-summary", "--skip-report"]
        subprocess.run([sys.executable, "-m", "locust", *map(str, words)], check=True, capture_output=True, timeout=120)
        folder = Path(results) / "latest"
        streams, tokens = (pd.read_parquet(folder / f"{table}.parquet") for table in ("streams", "tokens"))
    return Seen.of(streams, tokens, streams.nsmallest(users, "intended_start_ns")["stream_id"].tolist())


def ask_with_asyncio(transport: str, url: str, users: int, turns: int, seed: int) -> Seen:
    """The same by the asyncio client, as a closed loop of as many users. Block 0 has the answers of worker 0."""
    load = Load(arrivals="closed", streams=users * turns, concurrency=users, think_s=THINK_S, warmup_streams=0)
    with tempfile.TemporaryDirectory() as results:
        prefix = f"{results}/cell"
        variant: dict[str, object] = {"wait": WAIT_S} if TRANSPORTS[transport].pulls else {}
        job = Job(
            transport=transport,
            url=url,
            out=prefix,
            block=0,
            cell=transport,
            seed=seed,
            load=load,
            stream=stream_of(transport),
        )
        job.variant = variant
        command = [sys.executable, "-m", "clients.load"]
        subprocess.run(command, input=msgspec.json.encode(job), check=True, capture_output=True, timeout=120)
        streams, tokens = (pd.read_parquet(f"{prefix}.{table}.parquet") for table in ("streams", "tokens"))
    return Seen.of(streams, tokens, streams[streams["turn"] == 0]["stream_id"].tolist())


def compare(transport: str, users: int, rounds: int, seconds: float) -> Iterator[Difference]:
    """Ask in turns, so that whatever else the machine does meets both."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    turns = max(2, round(seconds / (0.6 + TOKENS * GAP_MS / 1000 + THINK_S)))
    with running_server(transport) as server:
        for seed in range(rounds):
            by_asyncio = ask_with_asyncio(transport, server.url, users, turns, seed)
            by_locust = ask_with_locust(transport, server.url, users, seconds, seed)
            common = sorted(by_asyncio.ttft_ms.keys() & by_locust.ttft_ms.keys())
            if not common:
                raise RuntimeError("both have no answer in common beyond the users' first: give more --seconds")
            for who, seen in (("asyncio", by_asyncio), ("locust", by_locust)):
                values[who, "ttft_ms"] += [seen.ttft_ms[k] for k in common]
                values[who, "delay_ms"] += chain.from_iterable(seen.delay_ms[k] for k in common)
    for what, title in QUANTITIES.items():
        for p in (0.5, 0.99):
            a, b = (float(np.quantile(values[who, what], p)) for who in ("locust", "asyncio"))
            yield Difference(transport, title, p, a, b)


def main() -> int:
    """Print the table; 1 if a difference is larger than demanded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--transports", nargs="+", choices=STREAMING, default=STREAMING)
    options = parser.parse_args()
    print(f"{'transport':<10} {'what, ms':<22} {'':<4} {'Locust':>9} {'asyncio':>9} {'difference':>11} {'limit':>6}")
    held = True
    for transport in options.transports:
        for found in compare(transport, options.users, options.rounds, options.seconds):
            held &= found.holds
            print(found.line, flush=True)
    print("all within the limits" if held else "NOT all within the limits")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
