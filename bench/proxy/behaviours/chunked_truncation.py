"""Chunked truncation: a chunked response that stops before its end, with an orderly close."""

from __future__ import annotations

import random
from typing import Literal

import h11

from bench.proxy.chain import Chain
from bench.proxy.http import ChunkedBody, header
from bench.proxy.rule import Count, Rule
from bench.proxy.stage import Stage

WHERE = {
    "last_chunk": "leaves out the last chunk",
    "chunk_boundary": "stops behind chunk {n}",
    "inside_chunk": "stops inside chunk {n}",
    "inside_character": "stops inside the first multi-byte character behind chunk {n}",
}


class ChunkedTruncation(Rule, frozen=True, kw_only=True):
    """Closes (FIN) a chunked response early.

    where: all but the last, zero-sized chunk arrives; or it stops behind chunk `after_chunks`, a byte before that
        chunk's data is complete, or in the first multi-byte UTF-8 character behind it
    """

    name = "chunked_truncation"

    where: Literal["last_chunk", "chunk_boundary", "inside_chunk", "inside_character"] = "last_chunk"
    after_chunks: Count = 1

    def stage(self, chain: Chain, draw: random.Random) -> Stage:
        return ChunkedTruncationStage(self, chain)

    def words(self) -> str:
        return f"closes (FIN) a chunked response early: {WHERE[self.where].format(n=self.after_chunks)}"


class ChunkedTruncationStage(Stage):
    """Counts the chunks of a response, and ends it at the named place."""

    http = True

    def __init__(self, rule: ChunkedTruncation, chain: Chain) -> None:
        super().__init__(rule, chain)
        self._rule = rule
        self._body: ChunkedBody | None = None
        self._left_chunks = 0
        self._head_is_next = False

    def response(self, now_s: float, request: h11.Request, response: h11.Response) -> None:
        chunked = b"chunked" in header(response, b"transfer-encoding")
        self._body = ChunkedBody() if chunked else None
        self._left_chunks = self._rule.after_chunks
        self._head_is_next = True

    def tunnelled(self, now_s: float) -> None:
        self._body = None

    def down(self, now_s: float, data: bytes) -> None:
        if self._body is None or self._head_is_next:
            self._head_is_next = False
            self.send_down(now_s, data)
            return
        at = self._stop_at(self._body, data)
        self.send_down(now_s, data if at is None else data[:at])
        if at is not None:
            self._body = None
            self.cut(now_s, "fin")

    def _stop_at(self, body: ChunkedBody, data: bytes) -> int | None:
        """Offset in the data at which the response stops; None if not in here."""
        body.feed(data)
        if self._rule.where == "last_chunk":
            return body.last_chunk_at
        before = self._left_chunks
        self._left_chunks -= len(body.chunk_ends)
        if self._left_chunks > 0:
            return None
        end = body.chunk_ends[before - 1] if before > 0 else 0
        if self._rule.where == "inside_character":
            return next((at + 1 for at in range(end, len(data)) if data[at] >= 0xC0), None)
        return max(0, end - 3) if self._rule.where == "inside_chunk" else end  # 3: a byte of data, CR, LF
