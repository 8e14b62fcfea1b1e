"""Reads of a stream that are kept for a moment and worked on together, each with its own stamp (pure).

What a token costs a client is mostly memory that is no longer in the processor's caches: between two reads the kernel
and the event loop have used them. So a read that looks like one token and nothing else, as nearly all do, is kept, and
decoded with its neighbours in one go. It is entered with the stamp that was taken straight after it came, so the record
is the same. All else is worked on at once, behind what is kept; so ends, errors and pings wait for nothing.

What only looked like a token is found out when the reads are worked on together. Then each goes the exact way after all
(clients.core.session.Session), and this stream is read that way from there on.
"""

from __future__ import annotations

from collections.abc import Callable

from clients.core.ledger import Ledger
from servers.messages import TokenMessage

MOST_READS = 16  # more bring nothing, and all other streams wait while they are worked on
MAX_READ_BYTES = 1023  # of one that is kept
_OF_A_TOKEN = b'"sent": '  # in no other message; within a text its quotes would be escaped

DecodeEach = Callable[[list[bytes]], list[TokenMessage] | None]
"""The token that each read is; None, and nothing has changed, if they are not all that."""


def heads_by_length(head: Callable[[int], bytes], tail_bytes: int = 0) -> list[bytes]:
    """How a frame begins that is so many bytes long in all; of lengths that none can have, what none begins with.

    `head`: of a frame with so many bytes of payload; `tail_bytes` follow those.
    """
    heads = [b"\n"] * (MAX_READ_BYTES + 1)
    for payload_bytes in range(1, MAX_READ_BYTES):
        length = len(head(payload_bytes)) + payload_bytes + tail_bytes
        if length <= MAX_READ_BYTES:
            heads[length] = head(payload_bytes)
    return heads


class KeptReads:
    """At most MOST_READS reads of one stream.

    `heads`: how a read begins that is one whole frame, by its length; `lines`: how often LF stands in one with a token.
    `is_ready`: whether such a read means that now; asked when nothing is kept, and what is kept leaves it so.
    """

    __slots__ = "_decode_each", "_heads", "_is_ready", "_ledger", "_lines", "_reads", "_stamps_ns"

    def __init__(
        self, ledger: Ledger, heads: list[bytes], lines: int, decode_each: DecodeEach, is_ready: Callable[[], bool]
    ) -> None:
        self._ledger, self._heads, self._lines = ledger, heads, lines
        self._decode_each, self._is_ready = decode_each, is_ready
        self._reads: list[bytes] = []
        self._stamps_ns: list[int] = []

    def keep(self, data: bytes, read_ns: int) -> bool:
        """Keep a read, if it looks like a token; else it is to be worked on, behind what is kept."""
        size = len(data)
        if size > MAX_READ_BYTES or not data.startswith(self._heads[size]):
            return False
        if data.count(b"\n") != self._lines or _OF_A_TOKEN not in data:
            return False
        reads = self._reads
        if len(reads) >= MOST_READS and not self.enter():
            return False
        if not reads and not self._is_ready():
            return False
        reads.append(data)
        self._stamps_ns.append(read_ns)
        return True

    def enter(self) -> bool:
        """Enter the tokens that are kept. False: they are something else, and still kept."""
        reads, stamps_ns = self._reads, self._stamps_ns
        if reads:
            tokens = self._decode_each(reads)
            if tokens is None or not self._ledger.add_each(tokens, stamps_ns):
                return False
            reads.clear()
            stamps_ns.clear()
        return True

    def give_up(self) -> list[tuple[bytes, int]]:
        """The reads and their stamps, to be worked on one by one; nothing is kept from now on."""
        self._is_ready = _never
        kept = list(zip(self._reads, self._stamps_ns, strict=True))
        self._reads, self._stamps_ns = [], []
        return kept


def _never() -> bool:
    return False
