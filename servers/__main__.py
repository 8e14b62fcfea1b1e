"""`python -m servers TRANSPORT`: one server, until SIGTERM or Ctrl-C. `tokenderby serve` is the same."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable

import click
from aiohttp import web

from servers import recording
from servers.process import run
from servers.push import limit_stall
from servers.redis_server import RedisUnavailable
from servers.service import KEEP_ALIVE_S, Service, Settings
from servers.stream import StreamError
from servers.transport import TRANSPORTS

CLOSE_S = 0.5  # connections still open when the answers have ended are cut after so long


@click.command()
@click.argument("transport", type=click.Choice(list(TRANSPORTS)))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--redis-url",
    metavar="URL",
    envvar="TOKENDERBY_REDIS_URL",
    help="Redis for polling; without it one is found or started. A password shows in the process list, but not by"
    " TOKENDERBY_REDIS_URL.",
)
@click.option("--auth-token", metavar="SECRET", envvar="TOKENDERBY_AUTH_TOKEN", help="Ask every client for it.")
@click.option(
    "--allow-origin", "allow_origins", multiple=True, metavar="ORIGIN", help="Pages that may read the answers."
)
@click.option(
    "--heartbeat", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Send one when silent; 0 is off."
)
@click.option(
    "--keep",
    type=click.FloatRange(min=0, max=86_400),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer can be resumed after its end.",
)
@click.option(
    "--keep-alive",
    type=click.FloatRange(min=0.001, max=86_400),
    default=KEEP_ALIVE_S,
    show_default=True,
    metavar="SECONDS",
    help="Close an HTTP connection on which nobody has asked for so long.",
)
@click.option(
    "--recording", "recordings", multiple=True, metavar="FILE", help="Recorded answers that requests may name by id."
)
def main(  # noqa: PLR0917 - click passes them by name
    transport: str,
    host: str,
    port: int,
    redis_url: str | None,
    auth_token: str | None,
    allow_origins: tuple[str, ...],
    heartbeat: float,
    keep: float,
    keep_alive: float,
    recordings: tuple[str, ...],
) -> None:
    """Serve the simulated stream over TRANSPORT until SIGTERM.

    When ready, prints one line: {"transport": "sse", "url": "http://127.0.0.1:43121"}. Try it:

    \b
      curl -N URL/chat -d '{"message": "hello", "stream": "fast"}'
    """
    logging.basicConfig(level=logging.WARNING, format=f"{transport}: %(message)s")
    settings = Settings(
        transport, host, port, redis_url, auth_token or None, allow_origins, heartbeat or None, keep, keep_alive
    )
    try:
        for path in recordings:
            recording.register(recording.load(path))
        run(_serve(settings))
    except (StreamError, RedisUnavailable, OSError) as error:
        sys.exit(f"tokenderby serve {transport}: {error}")


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = Service(settings)
    async with _listening(service) as port:
        # What exists by now lives as long as the process; looking through it again and again costs pauses.
        gc.collect()
        gc.freeze()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(json.dumps({"transport": settings.transport, "url": f"http://{host}:{port}"}), flush=True)
        await stop.wait()
        await service.stop()
    service.emitter.close()


@contextlib.asynccontextmanager
async def _listening(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port."""
    app = importlib.import_module(f"servers.{service.settings.transport}.app")
    if hasattr(app, "listening"):  # a transport that is not aiohttp's brings its own server
        async with app.listening(service) as server:
            yield next(iter(server.sockets)).getsockname()[1]
    else:
        async with _listening_http(service, app.create) as port:
            yield port


@contextlib.asynccontextmanager
async def _listening_http(service: Service, create: Callable[[Service], web.Application]) -> AsyncIterator[int]:
    runner = web.AppRunner(
        create(service),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=CLOSE_S,
        keepalive_timeout=service.settings.keep_alive_s,
    )
    await runner.setup()
    assert runner.server is not None
    try:
        loop, settings = asyncio.get_running_loop(), service.settings
        listener = await loop.create_server(runner.server, settings.host, settings.port, backlog=1024)
        for socket in listener.sockets:
            limit_stall(socket)
        yield listener.sockets[0].getsockname()[1]
        listener.close()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    main(prog_name="tokenderby serve")
