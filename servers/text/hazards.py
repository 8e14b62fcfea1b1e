"""Tokens that break careless clients and servers (pure): the text-hazards table, one row after the other.

Sources: WHATWG HTML 9.2.5-9.2.6 for the rules of event streams, RFC 6455 5.2 for frame lengths, and the field reports
that docs/wire-format.md names. In raw form each of these is lost, split or taken for markup somewhere; inside JSON all
are inert.
"""

from __future__ import annotations

from functools import cache

SMALL: tuple[str, ...] = (
    " the",  # one leading space after the colon belongs to the field, not to the value
    " ",
    "\n",  # LF ends a line
    "\n\n",  # a blank line dispatches
    "\r",  # so do CR ...
    "\r\n",  # ... and CRLF, which may straddle two reads
    "",  # an empty token is a token
    "é",  # two bytes of UTF-8
    "漢字",
    "😀",  # four bytes, a surrogate pair in JSON
    "👩\u200d👩\u200d👧",  # one grapheme of five code points
    "e\u0301",  # a combining mark
    "\u0301",  # ... on its own
    "\u202eabc\u202c",  # right-to-left override
    "שלום",
    "[DONE]",  # the end sentinel of several APIs
    "data: x",  # a field name
    "\nid: 9",  # event injection
    "\n\nevent: end",
    ":",  # a comment, if it began a line
    "\0",  # truncates in layers written in C
    "\ufeff",  # a byte-order mark is stripped from a stream's start, and only there
    "\u2028",  # str.splitlines() splits at these five
    "\u2029",
    "\x85",
    "\v",
    "\f",
    "\x1b[2J",  # clears a terminal
    '"',
    "\\",
    "\\u0041",
    "</script><b>&amp;",  # a page must escape it
    '{"done": true}',  # looks like the end message
    "0\r\n\r\n",  # looks like the last chunk
)

# 65,535 and 65,536 bytes are where WebSocket frames change their length form (in whole messages, so on either side of
# it); asyncio's line limit is 64 KiB; many WebSocket clients refuse a message of more than 1 MiB.
LARGE: tuple[str, ...] = ("a" * 65_536, " ab\n" * 20_000, "x" * (2**20 - 1024))


def _all_pairs(count: int) -> list[int]:
    """A walk over 0..count-1 in which every ordered pair, a thing with itself too, stands side by side.

    A de Bruijn sequence B(count, 2) by its usual construction from Lyndon words, its first element repeated at the end.
    """
    walk: list[int] = []
    for first in range(count):
        walk.append(first)
        for second in range(first + 1, count):
            walk += (first, second)
    return [*walk, 0]


@cache
def hazards() -> tuple[str, ...]:
    """Every small hazard beside every other, then the large ones."""
    return (*(SMALL[k] for k in _all_pairs(len(SMALL))), *LARGE)
