"""Programs of other people that some tests need.

Without one such a test is skipped, and says what to install; where TOKENDERBY_REQUIRE names it (`chromium,nginx`) the
test fails instead: CI must not pass because it has tested nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from servers import redis_server

VARIABLE = "TOKENDERBY_REQUIRE"


def _first_of(*names: str) -> Callable[[], str | None]:
    def find() -> str | None:
        # Debian has daemons where only root's PATH looks.
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
        return next((found for name in names if (found := shutil.which(name, path=path))), None)

    return find


# How each is found, and Debian's package of it.
_PROGRAMS: dict[str, tuple[Callable[[], str | None], str]] = {
    "chromium": (_first_of("chromium", "chromium-browser", "google-chrome"), "chromium fonts-dejavu-core"),
    "haproxy": (_first_of("haproxy"), "haproxy"),
    "make": (_first_of("make"), "make"),
    "nginx": (_first_of("nginx"), "nginx-light"),
    "openssl": (_first_of("openssl"), "openssl"),
    "redis": (redis_server.find_executable, "redis-server"),
}


def required() -> set[str]:
    """The programs that TOKENDERBY_REQUIRE names. Raises pytest.UsageError for one that no test asks for."""
    names = {name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()}
    if unknown := names - set(_PROGRAMS):
        raise pytest.UsageError(f"{VARIABLE}: unknown {', '.join(sorted(unknown))}; known: {', '.join(_PROGRAMS)}")
    return names


def program(name: str) -> str:
    """The path of a program; without it the running test is skipped, or fails if it is required."""
    find, package = _PROGRAMS[name]
    path = find()
    if path is not None:
        return path
    what = f"{name} is not installed (Debian: apt-get install {package})"
    if name in required():
        pytest.fail(f"{what}, and {VARIABLE} asks for it", pytrace=False)
    pytest.skip(what)
