"""`stack=NAME` in a plan: checked, said if it is not installed, and handed to the server that the cell gets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner
from support.processes import RunningServer

from bench.cli import main as tokenderby
from bench.plan import Cell, Plan, parse, read_plan
from bench.plan_options import with_options
from bench.running.endpoints import Fleet
from bench.running.processes import PartDied
from bench.running.runner import new_run
from bench.running.unchecked_upgrades import ask_without_token
from bench.table_checks import PlanError
from servers.__main__ import main as serve
from servers.stacks import STACKS


@pytest.fixture
def without_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed: None in `sys.modules` is how Python is told that a package is not there."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"transport": "sse", "stack": "fastpai"}, "[[cells]] 1 stack: unknown 'fastpai'; did you mean 'fastapi'?"),
        ({"transport": "polling", "stack": "fastapi"}, "stack: fastapi has no polling, only sse, chunked, websocket"),
        ({"transport": "sse", "stack": "fastapi", "heartbeat": 5}, "heartbeat: means nothing to a stack"),
    ],
)
def test_mistakes_are_named(cell: dict[str, object], said: str) -> None:
    with pytest.raises(PlanError) as error:
        parse({"name": "x", "cells": [cell]})
    assert said in str(error.value)


def test_the_plan_has_every_sound_stack_beside_ours() -> None:
    cells = {(cell.stack, cell.transport) for cell in read_plan("stacks").cells}
    sound = {(stack.name, name) for stack in STACKS.values() if not stack.is_trap for name in stack.transports}
    assert cells == sound | {("", name) for _, name in sound}


@pytest.mark.usefixtures("without_uvicorn")
def test_what_is_missing_is_said_before_a_run_has_a_folder(tmp_path: Path) -> None:
    plan = parse({"name": "x", "cells": [{"transport": "sse", "stack": "fastapi"}]})  # it can still be read
    with pytest.raises(PlanError, match="stack: fastapi needs uvicorn: in the project's folder, `make dev`"):
        new_run(plan, tmp_path)
    assert not list(tmp_path.iterdir())
    new_run(plan, tmp_path, {"sse": "http://elsewhere"})  # where it is served already, it is there


@pytest.mark.usefixtures("without_uvicorn")
def test_a_story_goes_on_without_what_is_missing(tmp_path: Path) -> None:
    whole = read_plan("article")
    plan = with_options(whole)
    assert {cell.stack for cell in whole.cells} - {cell.stack for cell in plan.cells} == {"fastapi"}
    new_run(plan, tmp_path)


async def test_an_upgrade_without_a_token_is_asked_for(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        found = await ask_without_token(http, tmp_path)
    assert found == {
        "fastapi-http-middleware": {"request": 401, "upgrade": 101},
        "fastapi": {"request": 401, "upgrade": 401},
    }


@pytest.mark.usefixtures("without_uvicorn")
def test_what_is_missing_ends_the_commands_with_2(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    served = CliRunner().invoke(serve, ["sse", "--stack", "fastapi"])
    assert served.exit_code == 2
    assert "--stack: fastapi needs uvicorn: in the project's folder, `make dev`" in served.output
    with pytest.raises(SystemExit) as ended:
        tokenderby(["run", "stacks", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "fastapi needs uvicorn" in capfd.readouterr().err


def test_a_trap_is_served_to_this_machine_only() -> None:
    options = ["websocket", "--stack", "fastapi-http-middleware", "--host", "0.0.0.0"]
    result = CliRunner().invoke(serve, options)
    assert (result.exit_code, "loopback" in result.output) == (2, True)


@pytest.mark.parametrize("option", [["--heartbeat", "5"], ["--allow-origin", "http://page.example"]])
def test_options_that_no_stack_has_are_refused(option: list[str]) -> None:
    result = CliRunner().invoke(serve, ["sse", "--stack", "fastapi", *option])
    assert (result.exit_code, "takes neither --heartbeat nor --allow-origin" in result.output) == (2, True)


def test_a_source_is_refused_where_the_stack_makes_the_answers_itself() -> None:
    result = CliRunner().invoke(serve, ["sse", "--stack", "flask-gevent", "--source", "openai"])
    assert (result.exit_code, "takes no --source" in result.output) == (2, True)


async def test_each_cell_gets_the_server_that_it_names(tmp_path: Path) -> None:
    cells = [Cell(transport="sse"), Cell(transport="sse", stack="fastapi")]
    async with aiohttp.ClientSession() as http:
        fleet = Fleet(Plan(name="test"), http, tmp_path, [])
        try:
            await fleet.start(cells)
            servers = [(await fleet.route(cell)).server for cell in cells]
            assert [(await server.counters(http)).stack for server in servers] == [None, "fastapi"]
        finally:
            await fleet.stop()
    assert {log.name for log in tmp_path.iterdir()} == {"sse.log", "sse-fastapi.log"}


async def test_a_target_that_is_not_the_stack_fails_the_cell(
    server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    async with aiohttp.ClientSession() as http:
        fleet = Fleet(Plan(name="test"), http, tmp_path, [], {"sse": server("sse").url})
        with pytest.raises(PartDied, match=r"wants the stack fastapi; .* does not say so"):
            await fleet.route(Cell(transport="sse", stack="fastapi"))
        await fleet.route(Cell(transport="sse"))
