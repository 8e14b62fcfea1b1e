"""Each process killed and started again, or stopped for a while, with answers under way: nothing lost, nothing left."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from typing import Literal

from bench.running.processes import PartDied
from bench.soak import bounds
from bench.soak.bounds import ServerCounts, SubjectRole
from bench.soak.subject import Subject, subject
from bench.soak.users import ask_as_user, not_served
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Mode
from servers.transport import TRANSPORTS

MESSAGES = 100
QUICK_MESSAGES = 10
EXPECTED_S = 15.0
_STREAM: dict[str, object] = {"profile": "fast", "tokens": 60, "ttft_ms": 50, "gap_ms": 50, "gap_sigma": 0}  # 3 s
_STRIKE_S = 1.2  # after the questions: every answer is under way
_AWAY_S = 0.5  # from a kill to the new start
_STOPPED_S = 2.0
_PATIENCE_S = 40.0  # a user's, for a whole message

How = Literal["kill -9", "STOP"]


@dataclass(frozen=True)
class Fault:
    """What happens to which process. `shared_redis`: Redis is no child of the server's. `mode`: what clients do."""

    transport: str
    role: SubjectRole
    how: How
    shared_redis: bool = False
    mode: Mode = "resume"


@dataclass
class FaultFinding:
    """What came of the messages that were under way. `broken` has a sentence for each bound that did not hold."""

    fault: Fault
    messages: int
    complete: int = 0
    tokens_lost: int = 0
    drops: int = 0
    after: ServerCounts | None = None
    end_s: dict[SubjectRole, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def faults_of(transport: str) -> list[Fault]:
    """All faults of one transport's processes; the proxy stands before it in each."""
    roles: list[SubjectRole] = ["server", "proxy"]
    hows: list[How] = ["kill -9", "STOP"]
    faults = [Fault(transport, role, how) for role in roles for how in hows]
    if not TRANSPORTS[transport].needs_redis:
        return faults
    # A stream whose server was killed is never finished in a Redis that lives on (docs/recovery.md): asked anew.
    faults.append(Fault(transport, "server", "kill -9", shared_redis=True, mode="restart"))
    return faults + [Fault(transport, "redis", how, shared_redis=True) for how in hows]


async def strike(fault: Fault, profile: str, messages: int) -> FaultFinding:
    """Let a fault happen while so many messages are under way. Whatever it does is in the finding."""
    finding = FaultFinding(fault, messages)
    opened = subject(fault.transport, profile=profile, shared_redis=fault.shared_redis)
    try:
        async with asyncio.timeout(bounds.PART_S), opened as under:
            finding.broken += await not_served(under, "before the fault")
            _note(finding, await _asked(under, finding))
            finding.broken += await not_served(under, "after the fault")
            finding.after = await _settled(under)
            finding.broken += bounds.broken_by_counts(finding.after)
            finding.end_s = await under.end()
            finding.broken += await under.broken_by_ending(finding.end_s)
    except (PartDied, OSError) as error:
        finding.broken.append(str(error))
    except TimeoutError:
        finding.broken.append(f"not over after {bounds.PART_S:g} s")
    return finding


async def _asked(under: Subject, finding: FaultFinding) -> list[StreamRecord]:
    """Every message's record; the fault strikes meanwhile."""

    async def message(number: int) -> StreamRecord:
        name = f"fault-{number}"
        return await ask_as_user(under, _STREAM, name, seed=number, mode=finding.fault.mode, timeout_s=_PATIENCE_S)

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(message(number)) for number in range(finding.messages)]
        await asyncio.sleep(_STRIKE_S)
        await _happen(under, finding)
    return [task.result() for task in asking]


async def _happen(under: Subject, finding: FaultFinding) -> None:
    fault = finding.fault
    if fault.how == "STOP":
        under.signal(fault.role, signal.SIGSTOP)
        await asyncio.sleep(_STOPPED_S)
        under.signal(fault.role, signal.SIGCONT)
        return
    under.signal(fault.role, signal.SIGKILL)
    if fault.role == "server" and fault.shared_redis and (keys := await under.keys()).keys_for_ever:
        finding.broken.append(f"{keys.keys_for_ever} keys without a time to live when the server was killed")
    await asyncio.sleep(_AWAY_S)
    await under.start_part(fault.role)


def _note(finding: FaultFinding, records: list[StreamRecord]) -> None:
    finding.complete = sum(record.outcome is Outcome.OK for record in records)
    finding.tokens_lost = sum(record.tokens_lost for record in records)
    finding.drops = sum(record.drops for record in records)
    wrong = [f"{record.outcome} {record.detail}".strip() for record in records if record.outcome is not Outcome.OK]
    if wrong:
        finding.broken.append(f"{len(wrong)} of {len(records)} messages are not complete, such as: {wrong[0]}")


async def _settled(under: Subject) -> ServerCounts:
    """The counts when nothing is under way or kept any more, or when the time for that is over."""
    counts = await under.counts()
    for _ in range(round(bounds.SETTLE_S / 0.25)):
        if counts == ServerCounts(0):
            break
        await asyncio.sleep(0.25)
        counts = await under.counts()
    return counts
