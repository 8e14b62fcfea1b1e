"""Sources for `--source tests.support.sources:tokens`: the message says which one answers."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

NAME = "tests.support.sources:tokens"
SILENCE_S = 0.4  # after which the servers of the fixture give a source up
TEXTS = ("Hello", " wörld", "\n\n", "", " \u2028", "👩‍👩‍👧", " end")
TOKENS = tuple(filter(None, TEXTS))


async def good(_: str) -> AsyncIterator[str]:
    for text in TEXTS:
        yield text
        await asyncio.sleep(0.01)


async def talkative(_: str) -> AsyncIterator[str]:
    print("x" * 200_000, flush=True)  # more than a pipe holds
    async for text in good(_):
        yield text


def blocking(_: str) -> Iterator[str]:
    for text in TEXTS:
        yield text
        time.sleep(0.01)


async def coroutine(message: str) -> AsyncIterator[str]:
    await asyncio.sleep(0.01)
    return good(message)


async def empty(_: str) -> AsyncIterator[str]:
    yield ""


async def late(_: str) -> AsyncIterator[str]:
    await asyncio.sleep(0.3)
    yield "At last"


async def raises(message: str) -> AsyncIterator[str]:
    if message:
        raise OSError("the secret is 42")
    yield ""


async def breaks(_: str) -> AsyncIterator[str]:
    yield "Half"
    yield " an"
    await asyncio.sleep(0.1)
    raise RuntimeError("the secret is 42")


def breaks_in_its_thread(_: str) -> Iterator[str]:
    yield "Half"
    yield " an"
    time.sleep(0.1)
    raise RuntimeError("the secret is 42")


async def silent(_: str) -> AsyncIterator[str]:
    yield "Half"
    yield " an"
    await asyncio.Event().wait()


async def disobedient(_: str) -> AsyncIterator[str]:
    yield "Half"
    yield " an"
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)


def silent_in_its_thread(_: str) -> Iterator[str]:
    yield "Half"
    yield " an"
    time.sleep(1000)


async def endless(_: str) -> AsyncIterator[str]:
    while True:
        yield "x"


def endless_in_its_thread(_: str) -> Iterator[str]:
    yield from itertools.repeat("x")


async def endlessly_empty(_: str) -> AsyncIterator[str]:
    while True:
        yield ""


async def no_text(_: str) -> AsyncIterator[Any]:
    yield "Half"
    yield " an"
    await asyncio.sleep(0.1)
    yield 5


async def half_a_pair(_: str) -> AsyncIterator[str]:
    yield "Half"
    yield " an"
    await asyncio.sleep(0.1)
    yield "\ud83d"


async def huge(_: str) -> AsyncIterator[str]:
    yield "Half"
    yield " an"
    await asyncio.sleep(0.1)
    yield "\0" * (1 << 20)


async def exits(_: str) -> AsyncIterator[str]:
    yield "Half"
    yield " an"
    await asyncio.sleep(0.1)
    sys.exit("the secret is 42")


def exits_in_its_thread(_: str) -> Iterator[str]:
    yield "Half"
    yield " an"
    time.sleep(0.1)
    sys.exit("the secret is 42")


async def gives_up(_: str) -> AsyncIterator[str]:
    yield "Half"
    yield " an"
    await asyncio.sleep(0.1)
    raise asyncio.CancelledError


def no_iterator(_: str) -> object:
    return 5


def text_alone(_: str) -> object:
    return "text"


def fails_at_once(_: str) -> object:
    raise KeyError("the secret is 42")


def tokens(message: str) -> object:
    """The source that the message's first word names, or a good one."""
    found: Callable[[str], object] = globals().get(message.split(maxsplit=1)[0], good)
    return found(message)
