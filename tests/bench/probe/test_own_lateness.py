"""What a machine sees while it is late itself does not count, and is seen again."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from time import monotonic, monotonic_ns
from typing import Any, cast

import pytest

from bench.probe.asking import Asking
from bench.probe.channel import Heard
from bench.probe.control import Control
from bench.probe.deployment import Deployment
from bench.probe.finding import BLACK_HOLE
from bench.probe.own_lateness import LATE_ITSELF, OwnLateness
from bench.probe.probe_clock import Clock
from bench.probe.trial import Trial

NOTHING = cast(Any, None)  # what these cases never reach
LATE_S = 0.4
FOREVER_S = 1e6


@pytest.mark.parametrize(
    ("trial", "counts"),
    [
        (Trial(5, False, 2.0, "fin"), False),
        (Trial(FOREVER_S, False, FOREVER_S, "fin"), True),  # which is known no better than that
        (Trial(2, False, ending="fin"), False),  # at the next byte
        (Trial(2, False, ending=BLACK_HOLE), False),  # what was awaited may have come meanwhile
        (Trial(2, True), True),
    ],
)
async def test_what_is_seen_while_this_machine_stands_still_does_not_count(trial: Trial, counts: bool) -> None:
    deployment = Deployment({"sse": "http://127.0.0.1:1"})
    control = Control(deployment, "sse", 1.0)
    with closing(OwnLateness()) as lateness:
        asking = Asking(
            "idle", deployment, "sse", 1.0, monotonic() + 60, Clock(), NOTHING, control, lateness, 0, NOTHING
        )
        await asyncio.sleep(0.05)
        time.sleep(LATE_S)  # noqa: ASYNC251  # the loop stands still
        heard = Heard(ended_ns=monotonic_ns())
        await asyncio.sleep(0.05)  # until that is noted
        judged = await asking.judged(trial, "a silence", heard)
    assert (judged == trial) is counts
    assert judged.void.startswith(LATE_ITSELF) is not counts
    assert [bool(seen.void) for seen in asking.seen] == [not counts]
