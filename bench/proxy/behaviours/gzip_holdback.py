"""gzip hold-back: a compressing proxy that withholds tokens, because its compressor wants more input first."""

from __future__ import annotations

import zlib

from bench.proxy.http_bytes import Body, RequestHead, ResponseHead, header, response_body, with_header, without_headers
from bench.proxy.rule import PER_RESPONSE, Condition, Draw, Rule
from bench.proxy.stage import Context, Stage

GZIP_WINDOW = 31  # zlib's wbits for a 32 KiB window in a gzip wrapper


class GzipHoldback(Rule, frozen=True, kw_only=True):
    """Compresses responses for clients that accept gzip.

    sync_flush: flush the compressor after every read, so that nothing is withheld
    content_types: empty: all
    """

    name = "gzip_holdback"
    holds = looks_into_bodies = True

    sync_flush: bool = False
    content_types: tuple[str, ...] = ("text/html",)

    def conditions(self) -> tuple[Condition, ...]:
        return PER_RESPONSE

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return GzipHoldbackStage(self, chain)

    def deed(self) -> str:
        how = "flushing after every read" if self.sync_flush else "withholding until the compressor's buffer is full"
        return f"compresses responses with gzip, {how}"


class GzipHoldbackStage(Stage):
    """Compresses a response, and passes on what the compressor puts out."""

    http = True

    def __init__(self, rule: GzipHoldback, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._body: Body | None = None  # takes the content out of its framing
        self._compressor = zlib.compressobj(wbits=GZIP_WINDOW)
        self._head_is_next = False

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        body = response_body(request, response)
        if (
            b"gzip" not in header(request, b"accept-encoding")
            or request.http_version < b"1.1"
            or header(response, b"content-encoding")
            or body.done
        ):
            return
        self._compressor = zlib.compressobj(wbits=GZIP_WINDOW)
        self._body = body
        self._head_is_next = self.struck = True

    def down(self, now_s: float, data: bytes) -> None:
        if self._body is None:
            self.send_down(now_s, data)
        elif self._head_is_next:
            self._head_is_next = False
            data = without_headers(data, b"content-length", b"transfer-encoding")
            data = with_header(data, b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked")
            self.send_down(now_s, data)
        else:
            self._body.feed(data)
            self._compress(now_s, b"".join(data[start:end] for start, end in self._body.spans))

    def finished(self, now_s: float) -> None:
        if self._body is not None:
            self._body = None
            self._send(now_s, self._compressor.flush())
            self.send_down(now_s, b"0\r\n\r\n")

    def tunnelled(self, now_s: float) -> None:
        """In the middle of a response its framing broke: what was compressed of it cannot be ended in order."""
        if self._body is not None:
            self._body = None
            self.cut(now_s, "fin")

    def _compress(self, now_s: float, content: bytes) -> None:
        compressed = self._compressor.compress(content)
        if self._rule.sync_flush:
            compressed += self._compressor.flush(zlib.Z_SYNC_FLUSH)
        self._send(now_s, compressed)

    def _send(self, now_s: float, compressed: bytes) -> None:
        if compressed:
            self.send_down(now_s, b"%x\r\n%b\r\n" % (len(compressed), compressed))
