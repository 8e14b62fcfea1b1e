"""Hostile bytes through every profile: whatever comes, and however it is cut, the proxy goes on, and ends in time."""

from __future__ import annotations

import asyncio
import random
from itertools import count

import pytest
from support.hostile import Message, conversation, pieces
from support.proxies import OK, REQUEST, Client, Clockwork, Net, read_request
from support.watchdog import watchdog

from bench.proxy import profile
from bench.proxy.behaviours import (
    BEHAVIOURS,
    Bandwidth,
    Cache,
    ChunkedTruncation,
    Coalescing,
    Cut,
    CutAll,
    FirstByteTimeout,
    GzipHoldback,
    HeadHoldback,
    IdleTimeout,
    Latency,
    MaxAge,
    MaxDuration,
    MaxRequests,
    Nagle,
    Noop,
    Refuse,
    ResponseBuffering,
    Slicing,
    SlowClose,
    Unreachable,
    Upgrade,
    Upstreams,
    WebsocketClose,
)
from bench.proxy.rule import Rule

N_PIECES = 300_000
LIMIT_S = 120.0  # a busy machine's; a quiet one needs a tenth

OWN: dict[str, tuple[Rule, ...]] = {
    "everything that delays": (
        Latency(latency_ms=5, jitter_ms=4),
        Bandwidth(rate_kbit=80),
        Slicing(slice_bytes=7, variation_bytes=6),
        Nagle(segment_bytes=50, way="both"),
        Coalescing(coalesce_ms=20, scope="response"),
        SlowClose(close_delay_s=1),
    ),
    "everything that looks into bodies": (
        ResponseBuffering(flush_s=2),
        Cut(action="black_hole", after_bytes=400, since="response", way="down"),
        GzipHoldback(content_types=()),
    ),
    "everything that withholds a little": (
        FirstByteTimeout(first_byte_timeout_s=20, methods=("GET", "PURGE")),
        ResponseBuffering(first_bytes=40, flush_s=30, content_types=("text/event-stream",)),
        HeadHoldback(methods=("GET", "POST")),
    ),
    "a reload every minute": (CutAll(at_s=10, every_s=60, grace_s=20, outage_s=5, status=503),),
    "a cache": (Cache(max_age_s=30, methods=("GET", "HEAD", "POST")), MaxAge(max_age_s=100)),
    "a server for each request": (
        Unreachable(),
        Upstreams(each="request", sticky="cookie", keep_s=20, close_lag_ms=500, retry="idempotent"),
    ),
    "a response that stops": (ChunkedTruncation(where="inside_character", after_chunks=2),),
    "everything that waits": (
        MaxDuration(max_duration_s=50, scope="websocket"),
        FirstByteTimeout(first_byte_timeout_s=20),
        IdleTimeout(idle_timeout_s=20, reset_by="each", action="black_hole"),
        WebsocketClose(idle_timeout_s=5),
        MaxAge(max_age_s=30),
        MaxRequests(max_requests=3),
        Refuse(mode="status", probability=0.1),
        Noop(),
    ),
    "a server that is not there": (Unreachable(), Upgrade(action="strip")),
}
SETS = {name: profile.load_profile(name).rules for name in profile.names()} | OWN


def test_every_behaviour_is_among_them() -> None:
    assert {rule.name for rules in SETS.values() for rule in rules} == set(BEHAVIOURS)


@pytest.mark.slow
def test_hostile_bytes_over_every_profile() -> None:
    with watchdog(LIMIT_S):
        for name, rules in SETS.items():
            _fuzz(name, rules, N_PIECES // len(SETS) + 1)


def _fuzz(name: str, rules: tuple[Rule, ...], n_pieces: int) -> None:
    """Conversation after conversation, until so many pieces have gone in."""
    for number in count():
        draw = random.Random(f"{name}/{number}")
        messages = list(pieces(draw, conversation(draw)))
        works = Clockwork(*rules, seed=f"{name}/{number}")
        if name.endswith("not there"):
            works.chain.unreachable(0.0)
        slow = draw.random() < 0.3
        for what, data in messages:
            at_s = works.now_s + draw.choice((0, 0, 0.01, 1) if not slow else (0, 1, 40, 400))
            n_pieces -= not works.chain.stopped
            works.play([(at_s, what, data)], until_s=at_s)
        works.run_until(1e6)
        assert len(works.unfollowed) <= 1, f"{name}/{number}"
        if not any(stage.struck for stage in works.chain.stages):
            _assert_unchanged(works, messages, f"{name}/{number}")
        if n_pieces <= 0:
            return


def _assert_unchanged(works: Clockwork, messages: list[Message], where: str) -> None:
    """What no behaviour touched has passed as it is; a server that has ended need not hear what it was not asked."""
    given = {way: b"".join(data for what, data in messages if what == way) for way in ("up", "down")}
    passed = {way: b"".join(data for _, what, data in works.seen if what == way) for way in ("up", "down")}
    held = works.chain.http is not None and works.chain.http.phase != "tunnel"
    assert given["down"].startswith(passed["down"]) if held else given["down"] == passed["down"], where
    assert given["up"].startswith(passed["up"]) if held else given["up"] == passed["up"], where


SPLIT: tuple[tuple[Rule, ...], ...] = (
    (IdleTimeout(idle_timeout_s=60, status=504),),
    (ChunkedTruncation(),),
    (ChunkedTruncation(where="chunk_boundary", after_chunks=2),),
    (ChunkedTruncation(where="inside_chunk", after_chunks=2),),
    (ChunkedTruncation(where="inside_character"),),
    (Cut(action="fin", after_bytes=100),),
    (Cut(action="rst", after_bytes=90, since="response"),),
    (Upgrade(action="strip"), MaxAge(max_age_s=1e-9)),
    (MaxRequests(max_requests=2),),
    (IdleTimeout(idle_timeout_s=60, scope="response"),),
    (Cache(max_age_s=30, methods=("GET", "POST", "PURGE")),),
    (Upstreams(each="request", sticky="cookie"),),
    (Upgrade(), ResponseBuffering(until_complete=True)),
    (ResponseBuffering(first_bytes=30), HeadHoldback(content_types=("text/event-stream", "text/html"))),
)


@pytest.mark.parametrize("rules", SPLIT, ids=lambda rules: ", ".join(rule.words() for rule in rules))
def test_it_does_not_matter_how_the_bytes_are_cut(rules: tuple[Rule, ...]) -> None:
    with watchdog(LIMIT_S):
        for number in range(1500):
            draw = random.Random(f"cut/{number}")
            messages = conversation(draw)
            assert _outcome(rules, messages) == _outcome(rules, list(pieces(draw, messages, 9))), f"cut/{number}"


def _outcome(rules: tuple[Rule, ...], messages: list[Message]) -> tuple[bytes, list[str], bytes, list[str]]:
    """What reached the client, and how it ended; then what reached the server, and why it was not followed.

    (The latter not where it was cut: in the middle of a line nobody knows what it would have become.)
    """
    works = Clockwork(*rules)
    works.play([(1.0, what, data) for what, data in messages], until_s=1.0)
    passed = [b"".join(data for _, what, data in works.seen if what == way) for way in ("up", "down")]
    ends = [what for _, what, _ in works.seen if what not in ("up", "down")]
    if works.chain.stopped:
        return passed[1], ends, b"", []
    return passed[1], ends, passed[0], works.unfollowed


async def test_hostile_bytes_over_real_sockets(net: Net) -> None:
    """Client and server are hostile at the same time; the proxy serves the next client as if nothing had been."""
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    numbers = count()

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.gather(_speak(writer, "down", next(numbers)), reader.read(1 << 16))

    async def decent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)

    async def attack(address: tuple[str, int], number: int) -> None:
        client = await net.connect(address)
        await asyncio.gather(_speak(client.writer, "up", number), _listen(client))

    with watchdog(LIMIT_S):
        server, other = await net.serve(hostile), await net.serve(decent)
        for name in ("aws-alb", "nginx", "haproxy", "corporate-proxy", "cloudflare", "heroku", *OWN):
            address = await net.proxy(server, *(rule.scaled(1000) for rule in SETS[name]))
            await asyncio.gather(*(attack(address, n) for n in range(60)))
            while net.proxies[-1].relays:  # nothing may be left open by what came
                await asyncio.sleep(0.01)
        client = await net.connect(await net.proxy(other, *profile.load_profile("aws-alb").rules))
        client.send(REQUEST)
        assert await client.reader.readexactly(len(OK)) == OK
    assert faults == []


async def _speak(writer: asyncio.StreamWriter, way: str, number: int) -> None:
    """One side of a conversation, cut anywhere."""
    draw = random.Random(f"{way}/{number}")
    for what, data in pieces(draw, conversation(draw)):
        if what == way and not writer.is_closing():
            writer.write(data)
            await asyncio.sleep(0)
    if draw.random() < 0.5:
        writer.close()


async def _listen(client: Client) -> None:
    await client.until_end(0.3)
    client.writer.transport.abort()
