"""The quick way of reading frames against websockets' own parser: the same messages, whatever the bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.scripted import frame
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from clients.core.websocket_connection import plain_messages
from servers.websocket.wire import encode_frame

PAYLOADS = st.one_of(st.binary(max_size=300), st.integers(0, 70_000).map(lambda size: b"x" * size))


def exactly(data: bytes) -> list[bytes] | None:
    """What websockets makes of it: its text messages, or None if there is anything else."""
    protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
    protocol.receive_data(data)
    events = protocol.events_received()
    frames = [event for event in events if isinstance(event, Frame)]
    whole = sum(len(encode_frame(bytes(f.data))) for f in frames) == len(data)
    plain = all(f.opcode is Opcode.TEXT and f.fin for f in frames) and not protocol.close_expected()
    return [bytes(f.data) for f in frames] if whole and plain else None


@given(st.lists(PAYLOADS, max_size=5))
def test_whole_text_frames(payloads: list[bytes]) -> None:
    data = b"".join(map(encode_frame, payloads))
    if all(len(payload) < 65_536 for payload in payloads):
        assert plain_messages(data) == payloads == exactly(data)
    else:
        assert plain_messages(data) is None


@given(st.lists(PAYLOADS, min_size=1, max_size=3), st.data())
def test_whatever_it_reads_is_what_websockets_reads(payloads: list[bytes], draw: st.DataObject) -> None:
    """Cut anywhere, with any byte changed."""
    data = bytearray(b"".join(map(encode_frame, payloads)))
    if data:
        at = draw.draw(st.integers(0, min(len(data) - 1, 8)))
        data[at] = draw.draw(st.integers(0, 255))
    cut = bytes(data[: draw.draw(st.integers(0, len(data)))])
    found = plain_messages(cut)
    assert found is None or found == (exactly(cut) or [])


def test_other_frames_are_none() -> None:
    cut = (b"\x81", b"\x81\x7e\x00")
    odd = (b"\xc1\x00", b"\x81\x7e\x00\x01x")  # a reserved bit; a length said in a longer way than needed
    for other in (frame(b"x", 2), frame(b"", 9), frame(b"x", fin=False), *cut, *odd):
        assert plain_messages(other) is None
        assert plain_messages(frame(b"ok") + other) is None
    assert plain_messages(b"") == []
