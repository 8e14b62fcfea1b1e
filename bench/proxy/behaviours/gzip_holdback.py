"""gzip hold-back: a compressing proxy that withholds tokens, because its compressor wants more input first."""

from __future__ import annotations

import random
import zlib

import h11

from bench.proxy.chain import Chain
from bench.proxy.exchange import accepts_gzip
from bench.proxy.http import header, with_header, without_headers
from bench.proxy.rule import Rule
from bench.proxy.stage import Stage

GZIP_WINDOW = 31  # zlib's wbits for a 32 KiB window in a gzip wrapper


class GzipHoldback(Rule, frozen=True, kw_only=True):
    """Compresses responses for clients that accept gzip.

    sync_flush: flush the compressor after every read, so that nothing is withheld
    content_types: compress only these (without parameters); empty: all
    """

    name = "gzip_holdback"

    sync_flush: bool = False
    content_types: tuple[str, ...] = ("text/html",)

    def stage(self, chain: Chain, draw: random.Random) -> Stage:
        return GzipHoldbackStage(self, chain)

    def words(self) -> str:
        how = "flushing after every read" if self.sync_flush else "withholding until the compressor's buffer is full"
        return f"compresses {', '.join(self.content_types) or 'responses'} with gzip, {how}"


class GzipHoldbackStage(Stage):
    """Compresses a response, and passes on what the compressor puts out."""

    http = True

    def __init__(self, rule: GzipHoldback, chain: Chain) -> None:
        super().__init__(rule, chain)
        self._rule = rule
        self._request: h11.Request | None = None
        self._reader: h11.Connection | None = None  # takes the body out of its framing
        self._compressor = zlib.compressobj(wbits=GZIP_WINDOW)
        self._head_is_next = False

    def response(self, now_s: float, request: h11.Request, response: h11.Response) -> None:
        content_type = header(response, b"content-type").split(b";")[0].strip().decode("latin-1")
        if (
            not accepts_gzip(request)
            or request.http_version < b"1.1"
            or header(response, b"content-encoding")
            or request.method == b"HEAD"
            or response.status_code in (204, 304)
            or (self._rule.content_types and content_type not in self._rule.content_types)
        ):
            return
        self._compressor = zlib.compressobj(wbits=GZIP_WINDOW)
        self._reader = h11.Connection(h11.CLIENT)
        self._reader.send(h11.Request(method=request.method, target="/", headers=[("Host", "proxy")]))
        self._reader.send(h11.EndOfMessage())
        self._head_is_next = True

    def down(self, now_s: float, data: bytes) -> None:
        if self._reader is None:
            self.send_down(now_s, data)
            return
        self._reader.receive_data(data)
        if self._head_is_next:
            self._head_is_next = False
            data = without_headers(data, b"content-length", b"transfer-encoding")
            data = with_header(data, b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked")
            self.send_down(now_s, data)
        self._compress(now_s, self._reader)

    def finished(self, now_s: float) -> None:
        if self._reader is not None:
            self._reader = None
            self._send(now_s, self._compressor.flush())
            self.send_down(now_s, b"0\r\n\r\n")

    def _compress(self, now_s: float, reader: h11.Connection) -> None:
        body = b""
        while isinstance(event := reader.next_event(), h11.Response | h11.Data):
            body += event.data if isinstance(event, h11.Data) else b""
        compressed = self._compressor.compress(body)
        if self._rule.sync_flush:
            compressed += self._compressor.flush(zlib.Z_SYNC_FLUSH)
        self._send(now_s, compressed)

    def _send(self, now_s: float, compressed: bytes) -> None:
        if compressed:
            self.send_down(now_s, b"%x\r\n%b\r\n" % (len(compressed), compressed))
