"""Servers that ask for a token, for the tests of who may ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.processes import RunningServer, running_server


@pytest.fixture(scope="session")
def guarded() -> Iterator[Callable[[str], RunningServer]]:
    """`guarded("sse")`: that server with the token `s3cret`, which pages of http://page.example may read."""
    with ExitStack() as stack:
        started: dict[str, RunningServer] = {}

        def get(transport: str) -> RunningServer:
            if transport not in started:
                options = ("--auth-token", "s3cret", "--allow-origin", "http://page.example")
                started[transport] = stack.enter_context(running_server(transport, *options))
            return started[transport]

        yield get
