"""The timeout proxy without behaviours, which stamps what passes: for the waterfall, and never in a run.

    python -m bench.calibration.tapped_proxy HOST PORT

It prints `{"url": …}`; at SIGTERM `{"tokens": [[i, ns in, ns out], …]}`, the tokens that went down, in their order.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from time import monotonic_ns
from typing import Any

from bench.calibration.json_lines import print_line
from bench.proxy.relay import Relay, Side
from bench.proxy.serve import Proxy, serve
from servers.process import run

_TOKEN = re.compile(rb'\{"i": ?(\d+), ?"t": ?"(?:[^"\\]|\\.)*", ?"due": ?\d+, ?"sent": ?\d+\}')
"""A token message (docs/wire-format.md). None is split by framing: each is a chunk, a frame or part of one body."""


class TappedRelay(Relay):
    """Stamps what comes down: when it was read, and just before it is written."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.passed: list[tuple[int, int, bytes]] = []

    def write_down(self, now_s: float, data: bytes) -> None:
        """See Relay; without behaviours `now_s` is when `data` was read."""
        self.passed.append((round(now_s * 1e9), monotonic_ns(), data))
        super().write_down(now_s, data)


class TappedProxy(Proxy):
    """Keeps its relays, and so their stamps."""

    relay_type = TappedRelay

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__(upstream, [])
        self._kept: list[TappedRelay] = []

    def _accept(self) -> Side:
        side = super()._accept()
        assert isinstance(side.relay, TappedRelay)
        self._kept.append(side.relay)
        return side

    def tokens(self) -> list[tuple[int, int, int]]:
        """All tokens that went down: number, in, out; connection after connection."""
        return [token for relay in self._kept for token in tokens_of(relay.passed)]


def tokens_of(passed: Sequence[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, int]]:
    """Each token of a connection's bytes, with the stamps of the piece that completed it."""
    data = b"".join(piece for *_, piece in passed)
    pieces, held = iter(passed), 0
    in_ns = out_ns = 0
    for token in _TOKEN.finditer(data):
        while held < token.end():
            in_ns, out_ns, piece = next(pieces)
            held += len(piece)
        yield int(token[1]), in_ns, out_ns


def main(arguments: Sequence[str]) -> None:
    """Relay until SIGTERM, then print the stamps."""
    host, port = arguments
    proxy = TappedProxy((host, int(port)))
    run(serve(proxy, lambda address: print_line({"url": f"http://{address[0]}:{address[1]}"})))
    print_line({"tokens": proxy.tokens()})


if __name__ == "__main__":
    main(sys.argv[1:])
