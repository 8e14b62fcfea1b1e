"""Headless Chromium with the module, on a page that seems to come from the server or the proxy under test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route
from support.background import Background
from support.chromium import chromium

from clients.chromium.browser import NO_ADDRESS_CHECKS

MODULE = Path(__file__).parents[3] / "clients" / "browser" / "stream-chat.js"
# `start(options)` asks; `texts` grows; `done` becomes {lengths, sha256, report}, or {error, report}: the lengths in
# UTF-16 units of the tokens and the hash of all say the same as the tokens, and are soon transferred.
SCRIPT = """
  import { streamChat } from "/stream-chat.js";
  window.start = (options) => {
    window.texts = [];
    window.stop = new AbortController();
    window.answer = streamChat({ message: "x", backoffMs: 20, pollMs: 50, signal: stop.signal, ...options });
    const tooLong = new Promise((resolve) => setTimeout(resolve, 60_000, { error: "60 s", report: answer.report }));
    const failed = ({ name, message, reason }) => ({ error: name, message, reason, report: answer.report });
    window.done = Promise.race([read().catch(failed), tooLong]);
  };
  async function read() {
    for await (const { t } of answer) {
      texts.push(t);
      document.getElementById("bubble").append(t);
    }
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(texts.join("")));
    const sha256 = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return { lengths: texts.map((text) => text.length), sha256, report: answer.report };
  }
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(NO_ADDRESS_CHECKS) as browser:
        yield browser


@pytest.fixture
def background() -> Iterator[Background]:
    with Background() as background:
        yield background


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """`open_page(url)`: a page of that origin which asks nobody for its files."""
    context = browser.new_context()
    errors: list[str] = []

    def serve(route: Route) -> None:
        if route.request.url.endswith(".js"):
            route.fulfill(path=MODULE, content_type="text/javascript")
        else:
            body = f'<!doctype html><p id="bubble" hidden></p><script type="module">{SCRIPT}</script>'
            route.fulfill(body=body, content_type="text/html")

    def get(url: str) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.route("**/stream-chat.js", serve)
        page.route("**/test.html", serve)
        page.goto(f"{url}/test.html")
        return page

    yield get
    context.close()
    assert not errors


@pytest.fixture
def ask(open_page: Callable[[str], Page]) -> Callable[..., Any]:
    """`ask(origin, transport, **options)`: what became of it, as SCRIPT has it."""

    def get(origin: str, transport: str, **options: Any) -> Any:
        page = open_page(origin)
        page.evaluate("options => start(options)", {"url": "/chat", "transport": transport, **options})
        return page.evaluate("done")

    return get


@pytest.fixture
def ask_all(open_page: Callable[[str], Page]) -> Callable[..., dict[str, Any]]:
    """`ask_all({transport: origin}, **options)`: the same for several at once; then `script` runs in each."""

    def get(origins: Mapping[str, str], script: str = "() => {}", **options: Any) -> dict[str, Any]:
        pages = {transport: open_page(origin) for transport, origin in origins.items()}
        for transport, page in pages.items():
            page.evaluate("options => start(options)", {"url": "/chat", "transport": transport, **options})
            page.evaluate(script)
        return {transport: page.evaluate("done") for transport, page in pages.items()}

    return get
