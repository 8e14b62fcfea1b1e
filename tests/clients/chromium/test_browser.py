"""Chromium that dies is said to have died, in a line, and not in Playwright's words and protocol."""

from __future__ import annotations

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
            if "--remote-debugging-pipe" in process.cmdline():
                process.kill()
        await page.evaluate("new Promise(() => {})")


async def test_a_browser_that_does_not_start() -> None:
    with pytest.raises(NoBrowser, match=r"^Chromium does not start: [^\n]+$"):
        async with chromium("--remote-debugging-port=none", "--user-data-dir=/nowhere"):
            pass
