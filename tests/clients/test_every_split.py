"""The same bytes, however they are split, are the same record: on both drivers, for every scripted answer.

Here the drivers' sockets are fed by hand, so that each read brings exactly what the test wants.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support.answers import Case, every_case

from clients.core.record import StreamRecord
from clients.core.settings import ClientSettings
from clients.drivers import aio, gev

pytestmark = pytest.mark.slow

SETTINGS = ClientSettings("http://127.0.0.1:9", interval_s=0)
CASES = every_case()
_KEY = re.compile(rb"(?i)sec-websocket-key: (\S+)")
# What depends on when and in how many reads the bytes came, and nothing else.
_OF_TIME = (
    "intended_start_ns",
    "start_ns",
    "first_token_ns",
    "end_ns",
    "received_ns",
    "read",
    "head_ms",
    "response_ms",
    "detection_ms",
    "dns_ms",
    "tcp_ms",
    "tls_ms",
    "bytes_in",
    "bytes_out",
    "requests_at_ns",
    "drops_at_ns",
    "tokens_wasted",  # what the model made by then
)
_COMPARED = [field.name for field in fields(StreamRecord) if field.name not in _OF_TIME]


@dataclass
class Script:
    """A case's bytes, answer `number` split at `at`."""

    case: Case
    number: int
    at: int
    asked: int = 0

    def answer(self, request: bytes) -> Iterator[bytes]:
        """What comes after `request`, read by read."""
        answers = self.case.answers
        if not request.startswith((b"POST", b"GET")) and self.case.transport != "websocket":
            raise AssertionError(request)
        if self.asked >= len(answers):
            return
        data = answers[self.asked]
        if (key := _KEY.search(request)) is not None:
            accept = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            data = data.replace(b"%ACCEPT%", base64.b64encode(accept))
        cut = self.at if self.asked == self.number else 0
        self.asked += 1
        yield from filter(None, (data[:cut], data[cut:]))

    @property
    def is_over(self) -> bool:
        """Whether the connection ends now."""
        return self.asked >= len(self.case.answers) and self.case.ending != "hold"


def splits(case: Case) -> Iterator[Script]:
    """Every place at which one of its answers can be split, and not at all."""
    yield Script(case, -1, 0)
    for number, answer in enumerate(case.answers):
        yield from (Script(case, number, at) for at in range(1, len(answer)))


def seen(record: StreamRecord) -> dict[str, Any]:
    """The record without what depends on time."""
    return {name: getattr(record, name) for name in _COMPARED}


class FedTransport(asyncio.Transport):
    """asyncio's side of a connection whose reads the test makes."""

    def __init__(self, script: Script, wire: aio._Wire, metered: socket.socket) -> None:
        super().__init__({"socket": metered})
        self._script, self._wire = script, wire
        self._reads: list[bytes] = []
        self._is_fed = self._is_closed = False

    def write(self, data: Any) -> None:
        self._reads += self._script.answer(bytes(data))
        if not self._is_fed:
            self._is_fed = True
            asyncio.get_running_loop().call_soon(self._feed)

    def get_write_buffer_size(self) -> int:
        return 0

    def _feed(self) -> None:
        while self._reads:
            self._wire.data_received(self._reads.pop(0))
        self._is_fed = False
        if self._script.is_over:
            if self._script.case.ending == "fin":
                self._wire.eof_received()
            self._wire.connection_lost(
                None if self._script.case.ending == "fin" else ConnectionResetError(104, "reset")
            )

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True
        self._reads.clear()


class FedAioClient(aio.AioClient):
    """A user whose connection is fed."""

    script: Script
    metered: socket.socket

    async def _connect(self) -> None:
        wire = aio._Wire(self, self.session.now_ns, self.session.now_ns)
        wire.connection_made(FedTransport(self.script, wire, self.metered))


class FedSocket:
    """gevent's side of a connection whose reads the test makes."""

    def __init__(self, script: Script, metered: socket.socket) -> None:
        self._script = script
        self._reads: list[bytes] = []
        self._news = Event()
        self.family, self.getsockopt = metered.family, metered.getsockopt
        self.setsockopt, self.settimeout = lambda *_: None, lambda _: None
        self._is_closed = False

    def send(self, data: bytes) -> int:
        self._reads += self._script.answer(data)
        self._news.set()
        return len(data)

    def recv(self, _: int) -> bytes:
        while True:
            if self._is_closed:
                raise OSError(9, "closed")
            if self._reads:
                return self._reads.pop(0)
            if self._script.is_over:
                if self._script.case.ending == "rst":
                    raise ConnectionResetError(104, "reset")
                return b""
            self._news.wait()
            self._news.clear()

    def close(self) -> None:
        self._is_closed = True
        self._news.set()


class FedGeventClient(gev.GeventClient):
    """A user whose connection is fed."""

    script: Script
    metered: socket.socket

    def _connect(self) -> None:
        self._connecting, self._wire = None, gev._Wire(self, FedSocket(self.script, self.metered))
        self.session.connected(self.session.now_ns + 1, 0, 1)
        self.obey()


async def _asked_by_aio(scripts: Sequence[Script], metered: socket.socket) -> list[StreamRecord]:
    records = []
    for script in scripts:
        user = FedAioClient(script.case.transport, SETTINGS)
        user.script, user.metered = script, metered
        records.append(await user.ask(script.case.question()))
    return records


async def asked_by_aio(scripts: Sequence[Script], metered: socket.socket) -> list[StreamRecord]:
    """What asyncio's user makes of them."""
    return await _asked_by_aio(scripts, metered)


async def asked_by_gevent(scripts: Sequence[Script], metered: socket.socket) -> list[StreamRecord]:
    """What gevent's user makes of them."""
    records = []
    for script in scripts:
        user = FedGeventClient(script.case.transport, SETTINGS)
        user.script, user.metered = script, metered
        records.append(user.ask(script.case.question()))
        gevent.sleep(0)
    return records


DRIVERS: dict[str, Callable[[Sequence[Script], socket.socket], Awaitable[list[StreamRecord]]]] = {
    "asyncio": asked_by_aio,
    "gevent": asked_by_gevent,
}


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 130
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_every_split_is_the_same_record_on_both_drivers(case: Case) -> None:
    with socket.socket() as metered:
        records = {name: await asked([*splits(case)], metered) for name, asked in DRIVERS.items()}
    whole = records["asyncio"][0]
    found = (whole.outcome, whole.detail.split(":")[0] if case.how else "", whole.tokens_received)
    assert found == (case.outcome, case.how, case.tokens), whole.detail
    wanted = seen(whole)
    for name, of_driver in records.items():
        for script, record in zip(splits(case), of_driver, strict=True):
            assert seen(record) == wanted, f"{name}, answer {script.number} split at {script.at}"
