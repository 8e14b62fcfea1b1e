"""The rendered page in Chromium: on a phone, a tablet and a desk, by day and by night, folded and unfolded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from support import pages
from support.runs import Message, RunBuilder

from bench.analysis.report.report import write_report
from bench.analysis.synthetic import FIELD, synthetic_run
from bench.store import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]
WIDTHS = {390: 844, 768: 1024, 1280: 800}
PROFILES = (
    "direct",
    "aws-alb",
    "azure-load-balancer",
    "corporate-proxy",
    "envoy",
    "gcp-alb",
    "heroku",
    "nginx",
    "none",
)
REFUSED = {"detail": "status 426: upgrade_required: /chat takes a WebSocket upgrade", "requests": 1}


def race(folder: Path) -> RunFolder:
    """A race of seven contestants, as `quick` and more."""
    return synthetic_run(folder, blocks=6, messages=14, tokens=20, field=FIELD)


def survival(folder: Path) -> RunFolder:
    """Many ways behind many profiles, in two situations; a transport that is refused; more columns than a phone has."""
    chance = random.Random(1)
    plan = {"parallel": 24, "load": {"turns": 2, "think_s": 330.0}, "loads": {"silence": {"turns": 1}}}
    builder = RunBuilder(folder, {"plan": plan, "time_scale": 20.0})
    whole = Message([(200.0, 201.0), (225.0, 226.0)])
    drop: dict[str, Any] = {"drops": 1, "noticed_by": ["fin"], "detection_ms": 3000.0, "detail": "fin: cut"}
    cut = Message(whole.tokens[:1], 2, "truncated", facts=drop)
    back = Message(whole.tokens, facts=drop | {"recovery_ms": 500.0, "requests": 2})
    for profile in PROFILES:
        for transport in ("polling", "sse", "websocket"):
            refused = transport == "websocket" and profile == "nginx"
            for recovery in ("none", "resume"):
                lost = chance.randrange(4)
                messages = [cut if recovery == "none" else back] * lost + [whole] * (4 - lost)
                messages = [Message([], 2, "http_error", facts=REFUSED)] * 4 if refused else messages
                builder.cell(transport, 1, messages, profile=profile, recovery=recovery)
                silent: dict[str, object] = {"load": "silence"}
                builder.cell(transport, 1, messages, variant=silent, profile=profile, recovery=recovery)
    return builder.write()


def broken(folder: Path) -> RunFolder:
    """A story in which one transport was refused, and another is void."""
    builder = RunBuilder(folder, {"plan": {"story": True}})
    tokens = [(100.0 + 10 * k, 101.0 + 10 * k) for k in range(20)]
    for block in (1, 2):
        builder.cell("sse", block, [Message(tokens, facts={"bytes_in": 900, "bytes_out": 90})] * 4)
        builder.cell("websocket", block, [Message([], 20, "http_error", facts=REFUSED)] * 4)
        builder.cell(
            "polling", block, [Message(tokens)] * 4, status="void", reasons=["load came late: p99 9 ms > 2 ms"]
        )
    return builder.write()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of each kind of run."""
    folder = tmp_path_factory.mktemp("runs")
    return {make.__name__: write_report(make(folder / make.__name__)).report for make in (race, survival, broken)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pages.browser() as running:
        yield running


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def opened(browser: Browser, report: Path, width: int, **context: Any) -> Page:
    page = browser.new_page(viewport={"width": width, "height": WIDTHS[width]}, **context)
    page.goto(report.as_uri())
    return page


def unfolded(page: Page) -> Page:
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    return page


@pytest.mark.parametrize("kind", ["race", "survival", "broken"])
def test_nothing_is_wider_than_the_window_and_every_text_is_legible(
    browser: Browser, reports: dict[str, Path], kind: str, width: int
) -> None:
    page = opened(browser, reports[kind], width)
    assert pages.overflowing(page) == []
    unfolded(page)
    assert pages.overflowing(page) == []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert pages.faint(page) == [], scheme
    page.close()


@pytest.fixture(scope="module")
def desk(browser: Browser) -> Iterator[Browser]:
    with pages.with_scroll_bars(browser) as running:
        yield running


@pytest.mark.parametrize("letters_px", [16, 32])
@pytest.mark.parametrize("kind", ["race", "survival", "broken"])
def test_tables_have_room_beside_a_scroll_bar_and_for_large_letters(
    desk: Browser, reports: dict[str, Path], kind: str, letters_px: int
) -> None:
    page = desk.new_page()
    pages.set_letters(page, letters_px)
    page.goto(reports[kind].as_uri())
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") == letters_px
    for width in (360, *WIDTHS):
        page.set_viewport_size({"width": width, "height": 844})
        assert pages.cramped(page) == [], width
        unfolded(page)
        assert pages.overflowing(page) == [], width
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_answer_is_on_the_first_screen(browser: Browser, reports: dict[str, Path], width: int) -> None:
    page = opened(browser, reports["race"], width)
    assert pages.bottom(page, ".headline") < pages.bottom(page, ".board") <= WIDTHS[width]
    page.close()


def test_every_chart_has_a_text_alternative_and_its_numbers_a_click_away(
    browser: Browser, reports: dict[str, Path]
) -> None:
    page = opened(browser, reports["race"], 1280)
    charts = page.locator(".charts > section")
    assert charts.count() == page.locator("svg").count() >= 5
    assert pages.charts_without_text(page) == 0
    for chart in charts.all():
        assert not chart.locator("table").first.is_visible()
        chart.locator("summary").click()
        assert chart.locator("table tbody tr").count() > 1
        assert chart.locator("table").first.is_visible()
    page.close()


def test_every_row_and_column_of_a_table_has_a_header(browser: Browser, reports: dict[str, Path]) -> None:
    """So that a screen reader says whose number it reads."""
    for report in reports.values():
        page = opened(browser, report, 1280)
        assert page.locator("table").count() > 2
        assert page.locator("tbody tr").filter(has_not=page.locator("th[scope=row]")).all_text_contents() == []
        assert page.locator("table").filter(has_not=page.locator("thead th[scope=col]")).count() == 0
        page.close()


def test_charts_follow_the_page_into_the_dark(browser: Browser, reports: dict[str, Path]) -> None:
    page = opened(browser, reports["race"], 1280, color_scheme="dark")
    ink = page.locator("svg text").first.evaluate("text => getComputedStyle(text).fill")
    page.emulate_media(color_scheme="light")
    assert ink != page.locator("svg text").first.evaluate("text => getComputedStyle(text).fill")
    page.close()


def test_a_survival_map_opens_the_page_and_its_numbers_are_folded(browser: Browser, reports: dict[str, Path]) -> None:
    page = opened(browser, reports["survival"], 390)
    assert pages.bottom(page, ".heat caption") < WIDTHS[390]
    assert page.evaluate("document.documentElement.scrollHeight") < 12_000
    assert not page.locator(".words").first.is_visible()
    wide = page.locator(".wide").first  # more profiles than a phone has room for
    wide.focus()
    assert page.evaluate("document.activeElement.className") == "wide scroll"
    page.close()


def test_paper_shows_what_was_folded_on_white(browser: Browser, reports: dict[str, Path]) -> None:
    page = opened(browser, reports["race"], 1280, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator(".numbers").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(254, 254, 254)"
    assert pages.faint(page) == []
    page.close()
