"""Users who ask for a large answer and read nothing of it: what they cost, and when they are given up."""

from __future__ import annotations

import asyncio
import hashlib
import time

import msgspec

from bench.soak import bounds
from bench.soak.bounds import MemoryBound
from bench.soak.scenario import Scenario
from bench.soak.scripts import SoakScript, kept_answer
from bench.soak.subject import Subject, size_of
from bench.soak.users import ask_as_user, not_served
from bench.soak.visitors import crowd
from clients.core.record import Outcome
from servers.recording import Recording, register

_PIECE, _PIECES = "eight kB" * 1_000, 1_000
# 8 MB, since the kernel alone takes 4 MB of a connection.
_RECORDING = msgspec.json.encode({"deltas": [_PIECE] * _PIECES})
_LARGE: dict[str, object] = {
    "profile": "fast", "recording": hashlib.sha256(_RECORDING).hexdigest()[:16], "ttft_ms": 0, "ttft_sigma": 0,
    "gap_ms": 0, "gap_sigma": 0,
}  # fmt: skip
_STREAM_ID = "large"
_HOLD_S = 2.0
_FILL_LOOKS = 30  # until the kernel's buffers are full: 4 MB a user


class SilentReaders(Scenario):
    """All read the one answer that the server keeps, so that the connections are all that costs."""

    name = "silent"
    connections, quick = 300, 30
    expected_s = 150.0
    # 64 KiB of backlog and a batch of 64 KiB; the proxy has a buffer each way and what it has just read.
    bound = MemoryBound(held_kib_each=256, held_mib=32, kept_mib=96)
    keep_s = 600.0
    keys_kept = 2  # the large answer, and another user's
    recording = _RECORDING
    side_by_side = True
    repeats = False

    async def prepare(self, under: Subject) -> list[str]:
        """Have the large answer produced, and read it once."""
        register(Recording(str(_LARGE["recording"]), ((_PIECE,) * _PIECES,)))
        record = await ask_as_user(under, _LARGE, _STREAM_ID, timeout_s=60)
        return [] if record.outcome is Outcome.OK else [f"the large answer: {record.outcome} {record.detail}"]

    async def load(self, under: Subject, connections: int, *, is_quick: bool) -> list[str]:
        """Ask, read nothing, and see the server give them up; a quick soak does not wait for that."""
        pid = (await under.processes())["server"]
        before = size_of(pid).descriptors
        transport = under.transport
        async with crowd(under.address, connections, lambda number: self.parting(transport, number)) as (_, failures):
            broken = [f"{count} connections could not be opened: {word}" for word, count in failures.items()]
            await self._filled(under)
            broken += await not_served(under, "beside users who read nothing")
            return broken if is_quick else broken + await self._not_given_up(pid, before)

    async def _filled(self, under: Subject) -> None:
        """Return when nothing more goes out; until then the server is busy with what it still can send."""
        sent = -1
        for _ in range(_FILL_LOOKS):
            await asyncio.sleep(_HOLD_S)
            before, sent = sent, (await under.stats()).tokens_sent
            if sent == before:
                return

    async def _not_given_up(self, pid: int, before: int) -> list[str]:
        begun_s = time.monotonic()
        while (left := size_of(pid).descriptors - before) > bounds.DESCRIPTORS_MORE:
            if time.monotonic() - begun_s > bounds.GIVEN_UP_S:
                return [f"{left} users who read nothing are not given up after {bounds.GIVEN_UP_S:g} s"]
            await asyncio.sleep(0.5)
        return []

    def parting(self, transport: str, number: int) -> SoakScript:
        """The same again."""
        return kept_answer(transport, _STREAM_ID)
