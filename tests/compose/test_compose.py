"""`make compose-test`: what `docker compose up` promises, with a real engine (docs/compose.md)."""

from __future__ import annotations

import json
import urllib.request

import pandas as pd
import pytest
from support.composing import OWNER, ROOT, Compose, docker, until

from servers.transport import TRANSPORTS

pytestmark = [pytest.mark.compose, pytest.mark.slow]

IMAGE_LIMIT_BYTES = 500_000_000
NOTEBOOK = "review.ipynb"


def answers(url: str) -> bool:
    """Whether a page is served there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_up_runs_the_plan_and_serves_both_pages(compose: Compose) -> None:
    compose.environment["NOTEBOOK_TOKEN"] = "secret"
    compose("up", "--build", "--detach", "--scale", "locust-worker=2", timeout_s=600)
    until(lambda: answers(compose.port("locust")))
    until(lambda: answers(f"{compose.port('notebook')}/login"))
    until(lambda: answers(f"{compose.port('sse')}/healthz"))  # through the timeout proxy
    until(lambda: answers(compose.port("watch")))
    check_race(compose)
    check_containers(compose)
    check_notebook(compose)
    assert compose.ended("bench", timeout_s=300) == 0, compose.said("bench")
    check_run(compose)
    compose("down", "--timeout", "5", timeout_s=120)
    label = f"label=com.docker.compose.project={compose.project}"
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert docker(*kind, "--quiet", "--filter", label) == ""


def check_containers(compose: Compose) -> None:
    """Loopback only, nothing writable, limited, no root among the servers, no tools, small."""
    for service in compose("ps", "--services").split():
        facts = json.loads(docker("inspect", compose.container(service).split()[0]))[0]
        assert facts["HostConfig"]["ReadonlyRootfs"], service
        assert facts["HostConfig"]["Memory"] > 0 < facts["HostConfig"]["PidsLimit"], service
        bound = [each for every in (facts["HostConfig"]["PortBindings"] or {}).values() for each in every]
        assert {each["HostIp"] for each in bound} <= {"127.0.0.1"}, service
        assert bound == [] or service != "redis"
    assert compose("exec", "sse", "id", "-u").strip() == "10001"
    processes = compose("exec", "notebook", "cat", "/proc/1/status")
    assert f"Uid:\t{OWNER}\t{OWNER}" in processes  # the owner of the results folder
    tools = compose("exec", "sse", "sh", "-c", "ls /opt/tokenderby/bin; command -v gcc make uv git || true")
    assert not {"pip", "hatchling", "gcc", "make", "uv", "git"} & set(tools.replace("/", " ").split())
    base, image = (int(docker("inspect", "--format", "{{.Size}}", name)) for name in ("python:3.13-slim", "tokenderby"))
    assert image - base < IMAGE_LIMIT_BYTES


def check_race(compose: Compose) -> None:
    """The race page's columns can be reached from here, where a browser is."""
    with urllib.request.urlopen(f"{compose.port('watch')}/race.json", timeout=5) as response:
        columns = json.loads(response.read())["columns"]
    assert [column["transport"] for column in columns] == list(TRANSPORTS)
    assert all(answers(column["url"].replace("/chat", "/healthz")) for column in columns)


def check_notebook(compose: Compose) -> None:
    """It can be opened although the results folder was empty, and belongs to the folder's owner."""
    assert not answers(f"{compose.port('notebook')}/api/contents/{NOTEBOOK}")  # without the password
    assert answers(f"{compose.port('notebook')}/api/contents/{NOTEBOOK}?token=secret")
    copy = compose.results / NOTEBOOK
    assert copy.read_bytes() == (ROOT / "results" / NOTEBOOK).read_bytes()
    assert copy.stat().st_uid == OWNER


def check_run(compose: Compose) -> None:
    """A complete run, every message arrived, files of the host's user, and what shared which core."""
    folder, run = compose.only_run()
    assert (run.status, run.name) == ("complete", "quick")
    assert {cell.status for cell in run.cells} <= {"ok", "void"}
    assert sum(cell.failed_messages for cell in run.cells) == 0
    assert all(cell.server_cpu_s is not None for cell in run.cells)
    assert all(cell.redis_cpu_s is not None for cell in run.cells if TRANSPORTS[cell.transport].needs_redis)
    assert run.machine["target_cores"] == {name: [0] for name in TRANSPORTS}
    if run.machine["cores_usable"] == [0]:
        assert run.warnings == [f"The load shares its core with servers that ran already: {', '.join(TRANSPORTS)}."]
    else:
        assert (run.machine["pinned_cores"], run.warnings) == ({"servers": [0], "load": [1]}, [])
    assert len(pd.read_csv(folder.path / "summary.csv")) == len({cell.cell for cell in run.cells})
    assert folder.report_path.stat().st_size > 100_000
    written = [folder.path, *folder.path.rglob("*")]
    assert {path.stat().st_uid for path in written} == {OWNER}
    assert (folder.path.parent / "latest").resolve() == folder.path
