"""What the stacks share that serve WebSockets alone: probes, access and upgrades, by path and headers (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, urlsplit

import msgspec

from servers import access
from servers.chat import RequestError
from servers.http import read_since
from servers.service import Service


def checked_upgrade(service: Service, target: str, headers: Mapping[str, str]) -> bytes | None:
    """A probe's body; None for an upgrade on /chat, which may go on. Raises RequestError.

    The headers' names are capitalised (`Authorization`).
    """
    try:
        parts = urlsplit(target)
    except ValueError:  # of an address in absolute form (RFC 9112 §3.2.2)
        raise RequestError(400, "bad_http", "the request's target is no address") from None
    if parts.path == "/healthz":
        return msgspec.json.encode(service.health_report())
    settings = service.settings
    access.check(headers, settings.auth_token, settings.allow_origins, writes=parts.path == "/chat")
    if parts.path == "/chat":
        access.check_origin(headers, settings.allow_origins)
        return None
    reports: dict[str, Callable[[], dict[str, object]]] = {
        "/clock": service.clock_report,
        "/stats": lambda: service.stats_report(read_since(parse_qs(parts.query).get("since", ["0"])[0])),
    }
    if parts.path not in reports:
        raise RequestError(404, "not_found", "Not Found")
    return msgspec.json.encode(reports[parts.path]())
