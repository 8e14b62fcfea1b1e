"""The command `watch`."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import webbrowser
from contextlib import AsyncExitStack
from pathlib import Path

import click
from aiohttp import web

from bench.proxy.profile import Profile, load
from bench.running.processes import PartDied
from bench.watch.race_track import RaceTrack
from bench.watch.site import Site
from servers.arguments import HELP, Command, Number
from servers.process import free_port, run
from servers.user_errors import UserError


@click.command(cls=Command, context_settings=HELP)
@click.option("--profile", default="none", show_default=True, help="What stands in between: a profile, or a TOML file.")
@click.option(
    "--time-scale",
    type=Number(min=1e-3, max=1e6),
    default=1.0,
    show_default=True,
    help="Divides every time of the profile.",
)
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Of the page; 0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
def watch(profile: str, time_scale: float, port: int, no_browser: bool) -> None:
    """Watch all transports carry the same answer, side by side, in a browser.

    Starts Redis, a server for each transport and the proxies before them, prints {"url": …} and opens that page.
    Ends with Ctrl-C or SIGTERM. Only this machine can reach it.
    """
    behind = load(profile)
    try:
        run(_race(behind, time_scale, port or free_port(), opens=not no_browser))
    except PartDied as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"cannot serve the page: {error.strerror or error}") from error


async def _race(profile: Profile, time_scale: float, port: int, *, opens: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokenderby-watch-")))
        track = await stack.enter_async_context(RaceTrack(url, logs))
        site = Site(url, track, profile, time_scale)
        await site.put(profile)
        runner = web.AppRunner(site.application(), access_log=None)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=1).start()
        print(json.dumps({"url": url}), flush=True)
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
