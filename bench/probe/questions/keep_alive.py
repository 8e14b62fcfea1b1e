"""How long may a connection wait for its next request?"""

from __future__ import annotations

from bench.probe.asking import Asking
from bench.probe.channel import Heard
from bench.probe.finding import BLACK_HOLE, NO_CUT, Finding
from bench.probe.probe_clock import LOOK
from bench.probe.question import ProbeQuestion
from bench.probe.search import DIVISIONS, LADDER_CONNECTIONS, Search, dissent
from bench.probe.trial import Trial
from bench.probe.words import cut_words, rounded_seconds
from servers.transport import TRANSPORTS

ANSWER_S = 10.0
TRIES = 3  # at a first answer
SERVER_S = 75.0  # what our own servers wait (tokenderby serve --keep-alive)


async def ask(asking: Asking) -> Finding:
    """Connections that wait between two requests."""
    first = await _first_answer(asking)
    if first.ending != NO_CUT:
        return asking.finding(f"not known: {cut_words(first.ending)} in place of the first answer", ending=first.ending)
    if not first.is_fit:
        words = f"connections are not kept: Connection: {first.headers.get('connection', 'close')}"
        return asking.finding(words, seen=1, facts={"is_kept": False})
    search = Search(lambda wait_s: _wait(asking, wait_s), asking.up_to_s, asking.left_s, asking.slack_s)
    limit = await search.run()
    others = dissent(search.trials, limit)
    if not limit.is_found:
        return asking.outlived(f"between requests{others}", limit.low_s, limit.seen)
    may_be_server = abs(limit.value_s - SERVER_S) < 0.02 * SERVER_S
    note = " (as long as our own servers wait: serve with a longer --keep-alive to see beyond)" if may_be_server else ""
    return asking.limited(limit, f"without another request{note}{others}", {"may_be_server": may_be_server})


async def _first_answer(asking: Asking) -> Heard:
    """An answer that came whole; what else came where none did."""
    for _ in range(TRIES):
        async with asking.channel() as channel:
            heard = await channel.ask(LOOK, ANSWER_S)
        if heard.ending == NO_CUT:
            break
    return heard


async def _wait(asking: Asking, wait_s: float) -> Trial:
    """One request, a wait, another one over the same connection."""
    async with asking.channel() as channel:
        first = await channel.ask(LOOK, ANSWER_S)
        if first.ending != NO_CUT:
            return await asking.judged(_void(wait_s, first), "a request", first)
        opened_ns = channel.opened_ns
        if ending := await channel.wait_for_end(wait_s):
            assert channel.connection is not None
            first.ended_ns = channel.connection.ended_ns
            trial = _closed(wait_s, ending, (first.ended_ns - asking.clock.answered_ns(first)) / 1e9)
        else:
            second = await channel.ask(LOOK, asking.grace_s)
            ending = second.ending if channel.opened_ns == opened_ns else "fin"
            waited_ns = (second.ended_ns if ending == "fin" else second.asked_ns) - asking.clock.answered_ns(first)
            first.ended_ns = second.ended_ns
            trial = _asked_again(wait_s, ending, waited_ns / 1e9 + asking.clock.rtt_s)
    return await asking.judged(trial, f"{rounded_seconds(wait_s)} between two requests", first)


def _closed(wait_s: float, ending: str, took_s: float) -> Trial:
    """What an end says that came while nothing was asked."""
    void = "" if ending in ("fin", "rst") else ending
    return Trial(wait_s, survived=False, took_s=took_s, ending=ending, void=void)


def _asked_again(wait_s: float, ending: str, most_s: float) -> Trial:
    """What comes of asking again over a connection that looks open.

    It waited for `wait_s` at least, which is what counts if it survived, and for `most_s` at most, if it did not.
    """
    if ending == NO_CUT:
        return Trial(wait_s, survived=True)
    most_s = max(wait_s, most_s)
    if ending == "fin":
        return Trial(most_s, survived=False, ending=ending)
    if ending in ("rst", BLACK_HOLE):
        facts = {"when_poked": "rst" if ending == "rst" else "nothing"}
        return Trial(most_s, survived=False, ending=BLACK_HOLE, facts=facts)
    return Trial(wait_s, survived=False, void=ending, ending=ending)


def _void(wait_s: float, heard: Heard) -> Trial:
    return Trial(wait_s, survived=False, void=heard.detail or heard.ending, ending=heard.ending)


QUESTIONS = (
    ProbeQuestion(
        id="keep_alive",
        title="How long may a connection wait for its next request?",
        group="time",
        transports=tuple(TRANSPORTS),
        connections=max(LADDER_CONNECTIONS, DIVISIONS),
        expected_s=lambda up_to_s: up_to_s,
        ask=ask,
        once=True,
    ),
)
