"""Fixtures for every test: a server of each transport, shared by the tests of one worker; clients that are closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from support import sources
from support.processes import RunningServer, running_server
from support.programs import program, required

from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient


def pytest_configure() -> None:
    """Refuse a TOKENDERBY_REQUIRE that would require nothing."""
    required()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several at a time: slow files first, so that at the end no worker is left alone with one."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(tryfirst=True)  # before any fixture is set up
def pytest_runtest_setup(item: pytest.Item) -> None:
    """`needs("nginx")`: skip the test, or fail it, where that program is not installed."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            program(name)


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[str], RunningServer]]:
    """`server("sse")`: that server with default options, started when first asked for. Do not stop it."""
    with _servers() as get:
        yield get


@pytest.fixture(scope="session")
def sourced() -> Iterator[Callable[[str], RunningServer]]:
    """The same, but the message's first word says which function of support.sources answers."""
    with _servers("--source", sources.NAME, "--source-timeout", str(sources.SILENCE_S)) as get:
        yield get


@contextmanager
def _servers(*options: str) -> Iterator[Callable[[str], RunningServer]]:
    with ExitStack() as stack:
        started: dict[str, RunningServer] = {}

        def get(transport: str) -> RunningServer:
            if transport not in started:
                started[transport] = stack.enter_context(running_server(transport, *options))
            return started[transport]

        yield get


@pytest.fixture
async def client() -> AsyncIterator[Callable[..., AioClient]]:
    """`client(transport, url, **settings)`, closed after the test."""
    made: list[AioClient] = []

    def make(transport: str, url: str, **settings: Any) -> AioClient:
        made.append(AioClient(transport, ClientSettings(url, **settings)))
        return made[-1]

    yield make
    for user in made:
        await user.close()
