"""Users who ask a message and judge its answer, with the harness's own client."""

from __future__ import annotations

import time

from bench.soak.bounds import ANSWER_S
from bench.soak.subject import Subject
from clients.core.exchange import Question
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Mode, Policy
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers.stream import StreamSpec, build

_SHORT: dict[str, object] = {"profile": "fast", "tokens": 20, "ttft_ms": 20, "gap_ms": 5}


async def ask_as_user(
    subject: Subject,
    stream: dict[str, object],
    stream_id: str,
    *,
    seed: int = 0,
    mode: Mode = "none",
    timeout_s: float,
) -> StreamRecord:
    """One message and what became of it."""
    policy = Policy(mode, base_s=0.1, cap_s=1.0, attempts=40)
    client = AioClient(subject.transport, ClientSettings(subject.url, recovery=policy, interval_s=0.1, wait_s=1.0))
    schedule = build(StreamSpec.parse(stream), seed)
    try:
        return await client.ask(
            Question(stream_id, seed, stream, schedule, time.monotonic_ns(), timeout_s=timeout_s),
        )
    finally:
        await client.close()


async def not_served(subject: Subject, when: str) -> list[str]:
    """Ask a short message; a sentence if its answer did not come whole and soon."""
    record = await ask_as_user(subject, _SHORT, f"well-{time.monotonic_ns()}", timeout_s=2 * ANSWER_S)
    took_s = (record.end_ns - record.intended_start_ns) / 1e9
    if record.outcome is not Outcome.OK:
        return [f"{when}, another user's message: {record.outcome} {record.detail}".rstrip()]
    return [f"{when}, another user's message took {took_s:.1f} s, {ANSWER_S:g} s allowed"] if took_s > ANSWER_S else []
