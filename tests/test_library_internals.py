"""Names of libraries that our code uses and their documentation does not give: each listed once, with why, and held.

A library may change these without a word. Then a test here fails with the reason, and not a measurement in silence.
Nothing else undocumented may be used: no attribute of a foreign object that begins with an underscore, no
private module.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import socket
import subprocess
import sys
import tomllib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from packaging.requirements import Requirement
from websockets.frames import Close, Frame, Opcode

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("servers", "clients", "bench")


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

WEBSOCKETS = [
    Internal(
        "Close.serialize, Frame.serialize",
        "bench/proxy/behaviours/websocket_close.py",
        "a proxy closes a WebSocket that it is no end of: there is no connection object to ask",
        "profiles that close with a code close without one",
        lambda: (
            Frame(Opcode.CLOSE, Close(1001, "x").serialize()).serialize(mask=False) == b"\x88\x03\x03\xe9x"
            and len(Frame(Opcode.CLOSE, b"").serialize(mask=True)) == 6
        ),
    ),
]

# Locust replaces parts of the process that imports it: it is looked at in one of its own.
LOCUST = """
import inspect, json
from locust import runners
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
print(json.dumps({
    "row": [row.num_requests, row.num_failures, environment.stats.total.num_requests],
    "endpoints": [rule.endpoint for rule in web_ui.app.url_map.iter_rules()],
    "picker": web_ui.userclass_picker_is_active,
    "warning": "missing_host_warning" in inspect.getsource(page),
    "missing": runners.STATE_MISSING,
    "all": isinstance(runners.WorkerNodes.all, property),
    "worker": list(inspect.signature(runners.WorkerNode.__init__).parameters),
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
        "MasterRunner.clients.all, WorkerNode.id, WorkerNode.state, STATE_MISSING",
        "clients/locusts/coordinator.py",
        "the master waits for the records of the workers that are there",
        "the end of a test waits for a worker that has died",
        lambda found: found["missing"] == "missing" and found["all"] and {"id", "state"} <= set(found["worker"]),
    ),
]


@pytest.mark.parametrize("internal", AIOHTTP + WEBSOCKETS + UVICORN, ids=lambda internal: internal.name)
def test_what_is_not_documented_is_as_we_use_it(internal: Internal) -> None:
    assert internal.holds(), f"{internal.name} has changed. Used because {internal.why}; without it {internal.without}"


@pytest.mark.parametrize("internal", OF_LOCUST, ids=lambda internal: internal.name)
def test_so_is_locust(locust: dict[str, Any], internal: Of) -> None:
    assert internal.holds(locust), f"{internal.name}: used because {internal.why}; without it {internal.without}"


@pytest.mark.parametrize("internal", [*AIOHTTP, *WEBSOCKETS, *UVICORN, *OF_LOCUST], ids=lambda internal: internal.name)
def test_the_list_has_nothing_that_is_not_used(internal: Internal | Of) -> None:
    for file in internal.files.split():
        code = (ROOT / file).read_text()
        last = internal.name.partition("(")[0].replace(",", " ").split()[-1].rpartition(".")[2]
        assert last in code, f"{file} does not use {last} any more"


# ---- nothing else

# Documented though they begin with an underscore (named tuples), or only a type checker's name.
_DOCUMENTED = {"_asdict", "_fields", "_replace", "_make", "_Hash", "_exit"}
_LISTED = {"servers/connection.py": {"_messages", "_waiter"}}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def own_names(tree: ast.Module) -> set[str]:
    """Whatever a module defines or assigns by name."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names, those of `from` with what is taken."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def foreign_attributes(file: str, tree: ast.Module, ours: dict[str, set[str]]) -> Iterator[str]:
    """Private attributes that neither this module nor one of ours that it imports has defined."""
    known = own_names(tree) | _DOCUMENTED | _LISTED.get(file, set())
    for name in imported(tree):
        known |= ours.get(name, set()) | ours.get(name.rpartition(".")[0], set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in known:
            yield f"{file}:{node.lineno}: {ast.unparse(node)}"


def foreign_imports(file: str, tree: ast.Module) -> Iterator[str]:
    for name in imported(tree):
        if name.partition(".")[0] not in PACKAGES and any(map(is_private, name.split("."))):
            yield f"{file}: {name}"


def module_of(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_nothing_else_private_is_used() -> None:
    trees = dict(sources())
    ours = {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): own_names(t) for file, t in trees.items()
    }
    found = [line for file, tree in trees.items() for line in foreign_attributes(file, tree, ours)]
    found += [line for file, tree in trees.items() for line in foreign_imports(file, tree)]
    assert found == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import x\nx.y._z\n", ["f.py:2: x.y._z"]),
        ("from x import _y\n", ["f.py: x._y"]),
        ("import x._y.z\n", ["f.py: x._y.z"]),
        ("class A:\n    def b(self):\n        self._c = self._d\n", ["f.py:3: self._d"]),
        ("from __future__ import annotations\nkey._replace(a=1)\n", []),
    ],
)
def test_it_would_be_found(code: str, found: list[str]) -> None:
    tree = ast.parse(code)
    assert [*foreign_attributes("f.py", tree, {}), *foreign_imports("f.py", tree)] == found


# ---- and no version that nobody has looked at


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for lines in lists for line in lines if not line.startswith("tokenderby")]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_ends_below_its_next_major_version(requirement: Requirement) -> None:
    bounds = [specifier.version for specifier in requirement.specifier if specifier.operator == "<"]
    assert len(bounds) == 1


@pytest.mark.parametrize("name", ["aiohttp", "locust", "uvicorn"])
def test_where_internals_are_used_below_the_next_minor_one(name: str) -> None:
    (requirement,) = [r for r in requirements() if r.name == name]
    bounds = {specifier.operator: specifier.version.split(".") for specifier in requirement.specifier}
    assert bounds["<"] == [bounds[">="][0], str(int(bounds[">="][1]) + 1)]
