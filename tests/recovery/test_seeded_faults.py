"""Over 10,000 answers, cut at every byte offset, sliced, delayed, reset or left alone: each must be told for what
it is.

A failure names its faults. To see one alone: TOKENDERBY_FAULT="sse 512 rst 7 0.0" pytest tests/recovery -k seeded
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from random import Random

import pytest
import uvloop
from support import own_client
from support.asking import question
from support.cutting import cutting
from support.drivers import AsyncUser
from support.faults import Fault, How, Replay, every_fault
from support.recordings import Hazards, Recording
from support.scripted import scripted
from support.transports import KNOWN, has_end

from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Policy
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers.stream import Schedule
from servers.transport import TRANSPORTS

SEED = 20261124
UNTOUCHED = 400  # whole answers between the others, of each transport
USERS = 20
STEP_BYTES = 17  # shares no factor with what repeats in the bytes
QUICK = Policy("resume", base_s=0.01)
MakeClient = Callable[..., AsyncUser]
ALONE = os.environ.get("TOKENDERBY_FAULT")


def complaint(fault: Fault, recording: Recording, record: StreamRecord) -> str:
    """What the client got wrong, or nothing."""
    if fault.is_fatal(recording):
        expected = Outcome.DROPPED if fault.how == "rst" else Outcome.TRUNCATED
        noticed = [fault.how]
    else:
        expected, noticed = Outcome.OK, []
    seen = (record.outcome, record.noticed_by, record.drops, record.tokens_received, record.tokens_duplicated)
    if seen == (expected, noticed, len(noticed), fault.tokens(recording), 0):
        return ""
    kind = "miss" if record.outcome is Outcome.OK else "false alarm" if expected is Outcome.OK else "other"
    return f"{kind}: {fault.words()}: {seen}, {record.detail}; should be {expected}, {fault.tokens(recording)} tokens"


async def ask_all(recording: Recording, answer: Schedule, faults: list[Fault]) -> list[str]:
    """Let some users ask, each with a server of its own; what was told wrongly."""
    wrong: list[str] = []
    left: Iterator[Fault] = iter(faults)

    async def user() -> None:
        replay = Replay(recording, faults[0])
        async with scripted(replay.script) as server:
            client = AioClient(recording.transport, ClientSettings(server.url, interval_s=0))
            for fault in left:
                if fault.offset is not None and fault.offset < recording.starts[1]:
                    await client.close()  # a WebSocket shakes hands once
                replay.fault = fault
                record = await client.ask(question(answer, timeout_s=60))
                wrong.extend(filter(None, [complaint(fault, recording, record)]))
                if fault.offset is not None:
                    await client.close()  # behind a complete answer, the next must not race with the cut
            await client.close()

    await asyncio.gather(*(user() for _ in range(min(USERS, len(faults)))))
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("transport", [*TRANSPORTS])
def test_seeded_faults(transport: str, hazards: Hazards) -> None:
    recording = hazards.recording(transport)
    faults = every_fault(recording, Random(f"{SEED}/{transport}"), UNTOUCHED)
    if ALONE:
        faults = [fault for fault in [Fault.of_words(ALONE)] if fault.transport == transport]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        wrong = runner.run(ask_all(recording, hazards.answer, faults)) if faults else []
    assert not wrong, f"{len(wrong)} of {len(faults)}:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("transport", [name for name in KNOWN if name != "websocket"])  # its handshake has one key
def test_a_client_hears_what_the_patterns_say(transport: str, hazards: Hazards) -> None:
    """So that a transport whose bytes nobody has written down is judged alike."""
    recording = hazards.recording(transport)
    heard = own_client.hear(transport, b"".join(recording.responses))
    assert ([*heard.received_ns], heard.end_ns) == (recording.token_ends, recording.complete)
    assert not has_end(transport, b"".join(recording.responses)[: recording.complete - 1])


def test_there_are_ten_thousand(hazards: Hazards) -> None:
    recordings = map(hazards.recording, TRANSPORTS)
    assert sum(len(every_fault(recording, Random(0), UNTOUCHED)) for recording in recordings) >= 10_000


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("transport", [*TRANSPORTS])
async def test_resuming_from_every_so_many_bytes(
    client: MakeClient, transport: str, how: How, hazards: Hazards
) -> None:
    """Through the real server: nothing lost, nothing repeated, and as many drops as cuts were made."""

    async def ask(offset: int) -> str:
        asked = question(hazards.answer, stream_id=f"{how}-{offset}", stream=hazards.stream, timeout_s=60)
        async with cutting(transport, hazards.urls[transport], [offset], how) as cutter:
            record = await client(transport, cutter.url, interval_s=0.01, recovery=QUICK).ask(asked)
        seen = (record.outcome, record.tokens_lost, record.tokens_duplicated, record.text_ok, record.noticed_by)
        right = (Outcome.OK, 0, 0, True, [how] * cutter.fatal)
        return "" if seen == right else f"{offset}: {seen} {record.detail}; should be {right}"

    total = hazards.recording(transport).total
    wrong = [*filter(None, await asyncio.gather(*map(ask, range(0, total, STEP_BYTES))))]
    assert not wrong, "\n".join(wrong[:20])
