"""A machine with other cores than 0 and 1, for the tests of the self-cost."""

from __future__ import annotations

from typing import Any

import pytest

from bench.running import machine
from bench.selfcost import loaded_server, proxy_cost, transport_cost
from bench.selfcost.child_process import running


@pytest.fixture
def asked_cores(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """The usable cores are 2 and 5; for which process which was asked for. The processes run wherever there is room."""
    asked: list[tuple[str, list[int]]] = []

    def noted(module: str, *arguments: str, cores: list[int], **options: Any) -> Any:
        peer = module == "bench.selfcost.bare_peers"
        asked.append((arguments[0] if peer else module, cores))
        return running(module, *arguments, **options)

    monkeypatch.setattr(machine, "usable_cores", lambda: [2, 5])
    for module in (loaded_server, proxy_cost, transport_cost):
        monkeypatch.setattr(module, "running", noted)
    return asked
