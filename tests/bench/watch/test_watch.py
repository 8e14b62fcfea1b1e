"""`tokenderby watch` in a real browser: the race, its controls, and what a page must never do."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Page, expect
from support.chromium import chromium
from support.independent import request
from support.sockets import free_ports

from bench.watch.watch_command import watch
from servers.transport import TRANSPORTS

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "redis")]
CUTS = """title = "cuts every request after a second"
[[behaviour]]
type = "max_duration"
max_duration_s = 10
action = "rst"
unsure = ["max_duration_s"]
[[behaviour]]
type = "max_duration"
scope = "websocket"
max_duration_s = 10
action = "rst"
unsure = ["max_duration_s"]
"""
# The answer with this seed takes 2.8 s: the page draws its seed from Math.random, and the model it asks is "hosted".
SEED_2 = "Math.random = () => 2.5 / 2 ** 31"
COMPLETE_MS = 30_000


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's URL; times divided by ten."""
    profile = tmp_path_factory.mktemp("watch") / "cuts.toml"
    profile.write_text(CUTS)
    ports = free_ports(1 + len(TRANSPORTS))
    words = ["watch", "--no-browser", "--profile", str(profile), "--time-scale", "10"]
    words += ["--port", f"{ports[0]}-{ports[-1]}"]
    process = subprocess.Popen([sys.executable, "-m", "bench.cli", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, watched: str) -> Iterator[Page]:
    """The page, which may ask nobody outside this machine, and has no error."""
    page = browser.new_page()
    page.add_init_script(SEED_2)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(watched)
    expect(page.locator("race-column")).to_have_count(5)
    yield page
    page.close()
    assert not errors
    assert all(url.startswith("http://127.0.0.1:") for url in asked)


def figure(page: Page, transport: str, name: str) -> str:
    return page.locator(f"race-column[data-transport={transport}] [data-figure={name}]").inner_text()


def put(page: Page, profile: str) -> None:
    page.get_by_label("In between").select_option(profile)
    expect(page.get_by_role("status")).to_have_text(f"In between: {profile}.")


def test_every_column_that_can_comes_back(page: Page) -> None:
    """All requests are cut after a second. Who can go on is complete and has the same text; the others say so."""
    put(page, "cuts")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("status")).to_contain_text("4 of 5 answers are complete.", timeout=COMPLETE_MS)
    for transport in ("polling", "websocket", "chunked", "sse"):
        expect(page.locator(f"race-column[data-transport={transport}] .outcome")).to_contain_text("Complete after")
    expect(page.locator("race-column[data-transport=blocking] .outcome")).to_contain_text("Not complete")
    texts = page.locator("race-column:not([data-transport=blocking]) .bubble").evaluate_all(
        "bubbles => bubbles.map((bubble) => bubble.textContent)"
    )
    assert len(set(texts)) == 1
    assert len(texts[0]) > 400
    assert figure(page, "blocking", "ttft") == "–"  # there was none, and nobody waits any more
    for transport in ("websocket", "chunked", "sse"):
        assert int(figure(page, transport, "drops")) >= 1
        assert figure(page, transport, "recoveries") == figure(page, transport, "drops")
    assert int(figure(page, "polling", "requests")) >= 3


def test_polling_bursts_and_blocking_is_blank(page: Page) -> None:
    put(page, "none")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("race-column[data-transport=sse] .bubble")).not_to_have_text("", timeout=COMPLETE_MS)
    expect(page.locator("race-column[data-transport=blocking] .bubble")).to_have_text("")
    expect(page.get_by_role("status")).to_contain_text("All 5 answers are complete, and the same.", timeout=COMPLETE_MS)
    moments = page.locator("race-column").evaluate_all(
        "columns => columns.map(({ dataset, times }) => [dataset.transport, new Set(times.map(Math.round)).size])"
    )
    distinct = dict(moments)
    assert distinct["polling"] < distinct["sse"] / 5
    assert distinct["blocking"] <= 5
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("status")).to_have_text("Asked.")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_contain_text("of 5 answers are complete.")


def test_cut_the_connections_now(page: Page) -> None:
    put(page, "none")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("race-column[data-transport=websocket] .bubble")).not_to_have_text("", timeout=COMPLETE_MS)
    page.get_by_role("button", name="Cut the connections now").click()
    expect(page.get_by_role("status")).to_contain_text(re.compile(r"connections? w(as|ere) cut"))
    outcome = page.locator("race-column[data-transport=websocket] .outcome")
    expect(outcome).to_contain_text("Complete after", timeout=COMPLETE_MS)
    assert (figure(page, "websocket", "drops"), figure(page, "websocket", "recoveries")) == ("1", "1")


def test_one_transport_alone_and_no_recovery(page: Page) -> None:
    put(page, "cuts")
    page.locator("race-column[data-transport=chunked]").get_by_role("button", name="Only this one").click()
    page.get_by_label("After a drop").select_option("none")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("status")).to_contain_text("0 of 1 answers are complete.", timeout=COMPLETE_MS)
    assert (figure(page, "chunked", "drops"), figure(page, "chunked", "recoveries")) == ("1", "0")
    expect(page.locator("race-column[data-transport=sse] .bubble")).to_have_text("")


def test_after_thinking_the_question_is_asked_again_until_it_is_stopped(page: Page) -> None:
    put(page, "none")
    page.locator("race-column[data-transport=chunked]").get_by_role("button", name="Only this one").click()
    page.get_by_label("Model").select_option("hazards")  # short
    page.get_by_label("Think time").select_option("2 s")  # divided by ten, as all times
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    page.get_by_role("button", name="Ask").click()
    status = page.get_by_role("status")
    expect(status).to_contain_text("The next question comes after 2 s of thinking.", timeout=COMPLETE_MS)
    with page.expect_request("**/chat", timeout=COMPLETE_MS):
        pass
    assert len(asked) >= 2
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Stop")).to_be_disabled(timeout=COMPLETE_MS)
    before = len(asked)
    page.wait_for_timeout(500)
    assert len(asked) == before


@pytest.mark.extra
def test_another_heartbeat(page: Page, watched: str) -> None:
    """The servers are started again with it, and the page goes on at the same addresses."""
    put(page, "none")
    columns = json.loads(request(watched, "GET", "/race.json")[2])["columns"]
    page.get_by_label("Heartbeat").select_option("5 s")
    expect(page.get_by_role("status")).to_have_text("A heartbeat every 5 s.", timeout=COMPLETE_MS)
    assert json.loads(request(watched, "GET", "/race.json")[2])["columns"] == columns
    sse = next(column["url"] for column in columns if column["transport"] == "sse").removesuffix("/chat")
    assert json.loads(request(sse, "GET", "/stats")[2])["heartbeat_s"] == 0.5  # times are divided by ten
    page.reload()
    expect(page.get_by_label("Heartbeat")).to_have_value("5")  # what the servers have, not what a new page would choose
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("status")).to_contain_text("All 5 answers are complete, and the same.", timeout=COMPLETE_MS)


HOSTILE = '<script>window.hit = 1</script><img src=x onerror="window.hit = 1"><a href="javascript:window.hit = 1">x</a>'


def test_hostile_text_stays_text(page: Page) -> None:
    """What the user says, and what the model says; a message of a megabyte is refused, and the page lives on."""
    put(page, "none")
    page.get_by_label("Model").select_option("hazards")
    page.get_by_label("Question").fill(HOSTILE)
    page.locator("race-column[data-transport=sse]").get_by_role("button", name="Only this one").click()
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("status")).to_contain_text("The answer is complete.", timeout=COMPLETE_MS)
    assert page.locator(".bubble *").count() == 0
    page.get_by_label("Question").evaluate("(input, text) => { input.value = text; }", HOSTILE + "x" * 2**20)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("race-column[data-transport=sse] .outcome")).to_contain_text("Not complete")
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.querySelector('script:not([src])')") is None


def test_by_keyboard_and_for_a_screen_reader(page: Page) -> None:
    put(page, "none")
    page.get_by_label("Model").select_option("fast")
    page.get_by_label("Question").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("answers are complete", timeout=COMPLETE_MS)
    # One live region says what became of it; no token is read out.
    assert page.locator("[aria-live], [role=status], [role=alert], [role=log]").count() == 1
    expect(page.get_by_role("region", name="The answer over SSE")).to_have_attribute("aria-busy", "false")
    focused = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        focused.add(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
    assert {"Ask", "Replay", "Only this one", "Cut the connections"} <= {text[:19].strip() for text in focused}
    nameless = "[...document.querySelectorAll('input, select')].filter((field) => !field.labels.length).length"
    assert page.evaluate(nameless) == 0
    expect(page.get_by_role("form", name="The race")).to_have_count(1)
    expect(page.get_by_role("button", name="Only this one: SSE", exact=True)).to_have_count(1)
    page.get_by_label("Question").press("Enter")
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Replay")).to_be_focused()  # not lost with the button that is out of use


def test_a_lever_that_does_nothing_says_so(page: Page) -> None:
    """The page's server is gone: the choices stay what they were, and nothing throws where nobody catches."""
    put(page, "none")
    page.route("**/race/*", lambda route: route.abort())
    status = page.get_by_role("status")
    page.get_by_role("button", name="Cut the connections now").click()
    expect(status).to_have_text("Nothing was changed: the server of this page does not answer.")
    page.get_by_label("Heartbeat").select_option("5 s")
    expect(page.get_by_label("Heartbeat")).to_have_value("0")
    page.get_by_label("In between").select_option("cuts")
    expect(page.get_by_label("In between")).to_have_value("none")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_fits_and_little_moves_for_who_wants_that(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Ask").click()
    for width in (180, 390):  # 180: half of a phone, as at 200 %
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Only this one").first.click()
    assert page.evaluate("getComputedStyle(document.querySelector('.aside')).opacity") == "1"  # still to be read
    page.get_by_role("button", name="Only this one").first.click()
    blinking = "getComputedStyle(document.querySelector('.bubble'), '::after').animationName"
    assert page.evaluate(blinking) == "none"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3]))
    assert (brightness < 200) == (scheme == "dark")
    page.get_by_role("button", name="Stop").click()


def test_all_of_it_is_where_it_was_told_to_be(watched: str) -> None:
    """A container publishes these ports, and no others."""
    first = int(watched.rpartition(":")[2])
    columns = json.loads(request(watched, "GET", "/race.json")[2])["columns"]
    assert [column["url"] for column in columns] == [f"http://127.0.0.1:{first + k}/chat" for k in range(1, 6)]
    assert all(request(column["url"].removesuffix("/chat"), "GET", "/healthz")[0] == 200 for column in columns)


@pytest.mark.parametrize("port", ["8010-8012", "8015-8010", "65533-65538", "99999", "x", "-1", "0-5"])
def test_ports_that_cannot_be(port: str) -> None:
    done = CliRunner().invoke(watch, ["--no-browser", "--port", port])
    assert done.exit_code == 2
    assert "takes a port" in done.output


def test_the_levers_are_the_pages_own(watched: str) -> None:
    foreign = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    assert request(watched, "POST", "/race/cut", {}, foreign)[0] == 403
    assert request(watched, "POST", "/race/intermediary", {"profile": "none"}, foreign)[0] == 403
    wrong: object
    assert request(watched, "POST", "/race/heartbeat", {"seconds": 5}, foreign)[0] == 403
    rebound = {"Origin": "http://evil.example:80", "Host": "evil.example:80"}
    assert request(watched, "POST", "/race/cut", {}, rebound)[0] == 403
    assert request(watched, "POST", "/race/heartbeat", {"seconds": -1})[0] == 400
    for wrong in ({"profile": "../../etc/passwd"}, {"profile": "nobody"}, {"profile": 3}, {}, []):
        assert request(watched, "POST", "/race/intermediary", wrong)[0] == 400, wrong
    assert request(watched, "POST", "/race/intermediary", {"profile": "x" * 5000})[0] == 413


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    words = ["watch", "--no-browser", "--profile", str(tmp_path / "missing.toml")]
    done = subprocess.run([sys.executable, "-m", "bench.cli", *words], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing.toml" in done.stderr
