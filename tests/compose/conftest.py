"""The project's services, started by a real `docker compose` under a name, ports and a results folder of their own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.composing import OWNER, Compose, docker
from support.sockets import free_ports

from servers.process import free_port
from servers.transport import STREAMING, TRANSPORTS

PORTS = ("LOCUST", "NOTEBOOK", *map(str.upper, STREAMING))


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """End at once, with one clear line, where no Docker engine answers."""
    try:
        docker("info", timeout_s=30)
        docker("compose", "version")
    except (OSError, AssertionError, subprocess.TimeoutExpired) as error:
        pytest.exit(f"compose-test: no Docker engine with Compose v2 answers here ({error})", returncode=1)


@pytest.fixture(scope="session", autouse=True)
def image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The image, built once: what a second worker builds meanwhile is only looked up."""
    with (tmp_path_factory.getbasetemp().parent / "compose-build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Compose("tokenderby-test", {})("build", timeout_s=600)


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    """A project that leaves nothing behind, whatever happens."""
    results = tmp_path / "results"
    results.mkdir()
    if os.getuid() == 0:
        os.chown(results, OWNER, OWNER)
    ports = {f"{name}_PORT": str(free_port()) for name in PORTS}
    ports["WATCH_PORT"] = str((watched := free_ports(1 + len(TRANSPORTS)))[0])
    ports["WATCH_PORTS"] = f"{watched[0]}-{watched[-1]}"
    compose = Compose(f"tokenderby-test-{uuid.uuid4().hex[:6]}", {"RESULTS": str(results), "PLAN": "quick", **ports})
    try:
        yield compose
    finally:
        compose("down", "--volumes", "--remove-orphans", "--timeout", "5", timeout_s=120)
