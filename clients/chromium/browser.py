"""Headless Chromium: where it is, how it is started, and a page of a server's own origin that asks no server."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from servers.user_errors import UserError

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Route

CAN_ASK = ("blocking", "chunked", "polling", "sse", "websocket")
"""The transports that the page's modules read."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
"""Nothing that a browser does by itself, and no window."""
NO_ADDRESS_CHECKS = "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"
"""For a page that was fetched from nowhere, which Chromium does not take for one of this machine."""
WITHOUT_HTTP_2 = "--disable-http2"
"""Over TLS a browser takes HTTP/2 where a server offers it, unless it is told not to."""
ANY_CERTIFICATE = "--ignore-certificate-errors"
"""Chromium takes no file of authorities. Holds for WebSockets too, other than Playwright's `ignore_https_errors`."""

_HERE = Path(__file__).parent
_BROWSER = _HERE.parent / "browser"
_FILES = {
    "/page.js": _HERE / "page.js",
    "/stream-chat.js": _BROWSER / "stream-chat.js",
    "/whole-answer.js": _BROWSER / "whole-answer.js",
}
_PAGE = "/tokenderby-page"
_HTML = '<!doctype html><title>Tokenderby</title><script type="module" src="/page.js"></script>'
# Alone in its process, a page's clock is exact to 5 µs, else to 100 (W3C High Resolution Time, coarsen time).
_HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class NoBrowser(UserError):
    """Playwright or Chromium is missing, and the text says what to install; or Chromium has died."""


def executable() -> str:
    """Chromium's path. Raises NoBrowser if it, or Playwright, is not installed."""
    if find_spec("playwright") is None:
        raise NoBrowser("Playwright is not installed: pip install -r requirements/browser.txt")
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    found = next((found for name in NAMES if (found := shutil.which(name, path=path))), None)
    if found is None:
        raise NoBrowser("Chromium is not installed; on Debian: apt-get install chromium fonts-dejavu-core")
    return found


@asynccontextmanager
async def chromium(*more: str) -> AsyncIterator[Browser]:
    """A browser of this process's own, with more words for its command line.

    Raises NoBrowser, also when it dies while the context lasts: Playwright then says that some target was closed.
    """
    path = executable()
    from playwright.async_api import Error, async_playwright

    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(executable_path=path, args=[*ARGS, NO_ADDRESS_CHECKS, *more])
        except Error as error:
            raise NoBrowser(f"Chromium does not start: {error.message.partition(chr(10))[0]}") from error
        try:
            yield browser
        except Error as error:
            if browser.is_connected():
                raise
            raise NoBrowser("Chromium died while it was used, or somebody closed it") from error
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(browser: Browser, url: str, cookies: Mapping[str, str]) -> AsyncIterator[Page]:
    """The page, as if the server at `url` had sent it; then nothing stands between the page and that server."""
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    context = await browser.new_context()
    await context.add_cookies([{"name": name, "value": value, "url": origin} for name, value in cookies.items()])
    page = await context.new_page()
    await page.route("**/*", _answer)
    await page.goto(f"{origin}{_PAGE}")
    await page.wait_for_function("window.tokenderby")
    await page.unroute_all()  # as long as there is a route, every request is stopped to be looked at
    try:
        yield page
    finally:
        await context.close()


async def _answer(route: Route) -> None:
    path = urlsplit(route.request.url).path
    if path == _PAGE:
        await route.fulfill(body=_HTML, content_type="text/html", headers=_HEADERS)
    elif path in _FILES:
        await route.fulfill(path=_FILES[path], content_type="text/javascript", headers=_HEADERS)
    else:
        await route.fulfill(status=404)  # its icon
