"""The registry, and what must hold for each transport in it: where its parts are, and what these may import."""

from __future__ import annotations

import importlib
import re

import grimp
import pytest

from servers.transport import TRANSPORTS

GRAPH = grimp.build_graph("servers", "clients", include_external_packages=True, cache_dir=None)
INPUT_OUTPUT = {"asyncio", "socket", "time", "gevent", "redis", "aiohttp", "uvloop"}
each = pytest.mark.parametrize("transport", TRANSPORTS)


def imported_by(module: str) -> set[str]:
    """What the module itself imports; what that imports in turn (the standard library reads clocks) is its business."""
    return set(GRAPH.find_modules_directly_imported_by(module))


@each
def test_its_parts_are_where_they_are_looked_for(transport: str) -> None:
    assert callable(importlib.import_module(f"servers.{transport}.app").create)
    assert callable(importlib.import_module(f"clients.{transport}").attempt)
    assert importlib.import_module(f"servers.{transport}.wire").__doc__


def test_nobody_can_take_one_for_another() -> None:
    assert all(name == t.name and re.fullmatch("[a-z][a-z0-9]*", name) for name, t in TRANSPORTS.items())
    for what in ("title", "colour", "user_class"):
        assert len({getattr(t, what).lower() for t in TRANSPORTS.values()}) == len(TRANSPORTS)
    assert [t.user_class for t in TRANSPORTS.values()][:4] == ["PollingUser", "WebSocketUser", "ChunkedUser", "SSEUser"]


@each
def test_its_client_does_no_input_and_output(transport: str) -> None:
    assert not imported_by(f"clients.{transport}") & INPUT_OUTPUT


@each
def test_no_other_transport_and_no_driver_knows_it(transport: str) -> None:
    others = [name for name in TRANSPORTS if name != transport]
    folders = {m for name in others for m in GRAPH.find_descendants(f"servers.{name}") | {f"servers.{name}"}}
    drivers = GRAPH.find_descendants("clients.drivers") | {"clients.drivers"}
    for module in folders | drivers | {f"clients.{name}" for name in others}:
        strangers = {m for m in imported_by(module) if m.startswith((f"servers.{transport}", f"clients.{transport}"))}
        assert not strangers, f"{module} imports {strangers}"
