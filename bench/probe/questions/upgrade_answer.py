"""Does a WebSocket open? If not, who says no: the way there, or our server, which was asked without the upgrade?"""

from __future__ import annotations

import asyncio
from collections import Counter

from bench.probe.asking import Asking
from bench.probe.channel import Heard, Talk
from bench.probe.finding import BLACK_HOLE, Finding
from bench.probe.question import ProbeQuestion
from bench.probe.shape_streams import LIMIT_S, TIMES
from bench.probe.trial import is_cut
from servers.messages import decode_error

_SMALL = {"ttft_ms": 0, "ttft_sigma": 0, "gap_ms": 0, "gap_sigma": 0, "tokens": 2}
_SWITCHING = 101
_OURS = "upgrade_required"
"""What our server says to a request on which there is no `Upgrade` any more."""
_PASSING = frozenset(f"status {status}" for status in (429, 500, 502, 503, 504))
"""What may be over at the next request: a refusal only where nothing else was seen."""


async def _ask(asking: Asking) -> Finding:
    heard = await asyncio.gather(*(asking.talk(Talk(_SMALL, LIMIT_S)) for _ in range(TIMES)))
    (value, ending), seen = Counter(map(_verdict, heard)).most_common(1)[0]
    is_passing = value == "cut" or (value == "refused" and ending in _PASSING)
    if is_passing and (seen < TIMES or not _is_answer(ending) or await _was_disturbed(asking, heard)):
        words = f"not clear: {ending} in {seen} of {TIMES} tries, which may be over soon"
        return Finding(question="upgrade", transport=asking.transport, ending=ending, seen=seen, words=words)
    if value == "server":
        words = f"the server itself refused with {ending}"
        return Finding(question="upgrade", transport=asking.transport, ending=ending, seen=seen, words=words)
    return Finding(
        question="upgrade",
        transport=asking.transport,
        value=value,
        ending=ending,
        seen=seen,
        words={
            "passed": "a WebSocket opens",
            "refused": f"{ending} in place of the upgrade, and not by our server",
            "stripped": "the Upgrade header does not reach the server",
            "cut": f"the upgrade ends in {ending}",
        }[value],
    )


def _is_answer(ending: str) -> bool:
    """Whether somebody did this to the upgrade: where no connection comes about, nobody has seen it."""
    return is_cut(ending) or ending == BLACK_HOLE


async def _was_disturbed(asking: Asking, heard: list[Heard]) -> bool:
    """Whether the control connection was disturbed meanwhile."""
    return await asking.was_disturbed(min(each.asked_ns for each in heard), max(each.ended_ns for each in heard))


def _verdict(heard: Heard) -> tuple[str, str]:
    if heard.status == _SWITCHING and heard.is_complete:
        return "passed", "none"
    if heard.status in (0, _SWITCHING):
        return "cut", heard.ending
    error = decode_error(bytes(heard.body))
    value = "refused" if error is None else "stripped" if error.code == _OURS else "server"
    return value, f"status {heard.status}"


QUESTIONS = (ProbeQuestion("upgrade", "Does a WebSocket open?", "shape", ("websocket",), TIMES, lambda _: 1.0, _ask),)
