"""Every client test runs on both drivers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.drivers import DRIVERS, AsyncUser

from clients.core.settings import ClientSettings


@pytest.fixture(params=[*DRIVERS])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., AsyncUser]]:
    """`client(transport, url, **settings)`, closed after the test."""
    made: list[AsyncUser] = []

    def make(transport: str, url: str, **settings: Any) -> AsyncUser:
        made.append(DRIVERS[request.param](transport, ClientSettings(url, **settings)))
        return made[-1]

    yield make
    for user in made:
        await user.close()
