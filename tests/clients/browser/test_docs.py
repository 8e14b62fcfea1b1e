"""docs/browser.md: its page, as it stands there, against our server; and the whole chat, where FastAPI is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from support.chromium import chromium
from support.independent import request
from support.processes import RunningServer, wait_until

from servers.process import free_port
from servers.stream import StreamSpec, build

ROOT = Path(__file__).parents[3]
BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "browser.md").read_text(encoding="utf-8"), re.DOTALL))
FILES = {
    "index.html": BLOCKS["html"],
    "chat.js": BLOCKS["js"],
    "stream-chat.js": (ROOT / "clients" / "browser" / "stream-chat.js").read_text(encoding="utf-8"),
}
pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert not errors


def test_the_page_shows_an_answer_and_stops(page: Page, server: Callable[[str], RunningServer]) -> None:
    url = server("sse").url

    def serve(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        route.fulfill(body=FILES[name], content_type="text/javascript" if name.endswith(".js") else "text/html")

    page.route(re.compile(r"/[\w-]+\.(html|js)$"), serve)
    page.goto(f"{url}/index.html")
    page.fill("[name=message]", "hello")
    page.get_by_role("button", name="Ask").click()
    page.wait_for_function("bubble.textContent.length > 100")
    page.get_by_role("button", name="Stop").click()
    shown = page.locator("#bubble").text_content() or ""
    assert "".join(build(StreamSpec.parse(None), 0).texts).startswith(shown)
    page.wait_for_timeout(200)
    assert page.locator("#bubble").text_content() == shown
    expect(page.get_by_role("status")).to_have_text("")


def test_the_whole_chat(page: Page, tmp_path: Path) -> None:
    compile(BLOCKS["python"], "chat.py", "exec")
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    (tmp_path / "chat.py").write_text(BLOCKS["python"])
    (tmp_path / "static").mkdir()
    for name, text in FILES.items():
        (tmp_path / "static" / name).write_text(text, encoding="utf-8")
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", "chat:app", "--port", str(port)], cwd=tmp_path)
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}"), 30)
        page.goto(f"http://127.0.0.1:{port}/")
        page.fill("[name=message]", "one <b>two</b>")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#bubble")).to_have_text("You said: one <b>two</b> ", timeout=30_000)
        expect(page.get_by_role("status")).to_have_text("")
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return request(url, "GET", "/")[0] == 200
    except OSError:
        return False
