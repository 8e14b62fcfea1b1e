"""The module in Chromium against the real servers: exact answers, and exact again after every kind of drop."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Literal

import pytest
from playwright.sync_api import Page
from support.background import Background
from support.cutting import Behind, Place, cutting
from support.processes import RunningServer, running_server, wait_until

from bench.proxy.behaviours.response_buffering import ResponseBuffering
from bench.proxy.behaviours.upgrade import Upgrade
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from servers.process import free_port
from servers.stream import StreamSpec, build

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]
Ask = Callable[..., Any]
AskAll = Callable[..., dict[str, Any]]
How = Literal["fin", "rst", "silence"]
Servers = Callable[[str], RunningServer]
SERVER_OF = {
    "polling": "polling",
    "websocket": "websocket",
    "chunked": "chunked",
    "sse": "sse",
    "eventsource": "sse",
}
five_ways = pytest.mark.parametrize("transport", SERVER_OF)
SHORT = {"profile": "fast", "tokens": 30, "ttft_ms": 20, "gap_ms": 10}
TWELFTH = Behind(re.compile(rb'"i": 12, "t": "[^"]*'))  # inside the token: nobody may show half of it
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def causes(found: Any) -> list[str]:
    """Of the attempts that failed."""
    return [attempt["cause"] for attempt in found["report"]["attempts"][:-1]]


def check(found: Any, stream: object, seed: int = 0) -> None:
    """Every token as it was sent, once and in order."""
    assert "error" not in found, found
    schedule = build(StreamSpec.parse(stream), seed)
    assert found["lengths"] == [len(text.encode("utf-16-le")) // 2 for text in schedule.texts]
    assert found["sha256"] == schedule.sha256
    assert found["report"]["checked"] == "sha256"
    assert found["report"]["attempts"][-1]["cause"] == ""


def through_cuts(background: Background, server: Servers, places: list[Place], how: How) -> dict[str, str]:
    """For each transport the URL of a relay before its server."""
    return {
        transport: background.enter(cutting(name, server(name).url, places, how)).url
        for transport, name in SERVER_OF.items()
    }


def test_every_hazard_arrives_as_it_was_sent(server: Servers, ask_all: AskAll) -> None:
    origins = {transport: server(name).url for transport, name in SERVER_OF.items()}
    for found in ask_all(origins, body={"stream": "hazards"}).values():
        check(found, "hazards")
        assert len(found["report"]["attempts"]) == 1


@pytest.mark.parametrize("how", ["fin", "rst", "silence"])
def test_a_connection_that_ends_is_taken_up_again(
    how: How, server: Servers, ask_all: AskAll, background: Background
) -> None:
    origins = through_cuts(background, server, [TWELFTH, TWELFTH], how)
    silence_ms = 800 if how == "silence" else 20_000
    for found in ask_all(origins, body={"stream": SHORT, "seed": 5}, silenceMs=silence_ms).values():
        check(found, SHORT, 5)
        assert len(causes(found)) in (1, 2), found["report"]
        assert ("silence" in causes(found)) == (how == "silence"), found["report"]


def test_a_gateway_without_a_server_is_asked_again(server: Servers, ask_all: AskAll, background: Background) -> None:
    origins = through_cuts(background, server, [TWELFTH, *[BAD_GATEWAY] * 3], "rst")
    for transport, found in ask_all(origins, body={"stream": SHORT, "seed": 6}).items():
        check(found, SHORT, 6)
        # No browser tells a script why a WebSocket cannot open.
        assert ("refused" if transport == "websocket" else "status 502") in causes(found), found["report"]


def says(status: str, *headers: str, body: str = "") -> bytes:
    """A response as bytes, whose end is its connection's."""
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "Connection: close", "", body)).encode()


EVENTS = "Content-Type: text/event-stream"
FAILED = 'event: error\ndata: {"error": {"code": "no_model", "message": "Boom"}}\n\n'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says("204 No Content"), "status 204"),
        (says("200 OK", EVENTS, body=FAILED), "error no_model"),
        (says("200 OK", "Content-Type: text/html", body="<h1>Log in</h1>"), "format"),
    ],
)
def test_an_event_source_learns_why_it_was_refused(
    answer: bytes, reason: str, server: Servers, ask: Ask, background: Background
) -> None:
    relay = background.enter(cutting("sse", server("sse").url, [answer] * 4))
    found = ask(relay.url, "eventsource", attempts=1)
    assert (found.get("reason"), len(found["report"]["attempts"])) == (reason, 1), found


def test_a_network_that_is_back_is_no_leave_to_come_before_the_server_wishes(
    server: Servers, open_page: Callable[[str], Page], background: Background
) -> None:
    busy = says("503 Busy", "Retry-After: 1", "Content-Length: 0")
    page = open_page(background.enter(cutting("sse", server("sse").url, [busy])).url)
    page.evaluate("options => start(options)", {"url": "/chat", "transport": "sse", "body": {"stream": SHORT}})
    page.wait_for_function("answer.report.attempts[0]?.endMs")
    page.evaluate("dispatchEvent(new Event('online'))")
    found = page.evaluate("done")
    check(found, SHORT)
    first, second = found["report"]["attempts"]
    assert second["startMs"] - first["endMs"] >= 990


def test_a_server_that_starts_again_is_asked_anew(open_page: Callable[[str], Page]) -> None:
    """All of them are killed in mid-answer, and come back at the same addresses without a memory."""
    stream = SHORT | {"tokens": 100, "gap_ms": 50}
    ports = {name: free_port() for name in set(SERVER_OF.values())}
    pages: dict[str, Page] = {}
    with ExitStack() as stack:
        servers = started(stack, ports)
        for transport, name in SERVER_OF.items():
            pages[transport] = open_page(servers[name].url)
        for transport, page in pages.items():
            options = {"url": "/chat", "transport": transport, "body": {"stream": stream, "seed": 7}}
            page.evaluate("options => start(options)", options | {"attempts": 100, "backoffCapMs": 200})
        for page in pages.values():
            page.wait_for_function("texts.length >= 3")
        for running in servers.values():
            running.process.kill()
            running.process.wait(10)
    with ExitStack() as stack:
        started(stack, ports)
        found = {transport: page.evaluate("done") for transport, page in pages.items()}
    for answer in found.values():
        check(answer, stream, 7)
    restarts = [answer["report"]["restarts"] for answer in found.values()]
    assert max(restarts) == 1, restarts  # one whose answer was over when its server was killed has none


def started(stack: ExitStack, ports: dict[str, int]) -> dict[str, RunningServer]:
    """A server of each name at its port, started side by side."""

    def start(name: str) -> RunningServer:
        return stack.enter_context(running_server(name, "--port", str(ports[name])))

    with ThreadPoolExecutor() as pool:
        return dict(zip(ports, pool.map(start, ports), strict=True))


# It jumps by an hour each second. Both connections may die, and a living one is not disturbed.
SLEEPY_CLOCK = """() => {
  const now = Date.now.bind(Date);
  Date.now = () => now() + 3_600_000 * Math.floor(performance.now() / 1000);
}"""


def test_a_socket_that_died_while_the_device_slept(server: Servers, ask_all: AskAll, background: Background) -> None:
    """The clock jumps, and nothing else tells: the connection stays open, and the silence limit is far away."""
    origins = through_cuts(background, server, [TWELFTH, TWELFTH], "silence")
    options = {"body": {"stream": SHORT, "seed": 8}, "silenceMs": 60_000, "wakeMs": 300}
    for found in ask_all(origins, SLEEPY_CLOCK, **options).values():
        check(found, SHORT, 8)
        assert "sleep" in causes(found), found["report"]


# What a browser does with a page in the background; its four seconds there are the clock's.
HIDE_AND_SHOW = """() => {
  const now = Date.now.bind(Date);
  for (const hidden of [true, false]) {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
    Date.now = () => now() + 4000;
  }
}"""


@pytest.mark.parametrize("what", ["network", "page"])
def test_a_network_or_a_page_that_is_back(
    what: str, server: Servers, open_page: Callable[[str], Page], background: Background
) -> None:
    relay = background.enter(cutting("chunked", server("chunked").url, [TWELFTH, TWELFTH], "silence"))
    page = open_page(relay.url)
    options = {"url": "/chat", "transport": "chunked", "body": {"stream": SHORT, "seed": 9}}
    page.evaluate("options => start(options)", options | {"silenceMs": 60_000, "wakeMs": 300})
    page.wait_for_function("texts.length === 12")
    found = None
    while found is None:  # as often as there are connections that die
        if what == "network":
            page.context.set_offline(True)
            page.context.set_offline(False)
        else:
            page.evaluate(HIDE_AND_SHOW)
        found = page.evaluate("Promise.race([done, new Promise((resolve) => setTimeout(resolve, 800, null))])")
    check(found, SHORT, 9)
    assert {"online", "offline", "sleep", "network"} & set(causes(found))


def test_a_frozen_page_wakes_up(server: Servers, open_page: Callable[[str], Page]) -> None:
    """Really frozen by the browser, while the answer comes to its end."""
    page = open_page(server("sse").url)
    page.evaluate("options => start(options)", {"url": "/chat", "transport": "sse", "body": {"stream": SHORT}})
    page.wait_for_function("texts.length >= 3")
    session = page.context.new_cdp_session(page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    time.sleep(1)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    check(page.evaluate("done"), SHORT)


A_SECOND = 100  # tokens; counted, since a busy machine's seconds are long


@five_ways
def test_abort_frees_the_server_within_a_second(
    transport: str, server: Servers, open_page: Callable[[str], Page]
) -> None:
    """The answer itself is made to its end, so that it could be resumed; nobody reads it, nothing of it is sent."""
    running = server(SERVER_OF[transport])
    page = open_page(running.url)
    options = {"url": "/chat", "transport": transport, "body": {"stream": SHORT | {"tokens": 2000}}}
    page.evaluate("options => start(options)", options)
    page.wait_for_function("texts.length >= 3")

    before = running.get("/stats")
    assert before["readers"] == (0 if transport == "polling" else 1)  # who polls reads for a moment only
    page.evaluate("stop.abort()")
    assert page.evaluate("done")["error"] == "AbortError"
    wait_until(lambda: running.get("/stats")["readers"] == 0)
    assert running.get("/stats")["streams_active"] >= 1
    sent = running.get("/stats")["tokens_sent"]
    assert sent - before["tokens_sent"] < A_SECOND
    page.wait_for_timeout(100)
    assert running.get("/stats")["tokens_sent"] == sent


def through(background: Background, upstream: str, *rules: Rule) -> str:
    """The URL of a proxy with those rules."""
    host, port = upstream.removeprefix("http://").split(":")
    address = background.enter(Proxy((host, int(port)), rules)).address
    return f"http://{address[0]}:{address[1]}"


@pytest.fixture(scope="module")
def open_server() -> Any:
    """Servers that pages of other origins may read, as a fallback goes to another port here."""
    with (
        running_server("websocket", "--allow-origin", "*") as websocket,
        running_server("sse", "--allow-origin", "*") as sse,
        running_server("polling", "--allow-origin", "*") as polling,
    ):
        yield {"websocket": websocket.url, "sse": sse.url, "polling": polling.url}


def test_a_refused_upgrade_falls_back(open_server: dict[str, str], ask: Ask, background: Background) -> None:
    proxy = through(background, open_server["websocket"], Upgrade(action="refuse", status=403))
    url = {"websocket": f"{proxy}/chat", "sse": f"{open_server['sse']}/chat"}
    found = ask(proxy, "websocket", url=url, fallback=["sse", "polling"], body={"stream": SHORT})
    check(found, SHORT)
    assert [(a["transport"], a["cause"]) for a in found["report"]["attempts"]] == [
        ("websocket", "refused"),
        ("sse", ""),
    ]


def test_a_buffering_proxy_falls_back_to_polling(open_server: dict[str, str], ask: Ask, background: Background) -> None:
    stream = SHORT | {"tokens": 60, "gap_ms": 30}
    proxy = through(background, open_server["sse"], ResponseBuffering(until_complete=True))
    url = {"sse": f"{proxy}/chat", "polling": f"{open_server['polling']}/chat"}
    found = ask(proxy, "sse", url=url, fallback=["polling"], body={"stream": stream}, silenceMs=600)
    check(found, stream)
    sse, polling = found["report"]["attempts"]
    assert (sse["cause"], sse["tokens"], polling["transport"]) == ("silence", 0, "polling")


def test_a_fallback_in_mid_answer_repeats_nothing(
    open_server: dict[str, str], ask: Ask, background: Background
) -> None:
    """The next transport's server has never heard of the answer: what had come is passed over."""
    places: list[Place] = [TWELFTH, TWELFTH, *[BAD_GATEWAY] * 6]
    relay = background.enter(cutting("websocket", open_server["websocket"], places, "rst"))
    url = {"websocket": f"{relay.url}/chat", "polling": f"{open_server['polling']}/chat"}
    found = ask(relay.url, "websocket", url=url, fallback=["polling"], body={"stream": SHORT})
    check(found, SHORT)
    assert found["report"]["attempts"][-1]["transport"] == "polling"
    assert found["report"]["restarts"] == 1


HOSTILE = '<script>window.hit = 1</script><img src=x onerror="window.hit = 1"><a href="javascript:window.hit = 1">x</a>'


def test_what_a_model_says_is_no_markup(server: Servers, open_page: Callable[[str], Page]) -> None:
    """The README's lines put text in as text: the hazards, and a message that is nothing but markup."""
    page = open_page(server("sse").url)
    for message in (HOSTILE, HOSTILE + "x" * 2**19):
        options = {"url": "/chat", "transport": "sse", "message": message, "body": {"stream": "hazards"}}
        page.evaluate("options => start(options)", options)
        check(page.evaluate("done"), "hazards")
    assert page.evaluate("window.hit") is None
    assert page.locator("#bubble *").count() == 0


@pytest.mark.parametrize("transport", ["sse", "websocket"])
def test_a_message_that_is_too_long_is_an_error(transport: str, server: Servers, ask: Ask) -> None:
    found = ask(server(transport).url, transport, message=HOSTILE + "x" * 2**20, attempts=1)
    assert found["error"] == "StreamChatError"
    assert found["report"]["attempts"][-1]["tokens"] == 0
