"""One user whose every read is stamped again when it is decoded: for the waterfall.

    python -m bench.calibration.waterfall_client < job.json

Prints `{"tokens": [[i, due, sent, read, decoded], …], "failed": [why, …]}`, message after message (ns).
"""

from __future__ import annotations

import sys
import time

import msgspec

from bench.calibration.json_lines import print_line
from clients.core.exchange import Question
from clients.core.record import Outcome, StreamRecord
from clients.core.session import Session
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers.process import run
from servers.stream import StreamSpec, build

_TIMEOUT_S = 30.0


class WaterfallJob(msgspec.Struct, forbid_unknown_fields=True):
    """`messages` answers of `stream`, one after the other."""

    transport: str
    url: str
    messages: int
    stream: dict[str, object]
    interval_s: float


class TappedSession(Session):
    """Knows of each read, by its stamp, when what it brought was decoded and entered."""

    def __init__(self, settings: ClientSettings) -> None:
        super().__init__(settings)
        self.decoded_ns: dict[int, int] = {}

    def received(self, data: bytes, read_ns: int) -> bool:
        """See Session."""
        has_work = super().received(data, read_ns)
        self.decoded_ns[read_ns] = time.monotonic_ns()
        return has_work


async def ask_all(job: WaterfallJob) -> tuple[list[StreamRecord], dict[int, int]]:
    """The records, and by the stamps of reads those of their decoding."""
    settings = ClientSettings(job.url, interval_s=job.interval_s)
    user = AioClient(job.transport, settings)
    user.session = session = TappedSession(settings)
    records = []
    for seed in range(job.messages):
        answer = build(StreamSpec.parse(job.stream), seed)
        name = f"waterfall-{seed}"
        records.append(
            await user.ask(Question(name, seed, job.stream, answer, time.monotonic_ns(), timeout_s=_TIMEOUT_S))
        )
    await user.close()
    return records, session.decoded_ns


def main() -> None:
    """Do the job on standard input. Raises ValueError if it is none."""
    records, decoded_ns = run(ask_all(msgspec.json.decode(sys.stdin.buffer.read(), type=WaterfallJob)))
    failed = [f"{record.outcome}: {record.detail}" for record in records if record.outcome is not Outcome.OK]
    tokens = [
        (i, due, sent, read, decoded_ns[read])
        for record in records
        for i, due, sent, read in zip(record.i, record.due_ns, record.sent_ns, record.received_ns, strict=True)
    ]
    print_line({"tokens": tokens, "failed": failed})


if __name__ == "__main__":
    main()
