"""Does a WebSocket open? If not, who says no: the way there, or our server, which was asked without the upgrade?"""

from __future__ import annotations

import asyncio
from collections import Counter

from bench.probe.asking import Asking
from bench.probe.channel import Heard, Talk
from bench.probe.finding import Finding
from bench.probe.question import Question
from bench.probe.shape_streams import LIMIT_S, TIMES
from servers.messages import decode_error

_SMALL = {"ttft_ms": 0, "ttft_sigma": 0, "gap_ms": 0, "gap_sigma": 0, "tokens": 2}
_SWITCHING = 101
_OURS = "upgrade_required"
"""What our server says to a request on which there is no `Upgrade` any more."""


async def _ask(asking: Asking) -> Finding:
    heard = await asyncio.gather(*(asking.talk(Talk(_SMALL, LIMIT_S)) for _ in range(TIMES)))
    (value, ending), seen = Counter(map(_verdict, heard)).most_common(1)[0]
    return Finding(
        question="upgrade",
        transport=asking.transport,
        value=value,
        ending=ending,
        seen=seen,
        words={
            "passed": "a WebSocket opens",
            "refused": f"refused with {ending}, before the request reached the server",
            "stripped": "the Upgrade header does not reach the server",
            "cut": f"the upgrade ends in {ending}",
        }[value],
    )


def _verdict(heard: Heard) -> tuple[str, str]:
    if heard.status == _SWITCHING and heard.is_complete:
        return "passed", "none"
    if heard.status in (0, _SWITCHING):
        return "cut", heard.ending
    error = decode_error(bytes(heard.body))
    return "stripped" if error is not None and error.code == _OURS else "refused", f"status {heard.status}"


QUESTIONS = (Question("upgrade", "Does a WebSocket open?", "shape", ("websocket",), TIMES, lambda _: 1.0, _ask),)
