"""A transport that gets nothing through: said first, and exit 1 unless an intermediary of the plan is what cut it."""

from __future__ import annotations

import json

import pytest
from support.processes import running_server

from .conftest import Bench

pytestmark = pytest.mark.slow

WEBSOCKET = '[[cells]]\ntransport = "websocket"\n'
SAID = "not one of 4 messages arrived whole. Cause: status 426 (4 messages)"


def test_behind_an_intermediary_of_the_plan_it_is_a_finding(bench: Bench) -> None:
    done = bench.run("run", bench.plan(WEBSOCKET + 'profile = "nginx"\n', streams=4))
    assert done.returncode == 0, done.stderr
    assert SAID in " ".join(done.stdout.split())


def test_with_nothing_in_between_it_is_a_fault(bench: Bench) -> None:
    """A target whose way in does not pass the upgrade, as nginx by default."""
    with running_server("websocket") as server:
        proxy = bench.start("proxy", "--upstream", server.url.removeprefix("http://"), "--profile", "nginx")
        assert proxy.stdout is not None
        url = json.loads(proxy.stdout.readline())["url"]
        done = bench.run("run", bench.plan(WEBSOCKET, streams=4), "--target", f"websocket={url}")
        proxy.terminate()
    assert done.returncode == 1
    assert f"tokenderby: nothing got through: WebSocket: {SAID}" in done.stderr
    assert "Something before the server does not pass the WebSocket upgrade" in done.stderr
