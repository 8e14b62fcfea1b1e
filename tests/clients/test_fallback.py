"""Recovery `fallback`: whose turn it is, scripted servers that do not get through, and real ones behind real rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.asking import ANSWER, question
from support.drivers import AsyncUser
from support.processes import RunningServer, running_server
from support.scripted import Connection, Script, closed_port, response, scripted
from support.transports import pieces
from support.transports.polling import ACCEPTED, page

from bench.proxy import profile as profiles
from bench.proxy.behaviours.upgrade import Upgrade
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from clients.core.errors import (
    AnswerTruncated,
    ClientFailure,
    ConnectionBroken,
    MessageTimeout,
    NoConnection,
    NotTheFormat,
    RequestRefused,
    SilenceTimeout,
    TokenSilence,
)
from clients.core.fallback import Turns, order_from
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Policy
from servers import messages
from servers.stream import StreamSpec, build

MakeClient = Callable[..., AsyncUser]
POLICY = Policy("fallback", base_s=0.01)
ORDER = ("websocket", "sse", "polling")
CUT, RESET, NOBODY = AnswerTruncated("", "fin"), ConnectionBroken("", "rst"), NoConnection("nobody")
FORBIDDEN, BUSY = RequestRefused("", "status 403", 403), RequestRefused("", "status 503", 503)
SILENT, NO_TOKEN, PAGE = SilenceTimeout(1), TokenSilence(1), NotTheFormat("a page")


@pytest.mark.parametrize(
    ("first", "order"),
    [
        ("websocket", ("websocket", "sse", "polling")),
        ("sse", ("sse", "polling", "websocket")),
        ("polling", ("polling", "websocket", "sse")),
        ("chunked", ("chunked", "websocket", "sse", "polling")),
    ],
)
def test_the_order_begins_at_the_messages_own(first: str, order: tuple[str, ...]) -> None:
    assert order_from(first, ORDER) == order


@pytest.mark.parametrize(
    ("failures", "turns"),
    [
        ([FORBIDDEN, SILENT, CUT, CUT], ["sse", "polling", "polling", "sse"]),  # WebSocket is not tried again
        ([PAGE, PAGE, PAGE], ["sse", "polling", "polling"]),  # the last one is left to itself
        ([CUT, CUT], ["websocket", "sse"]),
        ([RESET, BUSY, NOBODY, NOBODY, NO_TOKEN], ["websocket", "sse", "sse", "polling", "websocket"]),
        ([MessageTimeout(1)], ["websocket"]),
    ],
)
def test_whose_turn_it_is(failures: Sequence[ClientFailure], turns: list[str]) -> None:
    of = Turns(ORDER)
    for failure, turn in zip(failures, turns, strict=True):
        of.pass_on(failure, progressed=False, stream_lost=False)
        assert of.current == turn


def test_a_transport_that_gets_on_is_kept() -> None:
    of = Turns(ORDER)
    assert not any(of.pass_on(CUT, progressed=True, stream_lost=False) for _ in range(5))
    assert of.pass_on(CUT, progressed=False, stream_lost=False)


def test_an_answer_that_is_gone_is_no_fault_of_the_transport() -> None:
    gone = RequestRefused("", "status 404", 404)
    assert not Turns(ORDER).pass_on(gone, progressed=False, stream_lost=True)
    assert Turns(ORDER).pass_on(gone, progressed=False, stream_lost=False)


# ---- scripted: both drivers


def refusing(status: str) -> Script:
    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.send(response(b"no", "text/plain", status))

    return script


def sse(tokens: int, then: str) -> Script:
    """A head, so many tokens, and then silence, heartbeats or a FIN."""

    async def script(connection: Connection) -> None:
        if not await connection.request():
            return
        await connection.send(b"".join(pieces("sse", ANSWER)[: 1 + tokens]))
        while then == "heartbeats":
            await connection.send(b"3\r\n:x\n\r\n")
            await asyncio.sleep(0.02)
        if then == "silence":
            await connection.hold()

    return script


def websocket(tokens: int) -> Script:
    """So many tokens, and a FIN."""

    async def script(connection: Connection) -> None:
        await connection.upgrade()
        await connection.frame()
        await connection.send(b"".join(pieces("websocket", ANSWER)[: 1 + tokens]))

    return script


class Polled:
    """A polling server that has the answer, or does not know it; `asked` are the questions, `polls` from where."""

    def __init__(self, *, knows: bool = True) -> None:
        self.knows = knows
        self.asked: list[dict[str, Any]] = []
        self.polls: list[bytes] = []

    async def script(self, connection: Connection) -> None:
        while request := await connection.request():
            if request.startswith(b"POST"):
                self.asked.append(json.loads(request.partition(b"\r\n\r\n")[2]))
                is_gone = bool(self.asked[-1].get("from")) and not self.knows
                gone = response(messages.encode_error("unknown_stream", "gone"), status="404 N")
                await connection.send(gone if is_gone else ACCEPTED)
            else:
                self.polls.append(request.split(b" ")[1])
                first = int(request.partition(b"from=")[2].split(b" ")[0])
                await connection.send(page(ANSWER, first, 6))


@asynccontextmanager
async def scripts(*given: Script) -> AsyncIterator[list[str]]:
    """A server for each; their URLs."""
    async with AsyncExitStack() as stack:
        yield [(await stack.enter_async_context(scripted(script))).url for script in given]


async def ask(make: MakeClient, urls: Sequence[str], order: Sequence[str] = ORDER, **settings: Any) -> StreamRecord:
    own, *others = zip(order, urls, strict=True)
    settings = {"recovery": POLICY, "interval_s": 0.01} | settings
    return await make(*own, others=dict(others), **settings).ask(question())


def whole(record: StreamRecord) -> tuple[Outcome, int, int, int, bool]:
    """What every recovered message has to be; its tokens once each and in order, by the hash."""
    ledger = (record.tokens_lost, record.tokens_duplicated, record.tokens_reordered)
    return (record.outcome, *ledger, record.text_ok and list(record.i) == [*range(record.tokens_expected)])


ALL = (Outcome.OK, 0, 0, 0, True)


@pytest.mark.parametrize("silence", [{"silence_s": 0.5}, {"token_silence_s": 0.5}])
async def test_refused_then_held_back_then_polled(client: MakeClient, silence: dict[str, float]) -> None:
    polled = Polled()
    async with scripts(refusing("403 No"), sse(2, "silence"), polled.script) as urls:
        record = await ask(client, urls, ORDER, **silence)
    how = "silence" if "silence_s" in silence else "token silence"
    assert whole(record) == ALL, record.detail
    assert (record.attempts, record.finished_by) == (3, "polling")
    assert record.causes == ["websocket status 403", f"sse {how}"]
    assert (record.drops, record.noticed_by, record.connections) == (1, [how], 3)
    assert polled.asked[0]["from"] == 2
    assert polled.polls == [b"/chat/s?from=2"]


async def test_heartbeats_do_not_break_a_silence_of_tokens(client: MakeClient) -> None:
    async with scripts(sse(1, "heartbeats"), Polled().script) as urls:
        record = await ask(client, urls, ("sse", "polling"), silence_s=0.5, token_silence_s=0.15)
    assert whole(record) == ALL, record.detail
    assert (record.noticed_by, record.finished_by) == (["token silence"], "polling")


async def test_two_cuts_without_a_token_and_the_next_goes_on_behind_what_has_come(client: MakeClient) -> None:
    """WebSocket brings two tokens and is cut, then nothing and is cut again."""
    tokens = iter([2, 0])

    async def cut(connection: Connection) -> None:
        await websocket(next(tokens))(connection)

    polled = Polled()
    async with scripts(cut, refusing("502 Bad"), polled.script) as urls:
        record = await ask(client, urls)
    assert whole(record) == ALL, record.detail
    assert record.causes == ["websocket fin", "websocket fin", "sse status 502", "sse status 502"]
    assert (record.attempts, record.finished_by, polled.asked[0]["from"]) == (5, "polling", 2)


async def test_another_server_that_has_not_the_answer_is_asked_anew(client: MakeClient) -> None:
    """Where servers do not share their answers: then it is a restart, and the record says so."""
    polled = Polled(knows=False)
    async with scripts(sse(3, "silence"), polled.script) as urls:
        record = await ask(client, urls, ("sse", "polling"), silence_s=0.5)
    assert (record.outcome, record.tokens_lost, record.text_ok) == (Outcome.OK, 0, True), record.detail
    assert (record.tokens_discarded, record.tokens_duplicated) == (3, 3)
    assert record.causes == ["sse silence", "polling status 404"]
    assert [asked.get("from", 0) for asked in polled.asked] == [3, 0]


async def test_an_upgrade_to_nowhere_is_no_word_of_the_answer(client: MakeClient) -> None:
    """Its 404 is the path's: what has come is kept."""
    polled = Polled()
    async with scripts(sse(2, "silence"), refusing("404 Not"), polled.script) as urls:
        record = await ask(client, urls, ("sse", "websocket", "polling"), silence_s=0.1)
    assert whole(record) == ALL, record.detail
    assert (record.causes, record.tokens_discarded) == (["sse silence", "websocket status 404"], 0)
    assert [asked["from"] for asked in polled.asked] == [2]


async def test_an_event_id_of_before_is_not_sent_when_sse_has_its_turn_again(client: MakeClient) -> None:
    """SSE brings two tokens, WebSocket two more: back at SSE, `Last-Event-ID` would repeat the latter."""
    requests: list[bytes] = []

    async def script(connection: Connection) -> None:
        requests.append(await connection.request())
        parts = pieces("sse", ANSWER)
        await connection.send(parts[0] + b"".join(parts[1:3] if len(requests) == 1 else parts[5:]))
        await connection.hold()

    async def two_more(connection: Connection) -> None:
        await connection.upgrade()
        await connection.frame()
        await connection.send(b"".join(pieces("websocket", ANSWER)[3:5]))
        await connection.hold()

    async with scripts(script, two_more) as urls:
        record = await ask(client, urls, ("sse", "websocket"), silence_s=0.1)
    assert whole(record) == ALL, record.detail
    assert (record.causes, record.finished_by) == (["sse silence", "websocket silence"], "sse")
    assert b"Last-Event-ID" not in requests[1]
    assert b'"from": 4' in requests[1]


async def test_refused_by_all_is_a_refusal_that_ends(client: MakeClient) -> None:
    async with scripts(refusing("403 No"), refusing("404 Not"), refusing("401 Who")) as urls:
        record = await ask(client, urls)
    assert (record.outcome, record.attempts, record.finished_by) == (Outcome.HTTP_ERROR, 3, "polling")
    assert record.causes == ["websocket status 403", "sse status 404", "polling status 401"]


async def test_nobody_anywhere_ends_after_the_attempts(client: MakeClient) -> None:
    with closed_port() as url:
        record = await ask(client, [url] * 3, recovery=Policy("fallback", base_s=0.001, attempts=5))
    assert (record.outcome, record.attempts) == (Outcome.REFUSED, 5)
    assert record.causes[1:3] == ["websocket refused", "sse refused"]


async def test_the_next_message_begins_with_its_own_transport_again(client: MakeClient) -> None:
    async with scripts(refusing("403 No"), Polled().script) as urls:
        user = client("websocket", urls[0], others={"polling": urls[1]}, recovery=POLICY, interval_s=0.01)
        records = [await user.ask(question()) for _ in range(2)]
    assert [record.causes for record in records] == [["websocket status 403"]] * 2
    assert [whole(record) for record in records] == [ALL] * 2


async def test_without_fallback_nothing_changes(client: MakeClient) -> None:
    async with scripts(refusing("403 No"), Polled().script) as urls:
        record = await ask(client, urls, ("websocket", "polling"), recovery=Policy("resume"))
    assert (record.outcome, record.attempts, record.finished_by) == (Outcome.HTTP_ERROR, 1, "websocket")
    assert record.causes == ["websocket status 403"]


# ---- real servers behind real rules

LONG: dict[str, object] = {"ttft_ms": 20, "ttft_sigma": 0, "gap_ms": 100, "gap_sigma": 0, "tokens": 14}
CORPORATE = profiles.load_profile("corporate-proxy").rules  # withholds event streams until they are complete


@pytest.fixture(scope="module")
def together() -> Iterator[RunningServer]:
    """One server whose answers all three transports give."""
    with running_server("websocket", "--also", "sse", "--also", "polling") as server:
        yield server


CASES: list[tuple[tuple[Rule, ...], list[str]]] = [
    ((Upgrade(), *CORPORATE), ["websocket status 403", "sse silence"]),
    ((Upgrade(action="strip"), *CORPORATE), ["websocket status 426", "sse silence"]),
    ((Upgrade(),), ["websocket status 403"]),
    ((), []),
]


async def test_through_what_refuses_and_buffers(client: MakeClient, together: RunningServer) -> None:
    """The answer is one: what the buffered SSE has read, polling goes on with, and the model is asked once."""
    upstream, started = urlsplit(together.url), together.get("/stats")["streams_started"]

    async def ask_behind(rules: tuple[Rule, ...]) -> StreamRecord:
        async with Proxy((upstream.hostname or "", upstream.port or 0), rules) as proxy:
            root = f"http://127.0.0.1:{proxy.address[1]}"
            others = {name: f"{root}/{name}" for name in ORDER[1:]}
            settings = {"recovery": POLICY, "silence_s": 0.6, "interval_s": 0.05, "others": others}
            asked = question(build(StreamSpec.parse(LONG), 7), stream=LONG, stream_id=token_hex(8), timeout_s=30)
            return await client("websocket", f"{root}/websocket", **settings).ask(asked)

    records = await asyncio.gather(*(ask_behind(rules) for rules, _ in CASES))
    for record, (_, causes) in zip(records, CASES, strict=True):
        assert whole(record) == ALL, record.detail
        assert (record.causes, record.finished_by) == (causes, ORDER[len(causes)])
    assert together.get("/stats")["streams_started"] == started + len(CASES)
