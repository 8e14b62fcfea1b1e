"""Programs of other people that some tests need.

Without one such a test is skipped, and says what to install; where TOKENDERBY_REQUIRE names it (`chromium,nginx`) the
test fails instead: CI must not pass because it has tested nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from servers import redis_server

VARIABLE = "TOKENDERBY_REQUIRE"
NODE_VERSION = 20  # clients/browser/package.json


def _first_of(*names: str) -> Callable[[], str | None]:
    def find() -> str | None:
        # Debian has daemons where only root's PATH looks.
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
        return next((found for name in names if (found := shutil.which(name, path=path))), None)

    return find


def _node() -> str | None:
    """Node, if it is one that has what the browser's module needs."""
    path = _first_of("node")()
    if path is None:
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    return path if int(version.lstrip("v").partition(".")[0] or 0) >= NODE_VERSION else None


# How each is found, and Debian's package of it.
PROGRAMS: dict[str, tuple[Callable[[], str | None], str]] = {
    "chromium": (_first_of("chromium", "chromium-browser", "google-chrome"), "chromium fonts-dejavu-core"),
    "haproxy": (_first_of("haproxy"), "haproxy"),
    "make": (_first_of("make"), "make"),
    "nginx": (_first_of("nginx"), "nginx-light"),
    "node": (_node, f"nodejs npm, version {NODE_VERSION} or newer"),
    "openssl": (_first_of("openssl"), "openssl"),
    "redis": (redis_server.find_executable, "redis-server"),
}


def required() -> set[str]:
    """The programs that TOKENDERBY_REQUIRE names. Raises pytest.UsageError for one that no test asks for."""
    names = {name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()}
    if unknown := names - set(PROGRAMS):
        raise pytest.UsageError(f"{VARIABLE}: unknown {', '.join(sorted(unknown))}; known: {', '.join(PROGRAMS)}")
    return names


def program(name: str) -> str:
    """The path of a program; without it the running test is skipped, or fails if it is required."""
    find, package = PROGRAMS[name]
    path = find()
    if path is not None:
        return path
    what = f"{name} is not installed (Debian: apt-get install {package})"
    if name in required():
        pytest.fail(f"{what}, and {VARIABLE} asks for it", pytrace=False)
    pytest.skip(what)
