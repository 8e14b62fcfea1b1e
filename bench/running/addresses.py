"""Addresses of servers as people give them: checked before anything is asked there (pure)."""

from __future__ import annotations

from urllib.parse import urlsplit


class AddressError(ValueError):
    """Not the URL of a server; the message says what is wrong with it."""


def server_url(url: str) -> str:
    """`url` cut behind its port; an IPv6 address stands in brackets, as http://[::1]:8001. Raises AddressError."""
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise AddressError("a password is no part of it; a token goes with --target-token")
        if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
            raise AddressError("an IPv6 address stands in brackets")
        _ = parts.port  # raises where it is no port
    except ValueError as error:
        raise AddressError(str(error)) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AddressError("the URL begins with http://HOST or https://HOST")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise AddressError("nothing follows the host and the port: the paths are those of docs/wire-format.md")
    _check_host(parts.hostname)
    return f"{parts.scheme}://{parts.netloc}"


def _check_host(host: str) -> None:
    try:
        encoded = host.encode("idna")  # Python's resolver does the same, and dies of it
    except UnicodeError:
        raise AddressError(f"no host can be called {host[:64]!r}") from None
    if any(byte <= ord(" ") for byte in encoded):
        raise AddressError(f"no host can be called {host[:64]!r}")


def host_and_port(url: str) -> str:
    """HOST:PORT of a server's URL, as `tokenderby proxy --upstream` takes it, with the scheme's port if none is given.

    Raises AddressError for https, which the proxy does not speak to a server.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise AddressError(f"the proxy speaks plain HTTP to a server, not {parts.scheme}; leave the cell's profile out")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or 80}"
