"""A client that is closed after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from clients.client import Client, Settings, client_for


@pytest.fixture
async def client() -> AsyncIterator[Callable[..., Client]]:
    """`client(transport, url, **settings)`."""
    made: list[Client] = []

    def make(transport: str, url: str, **settings: Any) -> Client:
        made.append(client_for(transport, Settings(url, **settings)))
        return made[-1]

    yield make
    for user in made:
        await user.close()
