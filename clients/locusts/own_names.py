"""Whose requests Locust's web UI takes: those of its own pages, and of scripts, under a name that is its own (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

_EVERYWHERE = frozenset({"", "*", "0.0.0.0", "::"})  # noqa: S104  # compared with, not bound


@dataclass(frozen=True)
class OwnNames:
    """By what names a browser may know the web UI, which listens at `bound`; `named` are those of the command line.

    A foreign page can have its own name lead to this machine (DNS rebinding): to a browser it is then a page of the web
    UI, and nothing but that name tells. With an address for a name that cannot be done.
    """

    bound: str
    named: frozenset[str]

    @classmethod
    def of(cls, bound: str | None, named: str) -> OwnNames:
        """From what the command line says: names in lower case, with commas between them."""
        return cls((bound or "").lower(), frozenset(filter(None, (name.strip() for name in named.lower().split(",")))))

    def has(self, host: str) -> bool:
        """Whether `host`, a request's with its port, is one of them."""
        name = _without_port(host)
        if name in self.named | {self.bound, "localhost"}:
            return True
        try:
            address = ip_address(name or "")
        except ValueError:
            return False
        return address.is_loopback or self.bound in _EVERYWHERE


def _without_port(host: str) -> str | None:
    """The name in `host`, in lower case; None where there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def is_foreign(site: str | None, origin: str | None, host: str) -> bool:
    """Whether a request to `host` (with its port) comes from another site's page; scripts send neither header.

    `site` (Sec-Fetch-Site) is the browser's own word, and holds behind a proxy that changes the host; where it is
    missing (old browsers, plain HTTP to another machine) the `origin` is compared.
    """
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2].lower() != host.lower()
