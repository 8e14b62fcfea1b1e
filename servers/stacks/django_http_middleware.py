"""A known mistake, for measurements: Django with its access check in its middleware alone.

Django's middleware is not run for the WebSocket beside Django, which therefore needs no token (docs/stacks.md).
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from servers.service import Service
from servers.stacks import django_asgi, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    return uvicorn_server.serving(django_asgi.create(service, checks_upgrades=False), service.settings, lifespan="off")
