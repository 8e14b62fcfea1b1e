"""How long a server goes on for a connection that has dropped: on paper, and with real servers behind real cuts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec
import pytest
from support.processes import RunningServer, running_server

from bench.proxy.behaviours.cut import Cut
from bench.proxy.serve import Proxy
from bench.proxy.stage import CutAction
from clients.core.record import StreamRecord
from clients.job import Job
from clients.load import run_cell
from clients.stopping import enter_stops, spans_told
from servers.answering import KEPT_SPANS, Spans

S = 1_000_000_000


@pytest.mark.parametrize(
    ("drops", "spans", "stop_s"),
    [
        ([(1, 3)], [("s", 2, 5)], 2.0),
        ([(1, 3)], [("s", 2, 3)], 0.0),
        ([(1, 3)], [("s", 1, 2)], 0.0),  # the server noticed before the client did
        ([(1, 3)], [("s", 2, None)], math.inf),
        ([(1, 3)], [("t", 2, 5), ("s", 4, 9)], None),  # another's, and that of the next attempt
        ([(1, 3)], [("s", 1, 2), ("s", 2, 6)], 3.0),  # the wait for the whole answer, then its way
        ([(1, 3), (4, 6)], [("s", 2, 4), ("s", 5, 9)], 4.0),
        ([(1, 3), (4, 6)], [("s", 2, 4)], 1.0),  # the second attempt reached nobody
        ([(1, 3), (4, 6)], [("s", 2, 4), ("s-1", 5, 8)], 3.0),  # asked anew, under another id
        ([], [("s", 2, 5)], None),
    ],
)
def test_on_paper(drops: list[tuple[int, int]], spans: list[Any], stop_s: float | None) -> None:
    record = StreamRecord("s", 0, 1, attempts=1 + len(drops))
    record.drops_at_ns = [(begun * S, dropped * S) for begun, dropped in drops]
    ahead_ns = 3600 * S  # the server's clock
    there = [(name, begin * S + ahead_ns, None if end is None else end * S + ahead_ns) for name, begin, end in spans]
    enter_stops([record], there, ahead_ns)
    assert record.stop_s == stop_s


@pytest.mark.parametrize("told", [{}, {"answered": None}, {"answered": [["s", "x", 1]]}, {"answered": [["s", 1]]}])
def test_a_server_that_does_not_tell(told: dict[str, object]) -> None:
    assert spans_told(told) == []


def test_what_a_server_tells_is_bounded() -> None:
    spans = Spans()
    for number in range(KEPT_SPANS + 10):
        with spans.of(str(number)):
            pass
    with spans.of("another"):
        assert spans.since(1)[-1][::2] == ("another", None)
    told = spans.since(1)
    assert (len(told), told[0][0]) == (KEPT_SPANS, "11")
    assert spans.since(told[-1][2] or 0) == []


STREAM = {"ttft_ms": 20, "ttft_sigma": 0, "gap_ms": 50, "gap_sigma": 0, "tokens": 80}  # 4 s


async def behind(
    url: str, transport: str, cut: Cut, folder: Path, stream: Mapping[str, object] = STREAM, **variant: object
) -> Sequence[StreamRecord]:
    """Four messages behind a cut, and what became of them."""
    upstream = urlsplit(url)
    async with Proxy((upstream.hostname or "", upstream.port or 0), [cut]) as proxy:
        load = {"streams": 4, "rate_per_s": 50.0, "warmup_streams": 0, "timeout_s": 10.0, "silence_s": 0.3}
        document = {
            "transport": transport, "url": f"http://127.0.0.1:{proxy.address[1]}", "out": str(folder / "cell"),
            "block": 1, "cell": f"{transport} {cut.action}", "seed": 5, "stream": dict(stream), "load": load,
            "variant": variant,
        }  # fmt: skip
        records, _ = await run_cell(msgspec.convert(document, Job), lambda done, of: None)
    return records


@pytest.fixture(scope="module", params=["fastapi", "flask-gthread", pytest.param("flask-dev", marks=pytest.mark.extra)])
def stack(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """As people write it: in an event loop, or in processes of its own, which tell each other."""
    with running_server("sse", "--stack", request.param) as server:
        yield server


async def test_a_framework_s_iterator_ends_with_its_connection(stack: RunningServer, tmp_path: Path) -> None:
    records = await behind(stack.url, "sse", Cut(action="rst", after_s=0.2, since="response"), tmp_path)
    assert [record.drops for record in records] == [1] * 4
    assert all(record.stop_s is not None and record.stop_s < math.inf for record in records)


@pytest.fixture
def urls(server: Callable[[str], RunningServer]) -> dict[str, str]:
    """Servers whose readers have a connection of their own."""
    return {transport: server(transport).url for transport in ("sse", "chunked", "websocket", "blocking")}


async def test_real_servers_notice_what_the_network_tells_and_nothing_else(
    urls: dict[str, str], tmp_path: Path
) -> None:
    """Behind a black hole nobody tells them: the work goes on beyond what is measured.

    Nor does a FIN while nothing is sent: whoever has said all that it has to say may still be reading.
    """
    ways = [(transport, action) for transport in urls for action in get_args(CutAction)]

    async def ask(transport: str, action: CutAction) -> Sequence[StreamRecord]:
        since: Literal["connection", "response"] = "connection" if transport == "blocking" else "response"
        return await behind(urls[transport], transport, Cut(action=action, after_s=0.2, since=since), tmp_path)

    for way, records in zip(ways, await asyncio.gather(*(ask(*way) for way in ways)), strict=True):
        assert [record.drops for record in records] == [1] * 4, way
        stops_s = [record.stop_s for record in records if record.stop_s is not None]
        assert len(stops_s) == 4, way
        if way[1] == "rst" or (way[1] == "fin" and way[0] != "blocking"):  # at once, or with the next token or two
            assert max(stops_s) < math.inf, way
        else:
            assert min(stops_s) == math.inf, way


async def test_a_poll_that_waits_ends_with_its_connection(
    server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    """The model is silent when the connection breaks."""
    silent = STREAM | {"ttft_ms": 1_000}
    cut = Cut(action="rst", after_s=0.3, since="connection")
    records = await behind(server("polling").url, "polling", cut, tmp_path, stream=silent, wait=20)
    assert [record.drops for record in records] == [1] * 4
    assert all(record.stop_s is not None and record.stop_s < math.inf for record in records)
