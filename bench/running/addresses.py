"""Addresses of servers as people give them: checked before anything is asked there (pure)."""

from __future__ import annotations

from urllib.parse import urlsplit

from clients.core.endpoint import Endpoint
from servers.user_errors import InputError


class AddressError(InputError):
    """Not the URL of a server; the message says what is wrong with it."""


class NoAddressError(AddressError):
    """No URL at all; the message has it, and says what one looks like."""


def server_url(url: str, *, option: str = "--target-token") -> str:
    """`url` as http or https (ws and wss mean the same servers), without a slash at its end. Raises AddressError.

    IPv6 addresses stand in brackets, as http://[::1]:8001. `option`: by which the command takes a token.
    """
    authority = url.partition("://")[2].partition("/")[0]
    if "@" in authority:
        raise AddressError(f"a password is no part of it; a token goes with {option}")
    if authority.count(":") > 1 and "[" not in authority:
        raise AddressError("an IPv6 address stands in brackets")
    try:
        Endpoint.parse(url)
        parts = urlsplit(url)
    except ValueError as error:
        raise NoAddressError(str(error)) from None
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or any(character <= " " for character in url):
        raise AddressError("the URL begins with http://HOST or https://HOST")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def host_and_port(url: str, *, passes_tls: bool = False) -> str:
    """HOST:PORT of a server's URL, as `tokenderby proxy --upstream` takes it, with the scheme's port if none is given.

    Raises AddressError for https, which the proxy does not speak to a server, unless it just passes it through.
    """
    endpoint = Endpoint.parse(url)
    if endpoint.secure and not passes_tls:
        raise AddressError("the proxy speaks plain HTTP to a server, not https; leave the cell's profile out")
    return f"[{endpoint.host}]:{endpoint.port}" if ":" in endpoint.host else f"{endpoint.host}:{endpoint.port}"


def base_path(url: str) -> str:
    """What stands in a server's URL behind its host and port: "" or, say, "/bench"."""
    return Endpoint.parse(url).base
