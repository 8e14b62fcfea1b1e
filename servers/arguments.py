"""What arguments of commands take: checked before anything starts, so that a wrong one is named (exit 2)."""

from __future__ import annotations

import ipaddress
import math
import socket
from typing import Any
from urllib.parse import urlsplit

import click

from servers.checks import limit_text, shown
from servers.user_errors import UserError

HELP = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A command whose errors for people are one line on standard error, with their exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Do it; a UserError becomes click's own kind."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Said(error) from error


class _Said(click.ClickException):
    def __init__(self, error: UserError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc] # click reads it off the instance


class Number(click.FloatRange):
    """A finite number, without a unit behind it."""

    name = "number"
    what = "a number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it. Raises click.BadParameter, which says what it takes: of click's own words "range" means nothing."""
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        least, most = (-math.inf if self.min is None else self.min), (math.inf if self.max is None else self.max)
        if not (math.isfinite(found) and least <= found <= most):
            limits = (("from", self.min), ("to", self.max))
            text = "".join(f" {word} {limit_text(limit)}" for word, limit in limits if limit is not None)
            self.fail(f"takes {self.what}{text}, not {shown(value)}", param, ctx)
        return found


class Seconds(Number):
    """A finite number of seconds."""

    name = "seconds"
    what = "a number of seconds"


class Port(click.ParamType[int]):
    """A port to listen on, or 0."""

    name = "port"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it. Raises click.BadParameter."""
        text = str(value)
        if not (text.isascii() and text.isdecimal() and len(text) <= len("65535") and int(text) < 65_536):
            self.fail(f"takes a port from 1 to 65535, or 0 for one that is free, not {shown(value)}", param, ctx)
        return int(text)


class Host(click.ParamType[str]):
    """A name or an address of this machine."""

    name = "host"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that it can be resolved."""
        try:
            addresses_of(value)
        except (OSError, UnicodeError):
            self.fail(f"{value[:100]!r} is no address and no name of a host.", param, ctx)
        return value


class RedisUrl(click.ParamType[str]):
    """Where a Redis is."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that it can be read. The value may hold a password: no error repeats it."""
        from servers.redis_server import Address, RedisUnavailable  # late, as most commands do without

        try:
            Address.parse(value)
        except RedisUnavailable as error:
            self.fail(str(error), param, ctx)
        return value


class Origin(click.ParamType[str]):
    """An origin as browsers send it, or "*" for all."""

    name = "origin"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that a browser could send it: another spelling would never match."""
        try:
            parts = urlsplit(value)
            is_origin = value.isascii() and f"{parts.scheme}://{parts.netloc}" == value.lower() and bool(parts.netloc)
        except ValueError:
            is_origin = False
        if not is_origin and value != "*":
            self.fail(
                f"{value[:100]!r} is no origin, such as https://page.example or http://localhost:5173.", param, ctx
            )
        return value


class Secret(click.ParamType[str]):
    """A token that fits into a header and a cookie."""

    name = "secret"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check its characters; the value itself is in no error."""
        if not value or not value.isascii() or not value.isprintable() or set(value) & set(' ";,\\'):
            self.fail("takes printable ASCII without spaces, quotes, commas, semicolons and backslashes.", param, ctx)
        return value


def addresses_of(host: str) -> list[str]:
    """The addresses of a host. Raises OSError, or UnicodeError for what can be no name."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses_of(host))
