"""Chromium that dies is said to have died, in a line, and not in Playwright's words and protocol."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from clients.chromium.browser import NoBrowser, chromium

pytestmark = pytest.mark.needs("chromium")


async def test_a_browser_that_is_killed() -> None:
    with pytest.raises(NoBrowser, match=r"^Chromium died while it was used, or somebody closed it$"):
        await _use_and_kill()


async def _use_and_kill() -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # helpers come and go
                if "--remote-debugging-pipe" in process.cmdline():
                    process.kill()
        await page.evaluate("new Promise(() => {})")


async def test_a_browser_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho of no use >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NoBrowser, match=r"^Chromium does not start: [^\n]+$"):
        async with chromium():
            pass
