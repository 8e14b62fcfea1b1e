"""What command-line options take, checked by click; errors name the option."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from servers.arguments import Number, RedisUrl, Seconds
from servers.user_errors import InputError

if TYPE_CHECKING:
    from bench.proxy.profile import Profile

DAY = Seconds(min=0, max=86_400)
REDIS_URL = RedisUrl()

time_scale = click.option(
    "--time-scale",
    type=Number(min=1e-3, max=1e6),
    default=1.0,
    show_default=True,
    help="Divides every time of the profile.",
)
"""Of a command that puts an intermediary up."""


def typed_names() -> set[str]:
    """The arguments' names of the options that stand on the command line itself."""
    context = click.get_current_context()
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}


class Names(click.ParamType[tuple[str, ...]]):
    """Some of the `known` names, separated by commas."""

    name = "A,B"

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names. Raises click.BadParameter, which names the unknown ones."""
        names = tuple(value.split(",")) if isinstance(value, str) else value
        if unknown := [name for name in names if name not in self._known]:
            self.fail(f"{', '.join(unknown)}: takes some of {','.join(self._known)}", param, ctx)
        return names


class Duration(click.ParamType[float]):
    """A time in seconds, as `90s`, `10m`, `1h` or a plain number of seconds."""

    name = "duration"

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s, self._most_s = least_s, most_s

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds. Raises click.BadParameter, which says what it takes."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(value.strip())
        found_s = float(match[1]) * _UNITS_S[match[2]] if match else -1.0
        if not self._least_s <= found_s <= self._most_s:
            least, most = (f"{limit_s:g}s" for limit_s in (self._least_s, self._most_s))
            self.fail(f"{value[:50]!r}: takes a time from {least} to {most}, as 90s, 10m or 1h", param, ctx)
        return found_s


_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(s|m|h|)", re.ASCII)
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def comma_list(_: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Click callback: "a,b" as a list; None if the option was not given."""
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise click.BadParameter("takes words with commas between them", param=parameter)
    return names


def targets_option(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Click callback: TRANSPORT=URL pairs as a table."""
    from bench.running.addresses import AddressError, server_url
    from servers.transport import CONTESTANTS

    found = {}
    for value in values:
        transport, equals, url = value.partition("=")
        if transport not in CONTESTANTS or not equals:
            form = f"takes TRANSPORT=URL, as sse=http://127.0.0.1:8001; transports are {', '.join(CONTESTANTS)}"
            raise click.BadParameter(f"{value[:200]!r} {form}", param=parameter)
        try:
            found[transport] = server_url(url)
        except AddressError as error:
            raise click.BadParameter(f"{transport}: {error}", param=parameter) from None
    return found


def limits_option(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """Click callback: KEY=VALUE pairs as a plan's table of limits, None without any."""
    from bench.slo import from_options

    found = {}
    for value in values:
        key, _equals, number = value.partition("=")
        try:
            found[key.strip()] = float(number)
        except ValueError:
            form = "takes KEY=VALUE with a number, as ttft_ms_p95=800"
            raise click.BadParameter(f"{value[:200]!r} {form}", param=parameter) from None
    return from_options(found) if found else None


P = TypeVar("P", str, Path, None)


def writable(_: click.Context, parameter: click.Parameter, target: P) -> P:
    """Click callback: say before the work begins that a file cannot be written. "-" is standard output."""
    if target is None or str(target) == "-":
        return target
    folder = Path(target).resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        what = "takes a file in a folder that is there and can be written to"
        raise click.BadParameter(f"{what}, not {str(target)[:200]!r}", param=parameter)
    return target


def named_profile(name: str) -> Profile:
    """The profile that `--profile` names. Raises InputError, which names the option too."""
    from bench.proxy.profile import ProfileError, load_profile

    try:
        return load_profile(name)
    except ProfileError as error:
        raise InputError(f"--profile: {error}") from None


def plan_words(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a shell completes a plan with: a name, or else a file."""
    from bench.plan import plan_names

    names = [CompletionItem(name) for name in plan_names() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]
