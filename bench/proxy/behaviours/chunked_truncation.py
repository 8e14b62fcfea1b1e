"""Chunked truncation: a chunked response that stops before its end, with an orderly close."""

from __future__ import annotations

from typing import Literal

from bench.proxy.http_bytes import ChunkedBody, RequestHead, ResponseHead, is_chunked
from bench.proxy.rule import PER_RESPONSE, AtLeastOne, Condition, Draw, Rule
from bench.proxy.stage import Context, Stage

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
    looks_into_bodies = True

    where: Literal["last_chunk", "chunk_boundary", "inside_chunk", "inside_character"] = "last_chunk"
    after_chunks: AtLeastOne = 1

    def conditions(self) -> tuple[Condition, ...]:
        return PER_RESPONSE

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return ChunkedTruncationStage(self, chain)

    def deed(self) -> str:
        return f"closes (FIN) a chunked response early: {WHERE[self.where].format(n=self.after_chunks)}"


class ChunkedTruncationStage(Stage):
    """Counts the chunks of a response, and ends it at the named place."""

    http = True

    def __init__(self, rule: ChunkedTruncation, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._body: ChunkedBody | None = None
        self._left_chunks = 0
        self._head_is_next = False
        self._held = b""  # a size line that is not whole: it may be the last chunk's

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self._body = ChunkedBody() if is_chunked(response) else None
        self._left_chunks = self._rule.after_chunks
        self._head_is_next = True

    def finished(self, now_s: float) -> None:
        self._body = None

    def tunnelled(self, now_s: float) -> None:
        self._body = None
        self._release(now_s)

    def down(self, now_s: float, data: bytes) -> None:
        if self._body is None or self._head_is_next:
            self._head_is_next = False
            self.send_down(now_s, data)
            return
        data, begun_at = self._held + data, len(self._held)
        self._body.feed(data[begun_at:])
        at = self._stop_at(self._body, data, begun_at)
        until = len(data) - len(self._body.line) if at is None else at
        self._held = data[until:]
        if until:
            self.send_down(now_s, data[:until])
        if at is not None:
            self._body, self._held = None, b""
            self.cut(now_s, "fin")

    def down_eof(self, now_s: float) -> None:
        self._release(now_s)
        self.end_down(now_s)

    def _release(self, now_s: float) -> None:
        held, self._held = self._held, b""
        if held:
            self.send_down(now_s, held)

    def _stop_at(self, body: ChunkedBody, data: bytes, begun_at: int) -> int | None:
        """Offset in the data at which the response stops; None if not in here. The body was fed from `begun_at` on."""
        if self._rule.where == "last_chunk":
            return None if body.last_chunk_at is None else begun_at + body.last_chunk_at
        ends = [begun_at + end for end in body.chunk_ends]
        if self._rule.where == "inside_chunk" and body.left_bytes:
            ends.append(len(data) + body.left_bytes)  # where the chunk under way will end
        before = self._left_chunks
        self._left_chunks -= len(body.chunk_ends)
        if before > len(ends):
            return None
        end = ends[before - 1] if before > 0 else begun_at
        if self._rule.where == "inside_character":
            content = (at for span in body.spans for at in range(begun_at + span[0], begun_at + span[1]))
            return next((at + 1 for at in content if at >= end and data[at] >= 0xC0), None)
        if self._rule.where == "inside_chunk":
            return end - 3 if end - 3 <= len(data) else None  # 3: a byte of data, CR, LF
        return end
