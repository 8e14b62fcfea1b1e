"""`client=browser` in a plan and `--clients`: checked, said if it is missing, and run to the end of the report."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.cli import main as tokenderby
from bench.plan import parse, read_plan
from bench.plan_options import with_options
from bench.running.runner import new_run
from bench.table_checks import PlanError

PLAN = """
name = "tiny"
blocks = 1
control = "none"
[stream]
profile = "fast"
tokens = 3
[load]
arrivals = "burst"
concurrency = 2
streams = 4
rate_per_s = 8
warmup_streams = 0
[validity]
attempts = 1
[[cells]]
transport = "blocking"
"""


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"client": "chrome"}, "client"),
        ({"client": "browser", "reuse": False}, "reuse: a browser decides by itself"),
        ({"client": "browser", "recovery": "restart"}, "recovery: a browser's client takes none or resume"),
        ({"client": "browser", "dialect": "openai"}, "dialect: means nothing to a browser's client"),
        ({"client": "browser", "tls": True, "http": 2, "share": 3}, "share: a browser's page is one user"),
    ],
)
def test_mistakes_are_named(cell: dict[str, object], said: str) -> None:
    with pytest.raises(PlanError) as error:
        parse({"name": "x", "cells": [{"transport": "sse"} | cell]})
    assert said in str(error.value)


def test_every_plan_can_be_asked_by_a_browser() -> None:
    plan = with_options(read_plan("quick"), clients=["asyncio", "browser"])
    assert len(plan.cells) == 2 * len(read_plan("quick").cells)
    assert {cell.client for cell in plan.cells} == {"asyncio", "browser"}


def test_the_plan_has_what_six_connections_take() -> None:
    plan = read_plan("browser")
    secure = [cell for cell in plan.cells if cell.tls]
    ways = {(cell.transport, cell.method, cell.http) for cell in secure}
    assert ways == {
        *(("sse", method, http) for method in ("post", "get") for http in (1, 2)),
        ("websocket", "post", 1),
    }
    for way in ways:
        cells = [cell for cell in secure if (cell.transport, cell.method, cell.http) == way]
        assert sorted(plan.load_of(cell).concurrency for cell in cells) == [1, 6, 7, 12]


def test_what_is_missing_is_said_before_a_run_has_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = parse({"name": "x", "cells": [{"transport": "sse", "client": "browser"}]})  # it can still be read
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "playwright", None)  # how Python is told that a package is not there
        with pytest.raises(
            PlanError, match=r"client: Playwright is not installed: pip install -r requirements/browser"
        ):
            new_run(plan, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("clients.chromium.browser.NAMES", ("no-such-browser",))
    with pytest.raises(PlanError, match="client: Chromium is not installed; on Debian: apt-get install chromium"):
        new_run(plan, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("chromium")
def test_a_run_by_both_clients(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What does not stream comes, and is painted, at once; void or not, the run has both cells."""
    (tmp_path / "tiny.toml").write_text(PLAN)
    words = ["run", str(tmp_path / "tiny.toml"), "--clients", "asyncio,browser", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        tokenderby(words)
    assert ended.value.code == 0, capfd.readouterr().err
    folder = tmp_path / "latest"
    assert set(pd.read_parquet(folder / "streams.parquet")["cell"]) == {"blocking", "blocking client=browser"}
    painted = pd.read_parquet(folder / "painted.parquet")
    assert painted[["cell", "frames", "tokens_painted"]].to_numpy().tolist() == [["blocking client=browser", 1, 3]] * 4
    assert not (folder / "cells").exists()
