"""Our tab in Locust's web UI, in a real browser: start a test from the form, see the charts move, stop, download."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from support.chromium import chromium
from support.locusts import locust
from support.processes import RunningServer

from clients.locusts.live import FIGURES
from servers.process import free_port

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture
def web_ui(tmp_path: Path, server: Callable[[str], RunningServer]) -> Iterator[str]:
    """Locust with its web UI and the class picker; its URL."""
    port = free_port()
    words = ("--web-host", "127.0.0.1", "--web-port", str(port), "--class-picker", "--results-dir", str(tmp_path))
    urls = {"sse": server("sse").url, "chunked": server("chunked").url}
    process = locust(*words, log=tmp_path / "locust.log", **urls)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"nobody answers at {url}")


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors


def _fill_form(page: Page) -> None:
    for name in ("PollingUser", "WebSocketUser"):  # all are chosen at first
        page.get_by_role("row", name=re.compile(name)).get_by_role("checkbox").uncheck()
    page.fill("[name=userCount]", "4")
    page.fill("[name=spawnRate]", "4")
    page.get_by_text("Custom parameters").click()
    page.fill("[name=thinkTime]", "0.1")
    page.fill("[name=streamParameters]", "tokens=20 ttft_ms=50")


def _paths(page: Page, figure: str) -> list[str]:
    lines = page.locator(f"#tokenderby svg[data-figure={figure}] path")
    return [line.get_attribute("d") or "" for line in lines.all()]


@pytest.mark.slow
def test_from_the_form_to_the_report(web_ui: str, page: Page, tmp_path: Path) -> None:
    page.goto(web_ui)
    _fill_form(page)
    expect(page.get_by_text("has no host attribute")).to_have_count(0)
    right = page.input_value("[name=chunkedUrl]")
    page.fill("[name=chunkedUrl]", "")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("--chunked-url: not given, but there are users of chunked")).to_be_visible()

    page.fill("[name=chunkedUrl]", right)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("tab", name="Tokenderby").click()
    rows = page.locator("#tokenderby tbody tr")
    expect(rows).to_have_count(2, timeout=15_000)
    expect(rows.filter(has_text="SSE")).to_contain_text(re.compile(r"\d+\.\d"))
    page.wait_for_timeout(1500)
    before = _paths(page, "tokens_per_s")
    page.wait_for_timeout(2500)
    after = _paths(page, "tokens_per_s")
    assert len(before) == len(after) == 2
    assert all(a.count("L") > b.count("L") for a, b in zip(after, before, strict=True))
    assert all("M" in path for path in _paths(page, "ttft_ms_p50"))

    page.get_by_role("button", name="Stop").click()
    page.get_by_role("tab", name="Download").click()
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Download Report").click()
    with popup.value.expect_download() as download:
        popup.value.get_by_role("link", name=re.compile("download", re.IGNORECASE)).click()
    assert b"TTFT" in Path(download.value.path()).read_bytes()
    _wait_for(f"{web_ui}/tokenderby/report")  # 404 until it is written
    page.get_by_role("link", name="Open the Tokenderby report").click()
    expect(page).to_have_title("Tokenderby: locust")
    assert (tmp_path / "latest" / "streams.parquet").exists()


def test_nothing_in_the_tab_is_markup(web_ui: str, page: Page) -> None:
    """Every text is set as text: a server's or a user's words cannot become elements."""
    evil = "<img src=x onerror=alert(1)>"
    page.route("**/tokenderby/live", lambda route: route.fulfill(json=_figures(evil)))
    page.goto(web_ui)
    _fill_form(page)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("tab", name="Tokenderby").click()
    expect(page.locator("#tokenderby td").first).to_contain_text(evil, timeout=15_000)
    assert page.locator("#tokenderby img").count() == 0
    page.get_by_role("button", name="Stop").click()


def test_the_tab_fits_a_phone(web_ui: str, page: Page) -> None:
    """At a width of 390 px the table scrolls by itself, and stays where it was scrolled to; the page does not."""
    figures = [{"figure": figure, "title": title} for figure, title in FIGURES.items()]
    line = {"t": [1.0, 2.0]} | {figure: [1.0, 12_345.0] for figure in FIGURES}
    data = _figures("Server-Sent Events") | {"figures": figures, "lines": {"sse": line}}
    data["finding"] = "the knee is at 40 users (sse: p99 delay 181.4 ms > 20 ms at 60 users)"
    page.route("**/tokenderby/live", lambda route: route.fulfill(json=data))
    page.goto(web_ui)
    _fill_form(page)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("tab", name="Tokenderby").click()
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#tokenderby tbody tr")).to_have_count(1, timeout=15_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('#tokenderby').scrollWidth") <= 390
    expect(page.locator("#tokenderby")).to_contain_text("the knee is at 40 users")
    table = page.locator("#tokenderby .wide")
    table.evaluate("wide => { wide.scrollLeft = 40; window.before = wide; }")
    page.wait_for_function("document.querySelector('#tokenderby .wide') !== window.before")  # it was drawn anew
    assert table.evaluate("wide => wide.scrollLeft") == 40
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("button", name="Stop").click()


def _figures(text: str) -> dict[str, object]:
    line: dict[str, object] = {"t": [1.0, 2.0], "ttft_ms_p50": [1.0, "inf"]}
    look = {"sse": {"title": text, "colour": "#009E73"}}
    return {"figures": [{"figure": "ttft_ms_p50", "title": text}], "transports": look, "lines": {"sse": line}}
