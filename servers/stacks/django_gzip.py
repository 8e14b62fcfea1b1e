"""A known trap, for measurements: Django under ASGI with its `GZipMiddleware`.

Django 5.2's packs each piece of a stream by itself, as a gzip file of its own. That is more than it was, and curl and
others read the first file alone (docs/stacks.md).
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from servers.service import Service
from servers.stacks import django_asgi, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    app = django_asgi.create(service, middleware=["django.middleware.gzip.GZipMiddleware"])
    return uvicorn_server.serving(app, service.settings, lifespan="off")
