"""How long may a stream be silent, and what ends the silence: bytes down, bytes up, pings, TCP keepalive?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bench.probe.asking import Asking
from bench.probe.channel import Heard, Talk, Up
from bench.probe.finding import BLACK_HOLE, Finding
from bench.probe.question import ProbeQuestion
from bench.probe.search import DIVISIONS, LADDER_CONNECTIONS, Limit, Search, dissent
from bench.probe.streams import LONGEST_SILENCE_S, silent, talking
from bench.probe.trial import Trial, trial_of
from bench.probe.words import cut_words, rounded_seconds
from servers.transport import PUSHED

TALK_BEYOND = 1.2  # times the limit: how long a stream lasts that shows whether something keeps it open
OFTEN = 5  # so often within the limit whatever may keep it open happens
SIGN_TRIES = 3  # each is tried
LEAST_KEEPALIVE_S = 1  # the kernel takes whole seconds


@dataclass(frozen=True)
class LifeSign:
    """Something that may keep a silent stream open.

    down: a token every so often, as a heartbeat would be
    up: what the client sends (bench.probe.channel.Up)
    """

    title: str
    down: bool = False
    up: str = ""
    is_tcp: bool = False


LIFE_SIGNS = {
    "down": LifeSign("bytes down", down=True),
    "up": LifeSign("bytes up", up="up"),
    "both": LifeSign("bytes both ways", down=True, up="up"),
    "ping": LifeSign("WebSocket pings", up="ping"),
    "message": LifeSign("parts of a message up", up="message"),
    "tcp_keepalive": LifeSign("TCP keepalive", is_tcp=True),
}
_UP = {"websocket": "pong", "sse": "body"}  # bytes up that nobody answers; a chunked answer has none


async def ask(asking: Asking) -> Finding:
    """Silences first, then what ends them."""
    if asking.refusal:
        return asking.finding(asking.refusal, ending=asking.passes.ending)
    up_to_s = min(asking.up_to_s, LONGEST_SILENCE_S)
    search = Search(lambda wait_s: _silence(asking, wait_s), up_to_s, asking.left_s, asking.slack_s)
    roughly = await search.climb()
    if not roughly.is_found:
        return asking.outlived(f"of silence{dissent(search.trials, roughly)}", roughly.low_s, roughly.seen)
    limit, kept = await asyncio.gather(search.sharpen(), _what_keeps(asking, roughly))
    reset_by = _reset_by(kept)
    facts = {"reset_by": reset_by, "kept_open_by": kept}
    if reset_by == "nothing":
        words = f"not seen: whatever passes, {cut_words(limit.ending)} after {rounded_seconds(limit.value_s)}"
        return asking.finding(words, seen=limit.seen, low=limit.low_s, ending=limit.ending, facts=facts)
    return asking.limited(limit, f"of silence; {_kept_words(kept)}{dissent(search.trials, limit)}", facts)


async def _silence(asking: Asking, wait_s: float) -> Trial:
    async with asking.channel() as channel:
        heard = await channel.talk(Talk(silent(wait_s), wait_s + asking.grace_s))
        facts = {}
        if heard.ending == BLACK_HOLE:
            facts["when_poked"] = await channel.poke(asking.grace_s / 2) or "nothing"
    trial = trial_of(heard, wait_s, _silent_s(asking, heard), asking.clock.rtt_s, **facts)
    return await asking.judged(trial, f"silence of {rounded_seconds(wait_s)}", heard)


def _silent_s(asking: Asking, heard: Heard) -> float:
    """From the last byte to the end; from the request, where the end came in place of an answer, or of its tokens."""
    if heard.ending.startswith("status") or not heard.tokens:  # what was held back may be lost with the cut
        return (heard.ended_ns - heard.asked_ns) / 1e9 - asking.clock.rtt_s
    return (heard.ended_ns - asking.clock.left_ns(heard)) / 1e9


async def _what_keeps(asking: Asking, limit: Limit) -> dict[str, bool]:
    """For each sign of life that could be tried: whether it keeps a stream open beyond the limit."""
    names = _possible(asking.transport, limit.low_s)
    kept = await asyncio.gather(*(stays_open(asking, name, limit) for name in names))
    return {name: is_kept for name, is_kept in zip(names, kept, strict=True) if is_kept is not None}


async def stays_open(asking: Asking, name: str, limit: Limit) -> bool | None:
    """Whether a stream with that sign outlives a limit, by most of three tries; None if there is no time or telling."""
    is_hole = limit.ending == BLACK_HOLE
    lasts_s = max(limit.high_s + 0.1, limit.value_s * (1 if limit.is_between else TALK_BEYOND))
    spare_s = asking.left_s() - lasts_s - asking.slack_s
    if spare_s < 0:
        return None
    apart_s = min(10.0, limit.value_s / 4, spare_s / SIGN_TRIES)  # what is late once shall not be late three times
    every_s = max(limit.low_s, limit.value_s / 4) / OFTEN
    tries = (_is_kept(asking, LIFE_SIGNS[name], every_s, lasts_s, n * apart_s) for n in range(SIGN_TRIES))
    told = [trial for trial in await asyncio.gather(*tries) if not trial.void]
    counted = [trial.survived for trial in told if is_hole or trial.ending != BLACK_HOLE]
    return sum(counted) * 2 > len(counted) if counted else None


def _possible(transport: str, limit_s: float) -> list[str]:
    """The signs of life that this transport has."""
    has_up = transport in _UP
    possible = {
        "down": True,
        "up": has_up,
        "both": has_up,
        "ping": transport == "websocket",
        "message": transport == "websocket",
        "tcp_keepalive": limit_s > 2 * LEAST_KEEPALIVE_S,
    }
    return [name for name, is_possible in possible.items() if is_possible]


async def _is_kept(asking: Asking, sign: LifeSign, every_s: float, lasts_s: float, after_s: float) -> Trial:
    """Whether a stream outlives the limit with that sign of life."""
    await asyncio.sleep(after_s)
    kind = _UP.get(asking.transport, "") if sign.up == "up" else sign.up
    up = Up(kind, every_s) if kind else None  # type: ignore[arg-type]  # a Literal
    stream = talking(every_s, lasts_s) if sign.down else silent(lasts_s)
    limit_s = lasts_s + every_s + asking.grace_s  # what passes may be held back: silence here is none there
    talk = Talk(stream, limit_s, up=up, method="GET" if kind == "body" else "POST")
    heard = await asking.talk(talk, every_s if sign.is_tcp else None)
    trial = trial_of(heard, lasts_s, (heard.ended_ns - heard.asked_ns) / 1e9, asking.clock.rtt_s)
    return await asking.judged(
        trial, f"{rounded_seconds(lasts_s)} with {sign.title} every {rounded_seconds(every_s)}", heard
    )


def _reset_by(kept: dict[str, bool]) -> str:
    """In the words of the proxy's idle_timeout: `either`, `up`, `down`, `each`; `nothing`; "" if it is not known."""
    if "down" not in kept:
        return ""
    down, up, both = kept["down"], kept.get("up"), kept.get("both")
    if up is None:
        return "down" if down else "nothing"
    up = up or kept.get("message", False)  # whoever looks at messages only passes pongs by
    if down or up:
        return "either" if down and up else "down" if down else "up"
    return "each" if both else "nothing"


def _kept_words(kept: dict[str, bool]) -> str:
    def titles(*, wanted: bool) -> str:
        return ", ".join(LIFE_SIGNS[name].title for name, is_kept in kept.items() if is_kept is wanted)

    keeping, others = titles(wanted=True), titles(wanted=False)
    parts = [f"kept open by {keeping}" * bool(keeping), f"not by {others}" * bool(others)]
    return "; ".join(filter(None, parts)) or "no time to see what keeps it open"


QUESTIONS = (
    ProbeQuestion(
        id="idle",
        title="How long may a stream be silent, and which bytes end the silence?",
        group="time",
        transports=PUSHED,
        connections=max(LADDER_CONNECTIONS, DIVISIONS + len(LIFE_SIGNS) * SIGN_TRIES),
        expected_s=lambda up_to_s: up_to_s,
        ask=ask,
    ),
)
