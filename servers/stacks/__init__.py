"""The registry of stacks: the same contract served the way people write it, on the frameworks that they use.

A stack is one module here with `serving(service)`, an async context that yields the port, and a line in this table.
What they share is servers.stacks.answer; docs/stacks.md says what each one is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from servers.checks import shown, suggestion
from servers.user_errors import InputError

if TYPE_CHECKING:  # plans know this table, and not what serves
    from servers.service import Service


# No index has this project: who asks one for `tokenderby[stacks]` would get a stranger's package, if anything.
REMEDY = "in the project's folder, `make dev` or `pip install -r requirements/stacks.txt`"


STACK_TRANSPORTS = ("sse", "chunked", "websocket")  # that a stack may have


class StackError(InputError):
    """No such stack, not with this transport, or not installed; the message says what to do."""


@dataclass(frozen=True)
class Stack:
    """A way to write a server.

    `name` is the word in plans, `title` the one for people; `packages` are what Python imports for it. `is_trap` says
    that it has a known mistake on purpose, which makes it unfit for anybody but this machine. `has_workers` says that
    it runs as processes of its own, which keep the model's time themselves: how late they do is the stack's.
    """

    name: str
    title: str
    transports: tuple[str, ...]
    module: str
    packages: tuple[str, ...] = ()
    is_trap: bool = False
    has_workers: bool = False

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]

    def serving(self, service: Service) -> AbstractAsyncContextManager[int]:
        """Serve for as long as the context lasts; yields the port."""
        found: Callable[[Service], AbstractAsyncContextManager[int]] = import_module(
            f"{__name__}.{self.module}"
        ).serving
        return found(service)


def _trap(name: str, title: str, transports: tuple[str, ...], packages: tuple[str, ...]) -> Stack:
    return Stack(name, title, transports, name.replace("-", "_"), packages, is_trap=True)


def _flask(name: str, title: str, module: str, packages: tuple[str, ...]) -> Stack:
    return Stack(name, title, ("sse", "chunked"), module, packages, has_workers=True)


_FASTAPI = ("fastapi", "uvicorn")
_DJANGO = ("django", "uvicorn")
_GUNICORN = ("flask", "gunicorn")
STACKS: dict[str, Stack] = {
    stack.name: stack
    for stack in (
        Stack("fastapi", "FastAPI", STACK_TRANSPORTS, "fastapi_uvicorn", _FASTAPI),
        Stack("fastapi-sse", "FastAPI's own SSE", ("sse",), "fastapi_sse", _FASTAPI),
        Stack("sse-starlette", "sse-starlette", ("sse",), "starlette_sse", (*_FASTAPI, "sse_starlette")),
        Stack(
            "fastapi-hypercorn", "FastAPI, Hypercorn", STACK_TRANSPORTS, "fastapi_hypercorn", (*_FASTAPI, "hypercorn")
        ),
        Stack("fastapi-granian", "FastAPI, Granian", STACK_TRANSPORTS, "fastapi_granian", (*_FASTAPI, "granian")),
        Stack("django", "Django", STACK_TRANSPORTS, "django_asgi", _DJANGO),
        _flask("flask-sync", "Flask, gunicorn sync", "flask_gunicorn", _GUNICORN),
        _flask("flask-gthread", "Flask, gunicorn gthread", "flask_gunicorn", _GUNICORN),
        _flask("flask-gevent", "Flask, gunicorn gevent", "flask_gunicorn", (*_GUNICORN, "gevent")),
        _flask("flask-dev", "Flask's development server", "flask_dev", ("flask",)),
        Stack("aiohttp-write", "aiohttp, await write", ("sse", "chunked"), "aiohttp_write"),
        Stack("picows", "picows, send", ("websocket",), "picows_send", ("picows",)),
        Stack("websockets-send", "websockets, await send", ("websocket",), "websockets_send"),
        _trap("fastapi-http-middleware", "FastAPI, access checked by HTTP middleware", STACK_TRANSPORTS, _FASTAPI),
        _trap("fastapi-gzip", "FastAPI, GZipMiddleware", ("sse", "chunked"), _FASTAPI),
        _trap("fastapi-gzip-unflushed", "FastAPI, gzip without a flush", ("sse", "chunked"), _FASTAPI),
        _trap("django-gzip", "Django, GZipMiddleware", ("sse", "chunked"), _DJANGO),
        _trap("fastapi-base-middleware", "FastAPI, a BaseHTTPMiddleware", ("sse", "chunked"), _FASTAPI),
        _trap("fastapi-sync-generator", "FastAPI, a generator that blocks", ("sse",), _FASTAPI),
        _trap("fastapi-splitlines", "FastAPI, events by splitlines", ("sse",), _FASTAPI),
        _trap("fastapi-no-grace", "FastAPI, a stop without end", ("sse",), _FASTAPI),
        _trap("django-http-middleware", "Django, access checked by its middleware", STACK_TRANSPORTS, _DJANGO),
    )
}


def find_stack(name: str, transport: str) -> Stack:
    """The stack of that name, which serves `transport`. Raises StackError."""
    stack = STACKS.get(name)
    if stack is None:
        raise StackError(f"unknown {shown(name)}; {suggestion(name, STACKS)}")
    if transport not in stack.transports:
        raise StackError(f"{name} has no {transport}, only {', '.join(stack.transports)}")
    return stack


def installed(name: str, transport: str) -> Stack:
    """The same, and what it needs is installed. Raises StackError."""
    stack = find_stack(name, transport)
    if missing := stack.missing:
        raise StackError(f"{name} needs {', '.join(missing)}: {REMEDY}")
    return stack
