"""A run of one cell, as `tokenderby run quick` makes it, with an injury."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import psutil

from bench.injuries.hog import computing
from bench.injuries.injury import Injury, RunPart, command_words
from bench.plan import Plan, parse, read_plan
from bench.run_record import CellRecord
from bench.running.endpoints import ready_child
from bench.running.machine import pinning
from bench.running.runner import RunOptions, carry_out, new_run
from servers.transport import TRANSPORTS

_NO_CHANGE: Mapping[str, object] = {}


async def struck_run(injury: Injury, folder: Path, changes: Mapping[str, object] = _NO_CHANGE) -> CellRecord:
    """Run the injury's cell once, into a new folder in `folder`; its record. `changes` are further keys of the plan."""
    plan = plan_for(injury, changes)
    run = new_run(plan, folder)
    display = _Striking(injury)
    async with _surroundings(injury, folder) as options:
        ended = await carry_out(plan, run, options, display)
        await display.healed()
    return ended.cells[0]


def plan_for(injury: Injury, changes: Mapping[str, object] = _NO_CHANGE) -> Plan:
    """Plan `quick` with its stream, load and limits, for one attempt at one cell."""
    table = msgspec.to_builtins(read_plan("quick"))
    table["load"] |= injury.load
    table["validity"]["attempts"] = 1
    return parse(table | {"blocks": 1, "control": "none", "cells": [dict(injury.cell)]} | changes)


@asynccontextmanager
async def _surroundings(injury: Injury, folder: Path) -> AsyncIterator[RunOptions]:
    """What is there before the run begins: a program that takes processor time, a server that keeps another time."""
    cores = pinning()
    async with AsyncExitStack() as stack:
        options = RunOptions()
        if injury.hog:
            stack.enter_context(computing(cores[injury.hog]))
        if injury.server:
            transport = str(injury.cell["transport"])
            argv = [sys.executable, "-m", f"bench.injuries.{injury.server}_server", transport]
            child, ready = await ready_child(f"{injury.server} server", argv, folder / "injured.log", cores["servers"])
            stack.push_async_callback(child.stop)
            options = RunOptions(targets={transport: ready.url})
        yield options


class _Striking:
    """A display (bench.running.progress.Display) that shows nothing, and strikes once so much is done."""

    def __init__(self, injury: Injury) -> None:
        self._injury = injury
        self._before = psutil.Process().children(recursive=True)  # whoever made us may have servers of its own
        self._strike: asyncio.Task[None] | None = None

    def begin(self, record: CellRecord) -> None:
        """Nothing to show."""

    def advance(self, done: int, of: int) -> None:
        """Strike, if it is time."""
        if self._injury.stop and self._strike is None and done >= self._injury.at * of:
            self._strike = asyncio.create_task(self._stand_still(self._injury.stop))

    def end(self, record: CellRecord, *, again: bool = False) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to close."""

    async def healed(self) -> None:
        """Return when what was stopped goes on. Raises LookupError if there was no such part."""
        if self._strike is not None:
            await self._strike

    async def _stand_still(self, part: RunPart) -> None:
        process = self._process(command_words(part))
        with suppress(psutil.NoSuchProcess):  # the cell may be over before the last time
            for _ in range(self._injury.times):
                process.suspend()
                try:
                    await asyncio.sleep(self._injury.stop_s)
                finally:
                    process.resume()
                await asyncio.sleep(self._injury.stop_s)

    def _process(self, words: str) -> psutil.Process:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if process not in self._before and words in " ".join(process.cmdline()):
                    return process
        raise LookupError(f"nothing of this run has {words} in its command line")


def is_caught(injury: Injury, record: CellRecord) -> bool:
    """Whether the cell is void for every reason that the injury gives."""
    return record.status == "void" and all(
        any(reason.startswith(wanted) for reason in record.reasons) for wanted in injury.reasons
    )


def needs_redis(injury: Injury) -> bool:
    """Whether it cannot be done without a Redis."""
    return TRANSPORTS[str(injury.cell["transport"])].needs_redis
