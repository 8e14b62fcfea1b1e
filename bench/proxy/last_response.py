"""A connection's last response: it says so (`Connection: close`), and the connection is closed behind it (pure).

RFC 9112 §9.6. Which response is the last is the behaviour's to say: by the connection's age, or by its number.
"""

from __future__ import annotations

from bench.proxy.http_bytes import RequestHead, ResponseHead, closing
from bench.proxy.stage import Stage


class LastResponseStage(Stage):
    """Closes behind the first response that `is_last`."""

    http = True

    def is_last(self, now_s: float) -> bool:
        """Whether the response whose head has come now is the connection's last."""
        raise NotImplementedError

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self.struck = self.is_last(now_s)

    def rewrite_response(self, head: bytes) -> bytes:
        return closing(head) if self.struck else head

    def finished(self, now_s: float) -> None:
        if self.struck:
            self.cut(now_s, "fin")
