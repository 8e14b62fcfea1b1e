"""Who may ask, for every transport: bearer token, cookie, and origins (pure)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from servers.chat import RequestError

COOKIE = "tokenderby"


def check(headers: Mapping[str, str], token: str | None, allowed_origins: tuple[str, ...], *, writes: bool) -> None:
    """Refuse a request without the right token, or one that a foreign page sent in its user's name.

    `writes` is true for what a foreign page must not do with a user's cookie: a POST or a WebSocket upgrade.
    Raises RequestError with 401 or 403.
    """
    if token is None:
        return
    if _same(_bearer(headers), token):
        return
    if not _same(_cookie(headers), token):
        raise RequestError(401, "unauthorized", "send `Authorization: Bearer …` or the cookie `tokenderby`")
    if writes:
        check_origin(headers, allowed_origins)


def check_origin(headers: Mapping[str, str], allowed_origins: tuple[str, ...]) -> None:
    """Refuse a page of a foreign origin; a client that is no browser sends no Origin. Raises RequestError with 403."""
    origin = headers.get("Origin")
    if origin is None or is_allowed(origin, allowed_origins):
        return
    if _authority(origin) != headers.get("Host", "").lower():
        raise RequestError(403, "foreign_origin", "this origin is not allowed; see --allow-origin")


def _authority(origin: str) -> str | None:
    """`host:port` of an origin; None for "null" and for what is no origin at all."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def is_allowed(origin: str, allowed_origins: tuple[str, ...]) -> bool:
    """Whether --allow-origin names `origin`."""
    return "*" in allowed_origins or origin in allowed_origins


def _same(given: str | None, token: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def _cookie(headers: Mapping[str, str]) -> str | None:
    """The value of our cookie. Read as RFC 6265, 5.2 has it: whatever else stands there is another application's."""
    for pair in headers.get("Cookie", "").split(";"):
        name, separator, value = pair.partition("=")
        if separator and name.strip() == COOKIE:
            return value.strip().removeprefix('"').removesuffix('"')
    return None
