"""`tls`, `http` and `share` in a plan: what is refused, how they are written, and the way of such a cell's load."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from support.asking import question
from support.processes import RunningServer
from support.programs import program
from support.proxies import Clockwork

from bench.plan import Cell, Plan, parse, plan_names
from bench.plans_command import plans
from bench.proxy import profile as profiles
from bench.proxy.rule import reads_http
from bench.running.endpoints import Fleet, Route
from bench.running.processes import PartDied
from bench.running.runner import new_run
from bench.table_checks import PlanError
from clients.core.record import Outcome
from clients.core.settings import ClientSettings
from clients.core.tls import Trust
from clients.drivers.aio import AioClient
from servers.stream import StreamSpec, build
from servers.transport import TRANSPORTS

H2: dict[str, Any] = {"transport": "sse", "tls": True, "http": 2}


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"transport": "sse", "http": 2}, "[[cells]] 1 http: 2 goes over TLS, as browsers have it; takes tls = true"),
        (H2 | {"transport": "websocket"}, "http: means nothing to websocket, only to polling, chunked, sse, blocking"),
        ({"transport": "sse", "share": 5, "tls": True}, "share: means nothing without http = 2"),
        (H2 | {"share": 0}, "share: takes"),
        (H2 | {"http": 3}, "http: takes"),
        (H2 | {"profile": "aws-alb"}, "tls: aws-alb looks into HTTP, which TLS hides from it; takes real:nginx-h2, "),
        (H2 | {"profile": "nginx"}, "or a profile that looks at connections alone, as mobile-nat"),
        pytest.param(H2 | {"profile": "real:nginx"}, "tls: real:nginx looks into", marks=pytest.mark.needs("nginx")),
    ],
)
def test_mistakes_are_named(cell: dict[str, object], said: str) -> None:
    with pytest.raises(PlanError) as error:
        parse({"name": "x", "cells": [cell]})
    assert said in str(error.value)


@pytest.mark.needs("nginx")
def test_how_they_are_written() -> None:
    cells = [
        H2 | {"share": 10, "profile": ["mobile-nat", "real:nginx-h2", "direct"]},
        {"transport": "websocket", "tls": True},
    ]
    variants = [cell.variant_text for cell in parse({"name": "x", "cells": cells}).cells]
    assert variants == ["http=2 share=10 tls=on"] * 3 + ["tls=on"]
    settings = ClientSettings.of_variant(parse({"name": "x", "cells": cells}).cells[0].variant, url="https://x")
    assert (settings.http, settings.share) == (2, 10)


@pytest.mark.parametrize("name", profiles.names())
def test_what_looks_into_http_is_what_the_chain_says(name: str) -> None:
    rules = profiles.load_profile(name).rules
    assert reads_http(rules) == (Clockwork(*rules).chain.http is not None)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    program("nginx")
    program("openssl")
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)))
        fleet = Fleet(Plan(name="test", time_scale=2), http, tmp_path, [])
        stack.push_async_callback(fleet.stop)
        yield fleet


async def asked_over(route: Route, cell: Cell) -> Outcome:
    """What becomes of a question over this route."""
    stream: dict[str, object] = {"profile": "fast", "tokens": 5}
    trust = Trust(route.cafile)
    user = AioClient(cell.transport, ClientSettings.of_variant(cell.variant, url=route.url, trust=trust))
    try:
        record = await user.ask(question(build(StreamSpec.parse(stream), 7), stream=stream))
    finally:
        await user.close()
    assert (record.tls_ms > 0) is cell.tls
    return record.outcome


async def test_the_way_of_each_cell(fleet: Fleet) -> None:
    cells = {
        "direct": Cell(transport="sse"),
        "tls": Cell(transport="sse", tls=True),
        "http2": Cell(transport="sse", tls=True, http=2),
        "http2 behind none": Cell(transport="sse", tls=True, http=2, profile="none"),
        "plain through nginx": Cell(transport="sse", profile="real:nginx-h2"),
        "http2 through nginx": Cell(transport="sse", tls=True, http=2, profile="real:nginx-h2"),
    }
    await fleet.start(cells.values())
    routes = {name: await fleet.route(cell) for name, cell in cells.items()}
    assert {name: (route.url.split(":")[0], len(route.proxies)) for name, route in routes.items()} == {
        "direct": ("http", 0),
        "tls": ("https", 1),
        "http2": ("https", 1),
        "http2 behind none": ("https", 2),
        "plain through nginx": ("http", 1),
        "http2 through nginx": ("https", 1),
    }
    assert len({route.server.url for route in routes.values()}) == 1
    assert routes["tls"] == routes["http2"]  # the same front
    assert routes["tls"].url != routes["http2 through nginx"].url  # which is no nginx with its own timeouts
    assert len({path.name for path in fleet.logs.glob("proxy-*.log")}) == 3
    for name, cell in cells.items():
        assert await asked_over(routes[name], cell) is Outcome.OK, name
        await routes[name].check_answers(fleet.http)
    hop = routes["http2 behind none"].proxies[0]
    await hop.stop()
    assert routes["http2 behind none"].failure() is not None
    again = await fleet.route(cells["http2 behind none"])
    assert await asked_over(again, cells["http2 behind none"]) is Outcome.OK


async def test_a_target_without_tls_is_no_target_of_such_a_cell(fleet: Fleet, server: Any) -> None:
    running: RunningServer = server("sse")
    fleet.targets = {"sse": running.url}
    with pytest.raises(PartDied, match="the cell wants TLS; the address of the server is http://"):
        await fleet.route(Cell(transport="sse", tls=True))


def test_each_transport_but_websocket_takes_http2() -> None:
    for transport in TRANSPORTS:
        if transport != "websocket":
            parse({"name": "x", "cells": [H2 | {"transport": transport}]})


@pytest.mark.parametrize("missing", ["nginx", "openssl"])
def test_what_tls_takes_is_missed_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **_: None if name == missing else f"/bin/{name}")
    for words in ({}, {"profile": "real:nginx-h2"}):
        with pytest.raises(PlanError, match=f"{missing} is not installed"):
            new_run(parse({"name": "x", "cells": [{"transport": "sse", "tls": True} | words]}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_plans_are_listed_where_nginx_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    listed = CliRunner().invoke(plans)
    assert listed.exit_code == 0, listed.output
    assert "\nhttp2          cannot run here: [[cells]] 1 profile: nginx is not installed; on Debian: " in listed.output
    assert listed.output.count("cells, about") == len(plan_names()) - 1
