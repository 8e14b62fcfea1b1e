"""Recovery `fallback` through servers that share their answers, left at every so many bytes of a first transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import product, starmap
from secrets import token_hex

import pytest
from support.asking import question
from support.cutting import cutting
from support.drivers import AsyncUser
from support.faults import How
from support.processes import RunningServer, running_server

from clients.core.fallback import order_from
from clients.core.record import Outcome
from clients.core.recovery import Policy
from servers.stream import StreamSpec, build
from servers.transport import STREAMING

MakeClient = Callable[..., AsyncUser]
STREAM = {"text": "hazards", "ttft_ms": 5, "ttft_sigma": 0, "gap_ms": 15, "gap_sigma": 0, "tokens": 8}
ANSWER = build(StreamSpec.parse(STREAM), 7)
STEP_BYTES = 131  # shares no factor with what repeats in the bytes
ENOUGH_BYTES = 1_200  # of each transport's connection: all of it, or nearly


@pytest.fixture(scope="module")
def together() -> Iterator[RunningServer]:
    """One set of answers for all transports."""
    first, *others = STREAMING
    with running_server(first, *(word for other in others for word in ("--also", other))) as server:
        yield server


async def test_nothing_is_lost_doubled_or_reordered(client: MakeClient, together: RunningServer) -> None:
    """Its connections are cut, the first somewhere and the second at once; the next transport brings the rest."""
    root = together.url.rpartition("/")[0]

    async def ask(transport: str, how: How, offset: int) -> str:
        others = {name: f"{root}/{name}" for name in order_from(transport, STREAMING)[1:]}
        asked = question(ANSWER, stream_id=token_hex(8), stream=STREAM, timeout_s=30)
        policy = Policy("fallback", base_s=0.005)
        async with cutting(transport, root, [offset, 0, 0], how) as cutter:
            user = client(transport, f"{cutter.url}/{transport}", interval_s=0.01, recovery=policy, others=others)
            record = await user.ask(asked)
        seen = (record.outcome, record.tokens_lost, record.tokens_duplicated, record.tokens_reordered, record.text_ok)
        went_over = record.finished_by != transport
        is_told = record.attempts == 1 + len(record.causes) and went_over == (len(record.causes) > 1)
        is_right = seen == (Outcome.OK, 0, 0, 0, True) and is_told
        return "" if is_right else f"{transport} {how} {offset}: {seen} {record.causes}"

    hows: tuple[How, ...] = ("fin", "rst")
    ways = product(STREAMING, hows, range(0, ENOUGH_BYTES, STEP_BYTES))
    wrong = [*filter(None, await asyncio.gather(*starmap(ask, ways)))]
    assert not wrong, "\n".join(wrong)
