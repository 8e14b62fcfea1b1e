"""Children of the run: how they end, what they said, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from bench.running.processes import Child

GRANDCHILD = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)\n"
)


async def start(tmp_path: Path, program: str, cpus: list[int] | None = None) -> Child:
    return await Child.start("test server", [sys.executable, "-c", program], tmp_path / "child.log", cpus or [])


async def first_line(child: Child) -> str:
    assert child.process.stdout is not None
    return (await child.process.stdout.readline()).decode()


async def test_how_it_died_and_its_last_words(tmp_path: Path) -> None:
    child = await start(tmp_path, "import sys; print('no Redis found', file=sys.stderr); sys.exit(3)")
    assert str(await child.died()) == "the test server died (exit code 3): no Redis found"
    child = await start(tmp_path, "import sys; sys.exit(4)")
    assert str(await child.died()) == "the test server died (exit code 4)"  # those of the one before are not its own


async def test_a_kill_is_named(tmp_path: Path) -> None:
    child = await start(tmp_path, "import time; print('on', flush=True); time.sleep(60)")
    await first_line(child)
    os.kill(child.process.pid, signal.SIGKILL)
    assert str(await child.died()) == "the test server died (killed by SIGKILL)"


async def test_stop_ends_what_it_started_too(tmp_path: Path) -> None:
    child = await start(tmp_path, GRANDCHILD)
    grandchild = psutil.Process(int(await first_line(child)))
    alive = [child.alive]
    await child.stop()
    assert [*alive, child.alive] == [True, False]
    async with asyncio.timeout(5):
        while grandchild.is_running() and grandchild.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)


async def test_an_end_reaches_what_is_stopped_and_in_another_session(tmp_path: Path) -> None:
    """As Chromium is: Playwright starts it apart, and nothing but SIGKILL ends a process that is stopped."""
    child = await start(tmp_path, GRANDCHILD.replace("(60)'])", "(60)'], start_new_session=True)"))
    grandchild = psutil.Process(int(await first_line(child)))
    assert os.getsid(grandchild.pid) == grandchild.pid
    grandchild.suspend()
    async with asyncio.timeout(10):  # it holds the pipes, for which a wait for the child waits too
        await child.end()
        while grandchild.is_running() and grandchild.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are pinned on Linux only")
async def test_it_stays_on_its_core(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    child = await start(tmp_path, "import os; print(sorted(os.sched_getaffinity(0)))", [core])
    assert await first_line(child) == f"[{core}]\n"
    await child.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
async def test_it_ends_with_a_runner_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from bench.running.processes import Child\n"
        "async def main():\n"
        "    sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"    child = await Child.start('x', sleep, pathlib.Path({str(tmp_path / 'x.log')!r}))\n"
        "    print(child.process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    runner = await start(tmp_path, program)
    orphan = psutil.Process(int(await first_line(runner)))
    await asyncio.sleep(0.3)  # time for it to tie itself to the runner
    os.kill(runner.process.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)
    await runner.process.wait()
