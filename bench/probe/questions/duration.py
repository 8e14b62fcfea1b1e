"""How long may a stream last that is never silent?"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

from bench.probe.asking import Asking
from bench.probe.channel import Channel, Heard, Talk, Up
from bench.probe.finding import Finding
from bench.probe.question import ProbeQuestion
from bench.probe.questions.idle import SIGN_TRIES, stays_open
from bench.probe.search import Limit, credible_cuts, limit_of_cuts
from bench.probe.streams import talking
from bench.probe.trial import Trial, trial_of
from bench.probe.words import limit_words, rounded_seconds
from clients.core.http1 import Request
from servers.transport import PUSHED

LEADS = 3  # connections of different ages at their request: what counts from the connection's opening shows
LEAD = 0.05  # of the longest silence, from one to the next
TOKENS = 100  # of such a stream: its gap must be shorter than any limit on silence
ROUNDS = 2  # where not enough of them say the same, others follow
LONGEST_TALK_S = 3590.0  # with its first and last token within what a server grants (servers.stream.MAX_DURATION_S)


async def ask(asking: Asking) -> Finding:
    """Streams that talk all the time, over connections of different ages."""
    if asking.refusal:
        return asking.finding(asking.refusal, ending=asking.passes.ending)
    first = await _round(asking)
    more, needs_silence = await asyncio.gather(_more(asking, first), _needs_silence(asking, first))
    trials = _told([*first, *more])
    limit, counts_from = counted(trials)
    if limit is None:
        return _no_cut(asking, [trial.tried_s for trial in trials if trial.is_survivor])
    facts = {"counts_from": counts_from}
    if needs_silence:
        words = f"not seen: {limit_words(limit)} only if the client sends nothing"
        return asking.finding(words, seen=limit.seen, low=limit.low_s, ending=limit.ending, facts=facts)
    return asking.limited(limit, f"from the {counts_from} on, silent or not", facts)


def _no_cut(asking: Asking, survived_s: list[float]) -> Finding:
    return asking.outlived("of talking", min(survived_s, default=0.0), len(survived_s))


async def _round(asking: Asking) -> list[Trial]:
    return await asyncio.gather(*(_talk(asking, n * LEAD * asking.up_to_s) for n in range(LEADS)))


async def _more(asking: Asking, first: list[Trial]) -> list[Trial]:
    """Further rounds, where not enough of the first said the same."""
    trials = list(first)
    for _ in range(ROUNDS):
        if not _says_too_little(asking, trials):
            break
        trials += await _round(asking)
    return trials[len(first) :]


async def _needs_silence(asking: Asking, trials: list[Trial]) -> bool:
    """Whether a cut came only since the client was silent meanwhile; SSE alone can try."""
    limit, _ = counted(_told(trials))
    return limit is not None and asking.transport == "sse" and bool(await stays_open(asking, "both", limit))


def _told(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if not trial.void]


def _cuts(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.is_cut]


def counted(trials: list[Trial]) -> tuple[Limit | None, str]:
    """The limit, if any, counted from the request or the connection's opening: whichever agrees better (pure)."""
    from_request = limit_of_cuts(trials)
    older = [_from_opening(trial) for trial in trials]
    from_opening = limit_of_cuts(older)
    if from_opening and _agreement(older) > _agreement(trials):
        return from_opening, "connection"
    return from_request, "request"


def _from_opening(trial: Trial) -> Trial:
    age_s = trial.facts["age_s"]
    took_s = None if trial.took_s is None else trial.took_s + age_s
    return replace(trial, tried_s=trial.tried_s + age_s, took_s=took_s)


def _agreement(trials: list[Trial]) -> tuple[int, float]:
    """How well cuts agree: how many do, and how close; one that is late itself says nothing of the others."""
    cuts_s = [cut.took_s for cut in credible_cuts(trials) if cut.took_s is not None]
    return len(cuts_s), min(cuts_s, default=0.0) - max(cuts_s, default=0.0)


def _says_too_little(asking: Asking, trials: list[Trial]) -> bool:
    """Whether others shall be made, and there is time for them."""
    told = _told(trials)
    limit, _ = counted(told)
    is_seen = limit.is_sure if limit else len(told) >= LEADS
    lasts_s = max((trial.took_s or 0 for trial in _cuts(trials)), default=asking.up_to_s)
    return not is_seen and lasts_s + LEADS * LEAD * asking.up_to_s + asking.slack_s < asking.left_s()


def lasting_s(up_to_s: float, left_s: float) -> float:
    """How long a stream is asked for: no longer than there is time, nor than any server grants (pure)."""
    return min(up_to_s, LONGEST_TALK_S, left_s)


async def _talk(asking: Asking, lead_s: float) -> Trial:
    lasts_s = lasting_s(asking.up_to_s, asking.left_s() - asking.grace_s - lead_s)
    every_s = min(1.0, asking.up_to_s / TOKENS)
    up = Up("pong", every_s) if asking.transport == "websocket" else None
    talk = Talk(talking(every_s, lasts_s), lasts_s + every_s + asking.grace_s, up=up)
    async with asking.channel() as channel:
        await _grow_old(channel, lead_s, every_s)
        heard = await channel.talk(talk)
    trial = trial_of(heard, lasts_s, (heard.ended_ns - heard.asked_ns) / 1e9, asking.clock.rtt_s, age_s=_age_s(heard))
    if trial.is_hole:
        took_s, within_s = silent_since_s(heard, every_s)
        trial = replace(trial, took_s=took_s, within_s=within_s)
    return await asking.judged(trial, f"talking for {rounded_seconds(lasts_s)}", heard)


async def _grow_old(channel: Channel, age_s: float, every_s: float) -> None:
    """Use a connection for other requests until it is so old."""
    until_s = asyncio.get_running_loop().time() + age_s
    while asyncio.get_running_loop().time() < until_s:
        await channel.ask(Request("GET", "/healthz"), 10.0)
        await asyncio.sleep(max(every_s, 0.02))


def _age_s(heard: Heard) -> float:
    """How old the connection was at the request."""
    return (heard.asked_ns - heard.opened_ns) / 1e9


def silent_since_s(heard: Heard, every_s: float) -> tuple[float, float]:
    """When tokens ceased to come, and within how much of it: the next read may hold many tokens (pure)."""
    times_ns = [heard.asked_ns, *(read.at_ns for read in heard.reads)]
    gap_s = max((later - earlier for earlier, later in pairwise(times_ns)), default=0) / 1e9
    half_s = max(every_s, gap_s) / 2
    return (heard.last_read_ns - heard.asked_ns) / 1e9 + half_s, half_s


QUESTIONS = (
    ProbeQuestion(
        id="duration",
        title="How long may a stream last that is never silent?",
        group="time",
        transports=PUSHED,
        connections=LEADS + SIGN_TRIES,
        expected_s=lambda up_to_s: (1 + (LEADS - 1) * LEAD) * up_to_s,
        ask=ask,
    ),
)
