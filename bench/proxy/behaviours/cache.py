"""Cache: responses are served again from a cache, which all connections through the proxy share."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated

import msgspec

from bench.proxy.http_bytes import CloseBody, RequestHead, ResponseHead, header, response_body, with_header
from bench.proxy.rule import PER_RESPONSE, Condition, Draw, Positive, Rule, seconds
from bench.proxy.stage import Context, Stage

MAX_RESPONSES = 64  # the oldest goes for the newest


class Cache(Rule, frozen=True, kw_only=True):
    """Keeps whole responses (status 200) for `max_age_s`, and answers requests of the same method and target with them.

    ignore_query: two targets are the same if they differ behind the question mark only
    honour_cache_control: a response with `Cache-Control: no-store`, `no-cache` or `private` is not kept
    max_bytes: a larger response is not kept
    """

    name = "cache"
    looks_into_bodies = True

    max_age_s: Positive
    ignore_query: bool = False
    honour_cache_control: bool = False
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] = 1_048_576
    methods: tuple[str, ...] = ("GET",)

    def conditions(self) -> tuple[Condition, ...]:
        return PER_RESPONSE

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return CacheStage(self, chain)

    def deed(self) -> str:
        unless = ", except with Cache-Control: no-store, no-cache or private" if self.honour_cache_control else ""
        same = ", whatever the query" if self.ignore_query else ""
        return f"answers from a cache for {seconds(self.max_age_s)}{same}{unless}"


class Responses:
    """What a cache holds, at most `MAX_RESPONSES`."""

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def get(self, now_s: float, key: bytes) -> bytes | None:
        """The response of that key with its age, if there is one that is young enough."""
        kept_s, data = self._kept.get(key, (-math.inf, b""))
        age_s = now_s - kept_s
        return with_header(data, b"Age: %d" % age_s) if age_s < self._max_age_s else None

    def put(self, now_s: float, key: bytes, data: bytes) -> None:
        """Keep a response."""
        self._kept.pop(key, None)
        self._kept[key] = now_s, data
        if len(self._kept) > MAX_RESPONSES:
            self._kept.popitem(last=False)


class CacheStage(Stage):
    """Answers a request, or takes down what it is answered with."""

    http = True

    def __init__(self, rule: Cache, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._responses = chain.common.shared(rule, lambda: Responses(rule.max_age_s))
        self._key = b""  # of the request under way
        self._hit: bytes | None = None  # its answer
        self._is_answered = False  # from the cache: nothing of the request goes to the server
        self._taken: bytearray | None = None  # of the response under way

    def request(self, now_s: float, request: RequestHead) -> None:
        target = request.target.partition(b"?")[0] if self._rule.ignore_query else request.target
        if request.http_version >= b"1.1" and not header(request, b"upgrade"):
            self._key = request.method + b" " + target
            self._hit = self._responses.get(now_s, self._key)

    def up(self, now_s: float, data: bytes) -> None:
        hit, self._hit = self._hit, None
        if hit is not None:
            self._key, self._is_answered, self.struck = b"", True, True
            self.chain.down(now_s, hit)
        elif not self._is_answered:
            self.send_up(now_s, data)

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        control = header(response, b"cache-control")
        forbidden = any(word in control for word in (b"no-store", b"no-cache", b"private"))
        if (
            self._key
            and response.status_code == 200
            and not isinstance(response_body(request, response), CloseBody)
            and b"close" not in header(response, b"connection")
            and not (forbidden and self._rule.honour_cache_control)
        ):
            self._taken = bytearray()

    def down(self, now_s: float, data: bytes) -> None:
        if self._taken is not None:
            self._taken += data
            if len(self._taken) > self._rule.max_bytes:
                self._taken = None
        self.send_down(now_s, data)

    def finished(self, now_s: float) -> None:
        if self._taken is not None:
            self._responses.put(now_s, self._key, bytes(self._taken))
        self._key, self._taken = b"", None

    def idle(self, now_s: float) -> None:
        self._is_answered = False

    def tunnelled(self, now_s: float) -> None:
        self._key, self._hit, self._taken, self._is_answered = b"", None, None, False
