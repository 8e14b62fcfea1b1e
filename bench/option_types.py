"""What command-line options take, checked by click; errors name the option."""

from __future__ import annotations

import click

from servers.arguments import RedisUrl, Seconds

DAY = Seconds(min=0, max=86_400)
REDIS_URL = RedisUrl()


def comma_list(_: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Click callback: "a,b" as a list; None if the option was not given."""
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise click.BadParameter("takes words with commas between them", param=parameter)
    return names


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
