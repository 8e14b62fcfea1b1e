"""Requests in the worst second: counted on paper, and of many clients that are cut at one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import msgspec
import pytest
from support.processes import RunningServer

from bench.proxy.serve import Proxy
from clients.bursts import worst_second
from clients.core.record import Outcome
from clients.job import Job
from clients.load import run_cell

S = 1_000_000_000


@pytest.mark.parametrize(
    ("seconds", "worst"),
    [([], 0), ([[]], 0), ([[5]], 1), ([[0, 1], [2]], 1), ([[0, 0.999], [0.5]], 3), ([[0.9], [3.2, 1.1], [1.8]], 3)],
)
def test_on_paper(seconds: list[list[float]], worst: int) -> None:
    assert worst_second([round(at * S) for at in message] for message in seconds) == worst


CLIENTS = 60
BACKOFF_S = 1.6
STREAM = {"ttft_ms": 20, "ttft_sigma": 0, "gap_ms": 60, "gap_sigma": 0, "tokens": 45}
LOAD = {
    "arrivals": "constant", "streams": CLIENTS, "rate_per_s": CLIENTS / BACKOFF_S, "warmup_streams": 0,
    "timeout_s": 30.0, "backoff_s": BACKOFF_S, "backoff_cap_s": 10.0,
}  # fmt: skip


async def burst(url: str, backoff: str, folder: Path) -> int:
    """The worst second of clients that begin one after the other, and are then all cut at one moment."""
    upstream = urlsplit(url)
    async with Proxy((upstream.hostname or "", upstream.port or 0), []) as proxy:
        document = {
            "transport": "chunked", "url": f"http://127.0.0.1:{proxy.address[1]}", "out": str(folder / backoff),
            "block": 1, "cell": backoff, "seed": 5, "stream": STREAM, "load": LOAD, "recovery": "resume",
            "variant": {"backoff": backoff},
        }  # fmt: skip
        running = asyncio.create_task(run_cell(msgspec.convert(document, Job), lambda done, of: None))
        while len(proxy.relays) < CLIENTS:
            await asyncio.sleep(0.01)
        for relay in list(proxy.relays):
            relay.note_end("proxy", monotonic(), "rst")
            relay.reset()
        records, result = await running
    assert [record.outcome for record in records] == [Outcome.OK] * CLIENTS
    assert sum(record.drops for record in records) == CLIENTS
    return result.requests_worst_second or 0


@pytest.mark.alone  # on a busy machine those who were spread over a second come late, and at once
async def test_constant_backoff_makes_those_who_were_cut_come_back_at_once(
    server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    """Full jitter spreads them over the first backoff."""
    url = server("chunked").url
    constant, jitter = await asyncio.gather(*(burst(url, word, tmp_path) for word in ("constant", "jitter")))
    assert constant >= 0.9 * CLIENTS
    assert jitter <= 0.87 * CLIENTS
