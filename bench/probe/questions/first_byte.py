"""How long may an answer take to begin?"""

from __future__ import annotations

from urllib.parse import urlencode

from bench.probe.asking import Asking
from bench.probe.channel import Heard, Talk
from bench.probe.finding import NO_CUT, Finding
from bench.probe.question import ProbeQuestion
from bench.probe.search import LADDER_CONNECTIONS, Search, dissent
from bench.probe.streams import LONGEST_SILENCE_S, late
from bench.probe.trial import Trial, trial_of
from bench.probe.words import rounded_seconds
from clients.core.http1 import Request
from servers.messages import ProtocolError
from servers.polling.wire import decode_accepted

LONGEST_POLL_S = 300.0  # a poll is held for no longer (docs/wire-format.md)
_EARLY = 0.5  # of the time to the first token: a head so much before it has been sent at once


async def ask(asking: Asking) -> Finding:
    """Answers that begin late; where the head does not wait for the first token, there is no late answer."""
    if asking.refusal:
        return asking.finding(asking.refusal, ending=asking.passes.ending)
    if await _head_comes_at_once(asking):
        return asking.finding(
            "cannot be seen: the server sends its head before the first token (serve it with --late-head)",
            facts={"head_at_once": True},
        )
    up_to_s = min(asking.up_to_s, LONGEST_POLL_S if asking.transport == "polling" else LONGEST_SILENCE_S)
    search = Search(lambda wait_s: _late(asking, wait_s), up_to_s, asking.left_s, asking.slack_s)
    limit = await search.run()
    others = dissent(search.trials, limit)
    if not limit.is_found:
        return asking.outlived(f"before the first byte{others}", limit.low_s, limit.seen)
    return asking.limited(limit, f"without a byte of the answer{others}", {})


async def _head_comes_at_once(asking: Asking) -> bool:
    if asking.transport in ("blocking", "polling"):
        return False
    wait_s = min(1.0, asking.up_to_s / 20)
    heard = await asking.talk(Talk(late(wait_s), wait_s + asking.grace_s))
    if heard.head_ns is None or not heard.tokens:
        return False
    return heard.tokens[0].at_ns - heard.head_ns > _EARLY * wait_s * 1e9


async def _late(asking: Asking, wait_s: float) -> Trial:
    heard = await (_poll if asking.transport == "polling" else _answer)(asking, wait_s)
    took_s = (heard.ended_ns - heard.asked_ns) / 1e9 - asking.clock.rtt_s
    trial = trial_of(heard, wait_s, took_s, asking.clock.rtt_s)
    return await asking.judged(trial, f"{rounded_seconds(wait_s)} before the first byte", heard)


async def _answer(asking: Asking, wait_s: float) -> Heard:
    return await asking.talk(Talk(late(wait_s), wait_s + asking.grace_s))


async def _poll(asking: Asking, wait_s: float) -> Heard:
    """A poll that the server holds until the first token; what came of the question itself, if that went wrong."""
    async with asking.channel() as channel:
        accepted = await channel.talk(Talk(late(wait_s), asking.grace_s))
        if accepted.ending != NO_CUT:
            return accepted
        try:
            path = decode_accepted(bytes(accepted.body)).poll
        except ProtocolError:
            accepted.ending = accepted.detail = "format"
            return accepted
        query = urlencode({"from": 0, "wait": f"{min(wait_s + 1, LONGEST_POLL_S):g}"})
        return await channel.ask(Request("GET", f"{path}?{query}"), wait_s + asking.grace_s)


QUESTIONS = (
    ProbeQuestion(
        id="first_byte",
        title="How long may an answer take to begin?",
        group="time",
        transports=("blocking", "polling", "sse", "chunked"),
        connections=LADDER_CONNECTIONS,
        expected_s=lambda up_to_s: up_to_s,
        ask=ask,
    ),
)
