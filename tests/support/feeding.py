"""Every decoder is fed in three ways; an answer to feed it with."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from servers import messages
from servers.stream import Schedule

DUE_NS, SENT_NS = 1_000, 1_500


class Decoder(Protocol):
    def feed(self, data: bytes) -> Any: ...


def feed(decoder: Decoder, parts: Sequence[bytes]) -> tuple[list[Any], str]:
    """The messages, and what went wrong (or nothing)."""
    found: list[Any] = []
    try:
        for part in parts:
            found += decoder.feed(part)
    except messages.ProtocolError as error:
        return [*found, *error.messages], str(error)
    return found, ""


def three_ways(make: Callable[[], Decoder], data: bytes, trailing: bytes = b"") -> tuple[list[Any], str]:
    """What a decoder makes of `data`: whole, byte by byte, and with other bytes behind it must be the same."""
    whole = feed(make(), [data])
    assert feed(make(), [bytes([byte]) for byte in data]) == whole
    if trailing and not whole[1]:
        assert feed(make(), [data + trailing])[0] == whole[0]
    return whole


def split_at(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` cut at the given positions, taken modulo its length."""
    at = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


def schedule_of(*texts: str) -> Schedule:
    """A schedule of these texts, one a millisecond."""
    return Schedule(texts, array("q", range(0, len(texts) * 1_000_000, 1_000_000)))


def encoded(schedule: Schedule, *, raw: bool = False) -> list[bytes]:
    """Its token messages; `raw` with UTF-8 instead of escapes."""
    texts = messages.JsonTexts(raw=raw)
    return [messages.encode_token(i, texts[text], DUE_NS, SENT_NS) for i, text in enumerate(schedule.texts)]


def decoded(schedule: Schedule) -> list[messages.TokenMessage | messages.EndMessage]:
    """What a decoder should find in a whole answer."""
    tokens = [messages.TokenMessage(i, t, DUE_NS, SENT_NS) for i, t in enumerate(schedule.texts)]
    return [*tokens, messages.EndMessage(True, schedule.n, schedule.sha256)]


def encoded_end(schedule: Schedule) -> bytes:
    """Its end message."""
    return messages.encode_end(schedule.n, schedule.sha256)
