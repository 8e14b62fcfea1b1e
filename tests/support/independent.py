"""What clients that know only docs/wire-format.md have in common: the standard library, none of the project's code."""

from __future__ import annotations

import hashlib
import http.client
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 20


@dataclass
class Answer:
    """What came: token messages, the end message, and the stream's id where the transport tells it."""

    tokens: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    stream_id: str | None = None

    @property
    def text(self) -> str:
        return "".join(token["t"] for token in self.tokens)

    def check(self, first: int = 0) -> Answer:
        """Whole, in order, and (from index 0) of the right hash."""
        assert self.end is not None, "no end message"
        assert [token["i"] for token in self.tokens] == list(range(first, self.end["n"]))
        assert all(token["sent"] >= token["due"] for token in self.tokens)
        if first == 0:
            assert hashlib.sha256(self.text.encode()).hexdigest() == self.end["sha256"]
        return self

    def add(self, message: dict[str, Any]) -> None:
        """Enter a token message or the end message."""
        if message.get("done"):
            self.end = message
        else:
            self.tokens.append(message)


def connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)


def request(
    url: str, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One exchange: status, headers (lower case), body."""
    http_connection = connection(url)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    http_connection.request(method, path, data, headers or {})
    response = http_connection.getresponse()
    result = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    http_connection.close()
    return result
