"""Fixtures for every test: a server of each transport, shared by the tests of one worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.processes import RunningServer, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[str], RunningServer]]:
    """`server("sse")`: that server with default options, started when first asked for. Do not stop it."""
    with ExitStack() as stack:
        started: dict[str, RunningServer] = {}

        def get(transport: str) -> RunningServer:
            if transport not in started:
                started[transport] = stack.enter_context(running_server(transport))
            return started[transport]

        yield get
