"""The clients under test, driven as the load process drives them, on the golden server.

    python -m bench.calibration.golden_client < job.json

Prints one line, per stream the stamps of its tokens: `{"received": {name: [ns of token 0, …]}, "failed": [why, …]}`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from array import array

import msgspec

from bench.calibration.golden_formats import golden_texts
from bench.calibration.json_lines import print_line
from clients.core.exchange import Question
from clients.core.record import Outcome, StreamRecord
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers.process import run
from servers.stream import Schedule

_WARMUP_TOKENS = 5
_TIMEOUT_S = 30.0
_PATIENCE = 4.0  # a message's limit, in times its own length


class ClientJob(msgspec.Struct, forbid_unknown_fields=True):
    """`streams` users at once, each asking `messages` times for `tokens` tokens, `gap_ms` apart.

    They begin within `spread_s`: the error of a crowd that asks in one moment is the crowd's.
    """

    transport: str
    url: str
    streams: int
    messages: int
    tokens: int
    gap_ms: float
    interval_s: float
    spread_s: float


async def ask_all(job: ClientJob) -> list[StreamRecord]:
    """All messages of all users; each user's first, short answer warms up, and is not returned."""
    settings = ClientSettings(job.url, interval_s=job.interval_s)
    users = [AioClient(job.transport, settings) for _ in range(job.streams)]
    await asyncio.gather(*(_ask(user, job, f"warm-{job.streams}-{k}", _WARMUP_TOKENS) for k, user in enumerate(users)))
    gc.collect()
    gc.freeze()
    gc.disable()
    found = await asyncio.gather(*(_converse(user, job, k) for k, user in enumerate(users)))
    await asyncio.gather(*(user.close() for user in users))
    return [record for records in found for record in records]


async def _converse(user: AioClient, job: ClientJob, number: int) -> list[StreamRecord]:
    await asyncio.sleep(job.spread_s * number / job.streams)
    names = [f"golden-{job.streams}-{number}-{turn}" for turn in range(job.messages)]
    return [await _ask(user, job, name, job.tokens) for name in names]


async def _ask(user: AioClient, job: ClientJob, name: str, tokens: int) -> StreamRecord:
    schedule = Schedule(golden_texts(tokens), array("q", [round(i * job.gap_ms * 1e6) for i in range(tokens)]))
    timeout_s = _TIMEOUT_S + _PATIENCE * tokens * job.gap_ms / 1e3
    question = Question(name, 1, {"tokens": tokens}, schedule, time.monotonic_ns(), timeout_s=timeout_s)
    return await user.ask(question)


def main() -> None:
    """Do the job on standard input. Raises ValueError if it is none."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=ClientJob)
    records = run(ask_all(job))
    failed = [f"{record.outcome}: {record.detail}" for record in records if record.outcome is not Outcome.OK]
    received = {record.stream_id: record.received_ns.tolist() for record in records}
    print_line({"received": received, "failed": failed[:3]})


if __name__ == "__main__":
    main()
