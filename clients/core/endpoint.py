"""Where a server is: a URL, taken apart once (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from servers.checks import is_host
from servers.user_errors import InputError

_SECURE = {"http": False, "ws": False, "https": True, "wss": True}


@dataclass(frozen=True)
class Endpoint:
    """`host` is for connecting (an IPv6 address without brackets), `authority` for `Host`, `base` the URL's path."""

    host: str
    port: int
    secure: bool
    authority: str
    base: str = ""

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read `http://host:port/base`; https, ws and wss too. Raises InputError, which says what it takes."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # a port that is no number, a bracket without its twin
            host = port = None
        is_one = is_host(host or "") and port != 0 and url.isascii()
        if host is None or not is_one or parts.scheme not in _SECURE or parts.query or parts.fragment:
            raise InputError(f"takes an address as http://127.0.0.1:8001 or https://example.org, not {url[:200]!r}")
        secure = _SECURE[parts.scheme]
        authority = parts.netloc.rpartition("@")[2]
        return cls(host, port or (443 if secure else 80), secure, authority, parts.path.rstrip("/"))

    def target(self, path: str) -> str:
        """The request target for `path`: below the URL's own path, if it is not already."""
        return path if path.startswith(f"{self.base}/") else self.base + path
