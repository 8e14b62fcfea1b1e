"""What command-line options take, checked by click; errors name the option."""

from __future__ import annotations

import math
from typing import Any

import click

DAY_S = 86_400.0


class Seconds(click.FloatRange):
    """A duration: a number of seconds, not negative and not endless."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0, max=DAY_S)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds. Raises click.BadParameter; "nan" passes click's own comparison."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} takes a number from 0 to {DAY_S:g}", param, ctx)
        return seconds


def comma_list(_: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Click callback: "a,b" as a list; None if the option was not given."""
    if value is None:
        return None
    words = [word.strip() for word in value.split(",")]
    if not all(words):
        raise click.BadParameter("takes words with commas between them", param=parameter)
    return words


def targets(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Click callback: TRANSPORT=URL pairs as a table."""
    from bench.running.addresses import AddressError, server_url
    from servers.transport import TRANSPORTS

    found = {}
    for value in values:
        transport, _equals, url = value.partition("=")
        try:
            if transport not in TRANSPORTS:
                raise AddressError(f"transports are {', '.join(TRANSPORTS)}")
            found[transport] = server_url(url)
        except AddressError as error:
            form = "takes TRANSPORT=URL, as sse=http://127.0.0.1:8001"
            raise click.BadParameter(f"{value[:200]!r} {form}: {error}", param=parameter) from None
    return found


def redis_url(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Click callback: a URL that the Redis client understands; it may hold a password, so it is not repeated."""
    if value is None:
        return None
    from redis.asyncio import Redis

    try:
        Redis.from_url(value)
    except ValueError:
        text = "takes a URL as redis://HOST:6379/0, rediss://USER:PASSWORD@HOST:6379/0 or unix:///PATH"
        raise click.BadParameter(text, param=parameter) from None
    return value
