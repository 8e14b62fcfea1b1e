"""`python -m servers TRANSPORT`: one server, until SIGTERM or Ctrl-C. `tokenderby serve` is the same."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from typing import Any, TextIO, TypeVar

import click
from aiohttp import web

from servers import logs, recording
from servers.arguments import HELP, Command, Host, Origin, Port, RedisUrl, Seconds, Secret, is_loopback
from servers.connection import listening
from servers.http import together
from servers.process import run
from servers.ready_line import say_ready
from servers.service import KEEP_ALIVE_S, Service, Settings, source_function
from servers.source import SILENCE_S
from servers.stacks import STACKS, StackError, installed
from servers.transport import HEAD_FIRST, TRANSPORTS
from servers.user_errors import InputError, StreamError, UserError, reason

_PREFIX = "TOKENDERBY_SERVE_"
_Command = TypeVar("_Command", bound=Callable[..., object])


def _option(name: str, *others: str, envvar: str | None = None, **settings: Any) -> Callable[[_Command], _Command]:
    """An option that the environment can set too. Its value is called as in Settings, which takes all of them."""
    variable = envvar or _PREFIX + name.lstrip("-").replace("-", "_").upper()
    return click.option(name, *others, envvar=variable, show_envvar=True, **settings)


@click.command(cls=Command, context_settings=HELP | {"show_default": True})
@click.argument("transport", type=click.Choice(list(TRANSPORTS)))
@_option("--host", default="127.0.0.1", type=Host(), metavar="HOST", help="Address to listen on.")
@_option("--port", default=0, type=Port(), metavar="PORT", help="0 takes a free one.")
@_option(
    "--redis-url",
    envvar="TOKENDERBY_REDIS_URL",
    type=RedisUrl(),
    metavar="URL",
    help="Redis for polling; without it one is found or started.",
)
@_option(
    "--auth-token",
    envvar="TOKENDERBY_AUTH_TOKEN",
    type=Secret(),
    metavar="SECRET",
    help="Ask every client for it. Set it by the environment: a process list shows options.",
)
@_option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    type=Origin(),
    metavar="ORIGIN",
    help="Pages that may read the answers.",
)
@_option(
    "--heartbeat",
    "heartbeat_s",
    type=Seconds(min=0),
    default=0.0,
    callback=lambda _, __, value: value or None,
    metavar="SECONDS",
    help="Send one after a silence of this length; 0 is off.",
)
@_option(
    "--keep",
    "keep_s",
    type=Seconds(min=0, max=86_400),
    default=120.0,
    metavar="SECONDS",
    help="How long an answer can be resumed after its end.",
)
@_option(
    "--keep-alive",
    "keep_alive_s",
    type=Seconds(min=0.001, max=86_400),
    default=KEEP_ALIVE_S,
    metavar="SECONDS",
    help="Close an HTTP connection that has waited this long for a request.",
)
@_option(
    "--recording", "recordings", multiple=True, metavar="FILE", help="Recorded answers that requests may name by id."
)
@_option(
    "--source",
    metavar="MODULE:FUNCTION|openai|URL",
    help="Answer by a function of yours, an OpenAI-compatible endpoint, or another (chunked) server of this machine.",
)
@_option(
    "--source-timeout",
    "source_timeout_s",
    type=Seconds(min=0.001, max=86_400),
    default=SILENCE_S,
    metavar="SECONDS",
    help="Give up a source that has given nothing for this long.",
)
@_option("--stack", metavar="NAME", help=f"Serve by a framework as its users do: {', '.join(STACKS)}.")
@_option("--late-head", is_flag=True, help="Send the head of a streamed response with its first token only.")
@_option(
    "--also",
    multiple=True,
    type=click.Choice(list(TRANSPORTS)),
    metavar="TRANSPORT",
    help="Give the same answers by this transport too, each transport below its name: /sse/chat.",
)
@_option("--raw-text", is_flag=True, help="Send text as UTF-8 instead of JSON escapes (\\u2028).")
def main(transport: str, also: tuple[str, ...], **options: Any) -> None:
    """Serve the simulated stream over TRANSPORT until SIGTERM.

    When ready, prints one line: {"transport": "sse", "url": "http://127.0.0.1:43121"}.

    \b
    Try it:
      tokenderby serve sse --port 8001
      curl -N http://127.0.0.1:8001/chat -d '{"message": "hello", "stream": "fast"}'

    A WebSocket takes the same JSON as a text frame on ws://…/chat.
    """
    logs.set_up(transport)
    others = tuple(name for name in dict.fromkeys(also) if name != transport)
    settings = Settings(transport, also=others, **options)
    _check_late_head(settings)
    _check_stack(settings)
    _register(settings.recordings)
    told = sys.stdout
    if settings.source is not None:
        sys.stdout = sys.stderr  # what somebody else's code prints must not stand before the line that we say, or fill
        source_function(settings.source)  # its pipe; imported here, while a wrong one can still be named
    if settings.auth_token is None and not is_loopback(settings.host):
        warning = f"{settings.host} is open to other machines, and without --auth-token to anybody"
        click.echo(f"{transport}: warning: {warning}", err=True)
    try:
        run(_serve(settings, told))
    except OSError as error:
        raise UserError(
            f"{transport}: cannot serve on port {settings.port} of {settings.host}: {reason(error)}"
        ) from error


def _check_late_head(settings: Settings) -> None:
    """Raise InputError where no response begins before its first token anyway, or there is none."""
    if settings.late_head and settings.stack is not None:
        raise InputError("--late-head: means nothing to a stack, whose head is its framework's own business")
    if settings.late_head and settings.transport not in HEAD_FIRST:
        raise InputError(f"--late-head: means nothing to {settings.transport}, only to {', '.join(HEAD_FIRST)}")


def _check_stack(settings: Settings) -> None:
    """Raise InputError for a stack that cannot be served, or not with these options."""
    if settings.stack is None:
        return
    try:
        stack = installed(settings.stack, settings.transport)
    except StackError as error:
        raise InputError(f"--stack: {error}") from None
    if settings.heartbeat_s or settings.allow_origins or settings.also:
        raise InputError(f"--stack: {stack.name} takes neither --heartbeat nor --allow-origin nor --also")
    if stack.has_workers and settings.source is not None:
        raise InputError(f"--stack: {stack.name} takes no --source, as its processes make the answers themselves")
    if stack.is_trap and not is_loopback(settings.host):
        raise InputError(f"--stack: {stack.name} has a known mistake on purpose; it takes a loopback --host only")


def _register(paths: tuple[str, ...]) -> None:
    try:
        for path in paths:
            recording.register(recording.load_recording(path))
    except StreamError as error:
        raise click.BadParameter(str(error), param_hint="'--recording'") from None


async def _serve(settings: Settings, told: TextIO) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with closing(Service(settings)) as service:
        async with _serving(service) as port:
            # What exists by now lives as long as the process; looking through it again and again costs pauses.
            gc.collect()
            gc.freeze()
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            say_ready(_ready(settings, f"http://{host}:{port}"), told)
            await stop.wait()
            await service.stop()
    if service.source is not None and service.source.is_running:
        os._exit(0)  # all is closed but for a source that does not obey, which asyncio would wait for


def _serving(service: Service) -> AbstractAsyncContextManager[int]:
    settings = service.settings
    if settings.stack is not None:
        return STACKS[settings.stack].serving(service)
    if not settings.also:
        return listening(_application(service), settings)
    services = (service, *map(service.beside, settings.also))
    return listening(together(map(_application, services)), settings)


def _application(service: Service) -> web.Application:
    app: web.Application = importlib.import_module(f"servers.{service.settings.transport}.app").create(service)
    return app


def _ready(settings: Settings, root: str) -> dict[str, object]:
    """What is said when the server listens: where, and where else with `--also`."""
    name = settings.transport
    if not settings.also:
        return {"transport": name, "url": root}
    return {"transport": name, "url": f"{root}/{name}", "also": {other: f"{root}/{other}" for other in settings.also}}


if __name__ == "__main__":
    main(prog_name="tokenderby serve")
