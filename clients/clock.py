"""How the server's monotonic clock relates to ours."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic_ns

import aiohttp

_QUESTIONS = 8


@dataclass(frozen=True)
class Reading:
    """One question for the time: when it was asked and answered by our clock, and what the server's clock said."""

    asked_ns: int
    server_ns: int
    answered_ns: int

    @property
    def round_trip_ns(self) -> int:
        """How long the question took: twice the largest error of the offset."""
        return self.answered_ns - self.asked_ns

    @property
    def offset_ns(self) -> int:
        """The server's clock minus ours, if both ways took equally long."""
        return self.server_ns - (self.asked_ns + self.answered_ns) // 2


def offset_of(readings: list[Reading]) -> int:
    """The offset by the quickest reading; 0 where it is no more than that reading's uncertainty: one clock."""
    best = min(readings, key=lambda reading: reading.round_trip_ns)
    return best.offset_ns if abs(best.offset_ns) > best.round_trip_ns else 0


async def clock_offset_ns(url: str, auth_token: str | None) -> tuple[int, list[str]]:
    """The server's monotonic clock minus ours, and notes for the result: what was found, or why nothing was."""
    headers = {"Authorization": f"Bearer {auth_token}"} if auth_token else {}
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:
            readings = [await _read(session) for _ in range(_QUESTIONS)]
    except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
        return 0, [f"the server's clock could not be read ({type(error).__name__}: {error}): taken to be ours"]
    offset_ns = offset_of(readings)
    return offset_ns, [f"the server's clock is {offset_ns / 1e6:.3f} ms ahead of ours"] if offset_ns else []


async def _read(session: aiohttp.ClientSession) -> Reading:
    asked_ns = monotonic_ns()
    async with session.get("/clock") as response:
        response.raise_for_status()
        server_ns = (await response.json())["monotonic_ns"]
    if type(server_ns) is not int:
        raise ValueError("/clock: monotonic_ns takes an integer")
    return Reading(asked_ns, server_ns, monotonic_ns())
