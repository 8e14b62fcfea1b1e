"""Headless Chromium for tests: nothing it does by itself, and nothing from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright
from support.programs import program

from clients.chromium.browser import ARGS


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """A browser; while it is open its thread can run no asyncio of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=[*ARGS, *more])
        try:
            yield browser
        finally:
            browser.close()
