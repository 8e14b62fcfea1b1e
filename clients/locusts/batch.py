"""What a worker tells the master every second, as bytes: the messages that are over, and how the worker itself is."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from clients.core.record import Outcome, StreamRecord

MAX_TOKENS = 50_000  # in one batch: some 2 MB
_COLUMNS = ("i", "due_ns", "sent_ns", "received_ns", "read")
_TIMES = ("intended_start_ns", "start_ns", "first_token_ns", "end_ns")


@dataclass
class Health:
    """How a worker was between two moments of its own clock (ns). `loop_lags_ns`: how late its event loop was."""

    from_ns: int
    until_ns: int
    cpu_s: float
    loop_lags_ns: list[int] = field(default_factory=list)


@dataclass
class Batch:
    """One message to the master. `messages` are records packed by `pack`; `counters` count since the test began.

    `epoch_ns` is the wall clock minus the monotonic one: it tells whether two workers share a clock.
    """

    worker: str
    epoch_ns: int
    messages: list[tuple[str, msgspec.Raw]]
    counters: dict[str, dict[str, int]]
    health: Health | None = None
    clock_offsets_ns: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def encode(self) -> bytes:
        """The batch as bytes."""
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Batch:
        """Read a batch. Raises ValueError."""
        return _decode_batch(data)


_encode = msgspec.msgpack.Encoder(enc_hook=array.tobytes).encode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode


def pack(record: StreamRecord) -> msgspec.Raw:
    """A record as bytes, about 40 a token: quick, since it is done where others are being measured."""
    return msgspec.Raw(_encode(record))


def unpack(data: bytes | msgspec.Raw, shift_ns: int = 0) -> StreamRecord:
    """The record that was packed, its times moved by `shift_ns`. Raises ValueError."""
    fields: dict[str, Any] = msgspec.msgpack.decode(data)
    for name in _COLUMNS:
        column = array("q")
        column.frombytes(fields[name])
        fields[name] = column
    fields["outcome"] = Outcome(fields["outcome"])
    fields["drops_at_ns"] = [(begun_ns + shift_ns, at_ns + shift_ns) for begun_ns, at_ns in fields["drops_at_ns"]]
    if shift_ns:
        fields |= {name: fields[name] and fields[name] + shift_ns for name in _TIMES}
        for name in ("due_ns", "sent_ns", "received_ns"):
            fields[name] = array("q", [value + shift_ns for value in fields[name]])
        fields["requests_at_ns"] = [at_ns + shift_ns for at_ns in fields["requests_at_ns"]]
    return StreamRecord(**fields)


def portions(records: Iterable[tuple[str, StreamRecord]]) -> Iterator[list[tuple[str, msgspec.Raw]]]:
    """Records, packed, in lists of at most MAX_TOKENS tokens (or a single record)."""
    portion: list[tuple[str, msgspec.Raw]] = []
    tokens = 0
    for transport, record in records:
        if portion and tokens + len(record.i) > MAX_TOKENS:
            yield portion
            portion, tokens = [], 0
        portion.append((transport, pack(record)))
        tokens += len(record.i)
    if portion:
        yield portion
