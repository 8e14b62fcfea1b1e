"""Names of libraries that our code uses and their documentation does not give: each listed once, with why, and held.

A library may change these without a word. Then a test here fails with the reason, and not a measurement in silence.
Nothing else undocumented may be used, and in clients/ only what Locust's tab and users cannot do without. What of that
code shows without being run is held by test_foreign_names.py. A public attribute that bears the name of a documented
parameter of its class counts as documented.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import subprocess
import sys
import tomllib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import uvicorn
from aiohttp import ClientConnectorError, ClientSession, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import RawTestServer
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


class Internal(NamedTuple):
    """A name, the files that use it, why they do, and what would go wrong without it."""

    name: str
    files: str
    why: str
    without: str
    holds: Callable[[], bool]


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


class _Handler(web.RequestHandler):
    """aiohttp's, seen from within."""

    @property
    def queued(self) -> Any:
        return self._messages

    @property
    def idle(self) -> Any:
        return self._waiter


async def _with_handler(look: Callable[[_Handler], bool]) -> bool:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    return look(_Handler(web.Server(answer), loop=asyncio.get_running_loop()))


def handler(look: Callable[[_Handler], bool]) -> Callable[[], bool]:
    """A check of a fresh connection."""
    return lambda: asyncio.run(_with_handler(look))


def _takes_our_words() -> bool:
    ours = {"loop", "keepalive_timeout", "access_log", "auto_decompress", "lingering_time"}
    return ours <= {*parameters(web.RequestHandler.__init__)}


async def _streams_by_its_writer() -> bool:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        writer = await response.prepare(request)
        assert isinstance(writer, AbstractStreamWriter)
        writer.send_headers()
        await writer.drain()
        await gone_out.wait()
        await writer.write(b"token")
        await response.write_eof()
        return response

    gone_out = asyncio.Event()
    async with (
        asyncio.timeout(10),
        RawTestServer(answer) as server,
        ClientSession() as client,
        client.get(server.make_url("/")) as response,  # the head alone is enough for it
    ):
        gone_out.set()
        return await response.read() == b"token"


AIOHTTP = [
    Internal(
        "RequestHandler(server, loop=, keepalive_timeout=, access_log=, auto_decompress=, lingering_time=)",
        "servers/connection.py",
        "AppRunner takes no subclass of it",
        "every server fails at its start",
        _takes_our_words,
    ),
    Internal(
        "RequestHandler.handle_error",
        "servers/connection.py",
        "what is no HTTP must be refused as JSON, quietly",
        "malformed HTTP is answered as text, with a traceback in the log",
        lambda: parameters(web.RequestHandler.handle_error) == ["self", "request", "status", "exc", "message"],
    ),
    Internal(
        "RequestHandler.finish_response",
        "servers/connection.py",
        "aiohttp's own refusals pass by every middleware",
        "404 and 405 are answered as text; half-closed clients are kept waiting",
        lambda: (
            parameters(web.RequestHandler.finish_response) == ["self", "request", "resp", "start_time"]
            and inspect.iscoroutinefunction(web.RequestHandler.finish_response)
        ),
    ),
    Internal(
        "RequestHandler.set_parser",
        "servers/connection.py",
        "websockets reads a connection that aiohttp has upgraded",
        "no WebSocket gets a byte of its client",
        lambda: parameters(web.RequestHandler.set_parser)[:2] == ["self", "parser"],
    ),
    Internal(
        "RequestHandler.close",
        "servers/connection.py",
        "the last answer to a half-closed client ends its connection",
        "such a connection stays open",
        lambda: parameters(web.RequestHandler.close) == ["self"],
    ),
    Internal(
        "RequestHandler._messages",
        "servers/connection.py",
        "the requests that are queued: whether an answer is the last one",
        "a client that half-closes gets no answer, or waits for ever",
        handler(lambda connection: connection.queued == deque()),
    ),
    Internal(
        "RequestHandler._waiter",
        "servers/connection.py",
        "whether the connection waits for a request, and so owes no answer",
        "idle clients that half-close are not closed",
        handler(lambda connection: connection.idle is None),
    ),
    Internal(
        "RequestHandler.pause_writing, resume_writing, data_received, eof_received",
        "servers/connection.py",
        "asyncio calls them; a WebSocket must hear of them too",
        "a WebSocket's slow reader is not noticed",
        lambda: issubclass(web.RequestHandler, BaseProtocol) and hasattr(web.RequestHandler, "eof_received"),
    ),
    Internal(
        "BaseRequest.protocol",
        "servers/http.py servers/websocket/app.py",
        "a handler must tell its connection which body it reads, and who takes the connection over",
        "no request with a body is answered",
        lambda: isinstance(web.BaseRequest.protocol, property),
    ),
    Internal(
        "StreamResponse.prepare gives an AbstractStreamWriter with send_headers, drain",
        "servers/http.py servers/websocket/app.py",
        "a head must go out before there is a body; who waits for a slow reader must not write",
        "heads go out with the first token; slow readers are not waited for",
        lambda: asyncio.run(_streams_by_its_writer()),
    ),
    Internal(
        "AbstractStreamWriter.write",
        "servers/stacks/aiohttp_write.py",
        "the stack shows what `StreamResponse.write` costs, which hands on to it",
        "no answer of that stack",
        lambda: asyncio.run(_streams_by_its_writer()),
    ),
    Internal(
        "ClientConnectorError.os_error",
        "servers/user_errors.py",
        "the system's own words are inside",
        "messages say `Cannot connect to host …` around the reason",
        lambda: isinstance(ClientConnectorError.os_error, property),
    ),
    Internal(
        "BaseRequest.writer, AbstractStreamWriter.output_size",
        "servers/connection.py",
        "whether an answer has begun when a fault is noticed",
        "a 500 stands inside the body of a 200",
        lambda: hasattr(web.BaseRequest, "writer") and AbstractStreamWriter.output_size == 0,
    ),
    Internal(
        "StreamReader.is_eof, feed_eof, set_exception",
        "servers/connection.py",
        "a body that cannot go on is ended at once",
        "a malformed chunk is a 408 after 30 s",
        lambda: all(callable(getattr(StreamReader, name)) for name in ("is_eof", "feed_eof", "set_exception")),
    ),
]

CLICK = [
    Internal(
        "Parameter.opts",
        "bench/elsewhere.py",
        "a variable goes by its option's name, which people know; click takes the function's argument",
        "help and environment name other variables than before",
        lambda: click.Option(["--later-name", "argument"]).opts == ["--later-name"],
    ),
]

# Locust replaces parts of the process that imports it: it is looked at in one of its own.
LOCUST = """
import inspect, json
from locust import User, runners, task
from locust.exception import StopUser
from locust.rpc.protocol import Message
from locust.env import Environment
from locust.stats import RequestStats, StatsEntry
from locust.web import WebUI

environment = Environment(user_classes=[])
environment.create_local_runner()
web_ui = environment.create_web_ui("127.0.0.1", 0, delayed_start=True)
row = environment.stats.get("TTFT", "sse")
row.log(12, 3)
row.log_error(ValueError("x"))
page = WebUI.update_template_args

class Once(User):
    @task
    def ask(self):
        asked.append(1)
        raise StopUser

    def on_stop(self):
        asked.append("stopped")

asked = []
Once(environment).run()  # returns when the user has ended
print(json.dumps({
    "row": [row.num_requests, row.num_failures, environment.stats.total.num_requests],
    "endpoints": [rule.endpoint for rule in web_ui.app.url_map.iter_rules()],
    "picker": web_ui.userclass_picker_is_active,
    "warning": "missing_host_warning" in inspect.getsource(page),
    "missing": runners.STATE_MISSING,
    "all": isinstance(runners.WorkerNodes.all, property),
    "worker": list(inspect.signature(runners.WorkerNode.__init__).parameters),
    "message": list(inspect.signature(Message.__init__).parameters),
    "asked": asked,
}))
"""


@pytest.fixture(scope="module")
def locust() -> dict[str, Any]:
    """What Locust is today."""
    done = subprocess.run([sys.executable, "-c", LOCUST], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


async def _nobody_asks(scope: object, receive: object, send: object) -> None:
    """An ASGI application."""


async def _uvicorn_starts_and_stops() -> bool:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(_nobody_asks, log_config=None, lifespan="off"))
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
            server.should_exit = True
            await running
    return True


UVICORN = [
    Internal(
        "uvicorn.Server.serve(sockets=), started, should_exit",
        "servers/stacks/uvicorn_server.py",
        "the port is ours to tell, when it is served and until we stop",
        "stacks on uvicorn do not start, or do not end",
        lambda: asyncio.run(_uvicorn_starts_and_stops()),
    ),
]


class Of(NamedTuple):
    """As Internal, about what the fixture has found."""

    name: str
    files: str
    why: str
    without: str
    holds: Callable[[dict[str, Any]], bool]


OF_LOCUST = [
    Of(
        "StatsEntry.log, StatsEntry.log_error",
        "clients/locusts/request_events.py",
        "a row of delays must not count in the row Aggregated, as an event would",
        "Aggregated adds milliseconds of tokens to messages",
        lambda found: found["row"] == [1, 1, 0],
    ),
    Of(
        "WebUI's endpoints locust.index and locust.swarm",
        "clients/locusts/tab.py",
        "the page gets a script more, the form is checked before a test starts",
        "no charts; a wrong form starts a test that dies",
        lambda found: {"locust.index", "locust.swarm"} <= set(found["endpoints"]),
    ),
    Of(
        "missing_host_warning",
        "clients/locusts/tab.py",
        "our classes have addresses of their own",
        "the form asks for a host that nobody needs",
        lambda found: bool(found["warning"]),
    ),
    Of(
        "WebUI.userclass_picker_is_active",
        "clients/locusts/tab.py",
        "whose classes the form has chosen",
        "the check is about other classes than those that start",
        lambda found: found["picker"] is False,
    ),
    Of(
        "StopUser",
        "clients/locustfile.py",
        "a user ends between two messages when a test ends; documented for Locust's own use only",
        "users are killed in the middle of a message",
        lambda found: found["asked"] == [1, "stopped"],
    ),
    Of(
        "Message.node_id",
        "clients/locusts/coordinator.py",
        "which worker has sent all its records",
        "the end of a test waits for its whole limit",
        lambda found: "node_id" in found["message"],
    ),
    Of(
        "MasterRunner.clients.all, WorkerNode.id, WorkerNode.state, STATE_MISSING",
        "clients/locusts/coordinator.py",
        "the master waits for the records of the workers that are there",
        "the end of a test waits for a worker that has died",
        lambda found: found["missing"] == "missing" and found["all"] and {"id", "state"} <= set(found["worker"]),
    ),
]


@pytest.mark.parametrize("internal", AIOHTTP + CLICK + UVICORN, ids=lambda internal: internal.name)
def test_what_is_not_documented_is_as_we_use_it(internal: Internal) -> None:
    assert internal.holds(), f"{internal.name} has changed. Used because {internal.why}; without it {internal.without}"


@pytest.mark.parametrize("internal", OF_LOCUST, ids=lambda internal: internal.name)
def test_so_is_locust(locust: dict[str, Any], internal: Of) -> None:
    assert internal.holds(locust), f"{internal.name}: used because {internal.why}; without it {internal.without}"


@pytest.mark.parametrize("internal", [*AIOHTTP, *CLICK, *UVICORN, *OF_LOCUST], ids=lambda internal: internal.name)
def test_the_list_has_nothing_that_is_not_used(internal: Internal | Of) -> None:
    for file in internal.files.split():
        code = (ROOT / file).read_text()
        last = internal.name.partition("(")[0].replace(",", " ").split()[-1].rpartition(".")[2]
        assert last in code, f"{file} does not use {last} any more"


def test_the_clients_need_nothing_undocumented_but_of_locust() -> None:
    files = {file for internal in (*AIOHTTP, *CLICK, *UVICORN) for file in internal.files.split()}
    assert [file for file in files if file.startswith("clients/")] == []
    locusts = {file for internal in OF_LOCUST for file in internal.files.split()}
    assert [file for file in locusts if not file.startswith(("clients/locusts/", "clients/locustfile.py"))] == []


# ---- and no version that nobody has looked at


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for lines in lists for line in lines if not line.startswith("tokenderby")]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_ends_below_its_next_major_version(requirement: Requirement) -> None:
    bounds = [specifier.version for specifier in requirement.specifier if specifier.operator == "<"]
    assert len(bounds) == 1


@pytest.mark.parametrize("name", ["aiohttp", "click", "locust", "uvicorn"])
def test_where_internals_are_used_below_the_next_minor_one(name: str) -> None:
    (requirement,) = [r for r in requirements() if r.name == name]
    bounds = {specifier.operator: specifier.version.split(".") for specifier in requirement.specifier}
    assert bounds["<"] == [bounds[">="][0], str(int(bounds[">="][1]) + 1)]
