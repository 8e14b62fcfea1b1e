"""Users of both drivers and the real servers: what is counted on one side is counted on the other."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex

import pytest
from support.asking import question
from support.cutting import cutting
from support.drivers import AsyncUser
from support.processes import RunningServer

from clients.core.record import Outcome
from clients.core.recovery import Mode, Policy
from servers.stream import StreamSpec, build
from servers.transport import PUSHED, STREAMING, TRANSPORTS

STREAM: dict[str, object] = {"profile": "fast", "tokens": 40, "ttft_ms": 20, "gap_ms": 3}
ANSWER = build(StreamSpec.parse(STREAM), 7)
MakeClient = Callable[..., AsyncUser]
pytestmark = pytest.mark.parametrize("transport", [*TRANSPORTS])


async def test_one_message_after_another(
    client: MakeClient, transport: str, server: Callable[[str], RunningServer]
) -> None:
    running = server(transport)
    before = running.get("/stats")
    user = client(transport, running.url, interval_s=0.02)
    names = [token_hex(8) for _ in range(3)]
    records = [await user.ask(question(ANSWER, stream_id=name, stream=STREAM)) for name in names]
    after = running.get("/stats")
    assert [(r.outcome, r.detail, r.tokens_received) for r in records] == [(Outcome.OK, "", 40)] * 3
    assert [r.connections for r in records] == [1, 0, 0]
    assert [len(r.response_ms) for r in records] == [r.requests for r in records]
    assert sum(r.requests for r in records) == after["requests"] - before["requests"]
    assert after["tokens_sent"] - before["tokens_sent"] == 120
    assert all(r.received_ns[k] >= r.sent_ns[k] >= r.due_ns[k] for r in records for k in range(40))
    assert records[0].tcp_ms > 0 == records[0].tls_ms == records[1].tcp_ms


async def test_tokens_are_not_held_back(
    client: MakeClient, transport: str, server: Callable[[str], RunningServer]
) -> None:
    """Waiting for full blocks would bring a dozen of the 40 at once; only polls and whole answers bring several."""
    user = client(transport, server(transport).url, interval_s=0.02)
    record = await user.ask(question(ANSWER, stream_id=token_hex(8), stream=STREAM))
    least = 6 if transport in PUSHED else 3 if transport in STREAMING else 0
    assert len(set(record.read)) > least


@pytest.mark.parametrize("mode", ["resume", "restart"])
async def test_recovery(client: MakeClient, transport: str, mode: Mode, server: Callable[[str], RunningServer]) -> None:
    policy = Policy(mode, base_s=0.01)
    async with cutting(transport, server(transport).url, [1500], "fin") as cutter:
        user = client(transport, cutter.url, interval_s=0.02, recovery=policy)
        record = await user.ask(question(ANSWER, stream_id=token_hex(8), stream=STREAM))
    assert (record.outcome, record.detail) == (Outcome.OK, "")
    assert (record.drops, record.tokens_received, record.tokens_lost) == (cutter.fatal, 40, 0)
    assert (record.recovery_ms is not None) == (cutter.fatal > 0)
