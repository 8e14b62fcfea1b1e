"""The command `watch`."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import webbrowser
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import click
from aiohttp import web

from bench import option_types
from bench.proxy.profile import Profile
from bench.running.processes import PartDied
from bench.watch.race_track import LOOPBACK, RaceTrack
from bench.watch.site import Site
from servers.arguments import HELP, Command, Host
from servers.checks import shown
from servers.process import free_port, run
from servers.ready_line import say_ready
from servers.transport import TRANSPORTS
from servers.user_errors import UserError, reason


class Places(NamedTuple):
    """Where all of it listens: the page's port, and one for each transport, or none, for any that are free."""

    host: str
    port: int
    lanes: Sequence[int]


def _ports(_: click.Context, __: click.Parameter, value: str) -> Sequence[int]:
    """The ports that PORT or FIRST-LAST names: the page's, then none or one for each transport."""
    first, separator, last = value.partition("-")
    if first.isdecimal() and (last or first).isdecimal() and len(value) <= len("65535-65535"):
        found = range(int(first), int(last or first) + 1)
        is_whole = len(found) == 1 + len(TRANSPORTS) and found[0] > 0 if separator else True
        if is_whole and found[-1] < 65_536:
            return found
    needed = f"FIRST-LAST, {1 + len(TRANSPORTS)} ports, where those of the transports must be known too"
    raise click.BadParameter(f"{shown(value)}: takes a port, 0 for any that is free, or {needed}")


@click.command(cls=Command, context_settings=HELP)
@click.option(
    "--profile",
    default="none",
    show_default=True,
    metavar="NAME_OR_FILE",
    help="What stands in between: a profile, or a TOML file.",
)
@option_types.time_scale
@click.option(
    "--port", default="0", show_default=True, callback=_ports, help="Of the page, or FIRST-LAST: and of the rest."
)
@click.option(
    "--host",
    default=LOOPBACK,
    type=Host(),
    show_default=True,
    metavar="HOST",
    help="Where to listen; the page is at 127.0.0.1 all the same.",
)
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
def watch(profile: str, time_scale: float, port: Sequence[int], host: str, no_browser: bool) -> None:
    """Watch all transports carry the same answer, side by side, in a browser.

    Starts Redis, a server for each transport and the proxies before them, prints {"url": …} and opens that page.
    Ends with Ctrl-C or SIGTERM. Only this machine can reach it, if --host does not say otherwise; that is for a
    container, which publishes its ports on 127.0.0.1.

    \b
    Examples:
      tokenderby watch
      tokenderby watch --no-browser --profile aws-alb --time-scale 20
    """
    places = Places(host, port[0] or free_port(), port[1:])
    found = option_types.named_profile(profile)
    try:
        run(_race(found, time_scale, places, opens=not no_browser))
    except PartDied as error:
        raise UserError(str(error)) from error
    except OSError as error:
        where = f"port {places.port} of {host}"
        raise UserError(f"cannot serve on {where}, or on those behind it (--port): {reason(error)}") from error


async def _race(profile: Profile, time_scale: float, places: Places, *, opens: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    url = f"http://{LOOPBACK}:{places.port}"
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokenderby-watch-")))
        track = await stack.enter_async_context(RaceTrack(url, logs, places.host, places.lanes))
        site = Site(url, track, profile, time_scale)
        await site.put(profile)
        runner = web.AppRunner(site.application(), access_log=None, shutdown_timeout=1)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, places.host, places.port).start()
        say_ready({"url": url})
        if opens:
            await asyncio.to_thread(webbrowser.open, url)
        await _until(stop, track)


async def _until(stop: asyncio.Event, track: RaceTrack) -> None:
    """Return when `stop` is set. Raises PartDied when a server ends before."""
    stopped, died = asyncio.create_task(stop.wait()), asyncio.create_task(track.died())
    await asyncio.wait((stopped, died), return_when=asyncio.FIRST_COMPLETED)
    if not stopped.done():
        raise died.result()
    died.cancel()
