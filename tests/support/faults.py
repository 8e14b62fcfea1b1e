"""Faults at exact bytes of a recording: a server that replays it with one, and what each should lead to."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from support.recordings import Recording
from support.scripted import Connection, accepting

How = Literal["fin", "rst"]


@dataclass(frozen=True)
class Fault:
    """What happens to one recorded answer.

    offset: the byte of this number is never sent, the connection ends instead by `how`; None: all is sent
    slice_bytes: sent in pieces of so many (0: all that may be sent at once), `pause_ms` apart
    """

    transport: str
    offset: int | None
    how: How = "fin"
    slice_bytes: int = 0
    pause_ms: float = 0.0

    def words(self) -> str:
        """To be read by `of_words`."""
        return " ".join(map(str, (self.transport, self.offset, self.how, self.slice_bytes, self.pause_ms)))

    @classmethod
    def of_words(cls, words: str) -> Fault:
        """The fault that a failed test has named."""
        transport, offset, how, slice_bytes, pause_ms = words.split()
        number = None if offset == "None" else int(offset)
        return cls(transport, number, "rst" if how == "rst" else "fin", int(slice_bytes), float(pause_ms))

    def is_fatal(self, recording: Recording) -> bool:
        """Whether the end message cannot have arrived."""
        return self.offset is not None and self.offset < recording.complete

    def tokens(self, recording: Recording) -> int:
        """How many tokens can have arrived."""
        reached = recording.total if self.offset is None else self.offset
        return sum(end <= reached for end in recording.token_ends)


def every_fault(recording: Recording, random: Random, untouched: int) -> list[Fault]:
    """A cut at each offset by FIN and by RST, and whole answers between them, in random order and random pieces."""
    cuts: list[tuple[int | None, How]] = [
        (offset, how) for offset in range(recording.total + 1) for how in ("fin", "rst")
    ]
    cuts += [(None, "fin")] * untouched
    random.shuffle(cuts)
    return [Fault(recording.transport, offset, how, *_pieces(random)) for offset, how in cuts]


def _pieces(random: Random) -> tuple[int, float]:
    """Most in one piece (as coalesced as can be), some in pieces of a few bytes, some of those slowly."""
    chance = random.random()
    if chance < 0.80:
        return 0, 0.0
    if chance < 0.81:
        return random.randint(1, 8), 0.0
    return random.randint(60, 400), random.choice((0.0, 0.0, 1.0, 5.0))


@dataclass
class Replay:
    """A scripted server's script: sends a recording with the fault that is set, over as many connections as come."""

    recording: Recording
    fault: Fault
    sent: int = field(default=0, init=False)

    async def script(self, connection: Connection) -> None:
        """One connection: whole answers one after the other, or an answer up to its cut."""
        first = 0
        while True:
            for number in range(first, len(self.recording.responses)):
                response = await self._asked(connection, number)
                if not response or not await self._send(connection, self.recording.starts[number], response):
                    return
            first = int(self.recording.transport == "websocket")  # the handshake is over

    async def _asked(self, connection: Connection, number: int) -> bytes:
        """Wait for the request; its response, or nothing if there is no request."""
        response = self.recording.responses[number]
        if self.recording.transport != "websocket":
            return response if await connection.request() else b""
        if number:
            return response if (await connection.frame()).startswith(b"{") else b""
        request = await connection.request()
        if not request:
            return b""
        return re.sub(rb"(?i)(sec-websocket-accept: )\S+", lambda found: found[1] + accepting(request), response)

    async def _send(self, connection: Connection, start: int, response: bytes) -> bool:
        """Send one response; False if the connection was cut."""
        fault, end = self.fault, start + len(response)
        reached = end if fault.offset is None else min(end, fault.offset)
        size = fault.slice_bytes or len(response)
        for at in range(0, reached - start, size):
            if at:
                await asyncio.sleep(fault.pause_ms / 1000)
            await connection.send(response[at : min(at + size, reached - start)])
        if fault.offset is None or not (fault.offset < end or end == fault.offset == self.recording.total):
            return True
        if fault.how == "rst":
            connection.rst()
        return False
