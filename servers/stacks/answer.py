"""What all stacks share: an answer as an async iterator of due messages, and a request's body within bounds.

This is what a provider's SDK gives to the code of a web application. Each stack hands the messages on one by one, as
its users do, so the stream, the stamps and the judgement are those of our own servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic_ns
from typing import NamedTuple

from servers.body import too_large, unpacked
from servers.chat import ChatRequest, RequestError, open_answer
from servers.chunked import wire as chunked_wire
from servers.generation import Generation
from servers.http import BODY_TIMEOUT_S
from servers.service import MAX_REQUEST_BYTES, Service
from servers.sse import wire as sse_wire
from servers.websocket.protocol import INVALID_DATA, POLICY_VIOLATION

# Too large a body is read on until here: a server that closes the connection before takes the refusal along.
READ_ON_BYTES = 2 * MAX_REQUEST_BYTES
PROBE_HEADERS = {"Cache-Control": "no-store"}  # behind a cache the clock would stand still


class EncodedMessage(NamedTuple):
    """An encoded message and, of a token, its index; the last one has none: the end, or the error that it failed by."""

    data: bytes
    i: int | None = None
    is_error: bool = False


async def encoded_messages(
    service: Service, generation: Generation, first: int, *, stops: bool = True
) -> AsyncIterator[EncodedMessage]:
    """The tokens from `first` on, each as it falls due, then the end; less if the server stops before, and it `stops`.

    Whoever closes or drops this before its end is noted in `/stats`, with when.
    """
    reader, is_whole = _Reader(), False
    generation.subscribe(reader)
    try:
        with service.answering(reader, generation.stream_id) if stops else service.spans.of(generation.stream_id):
            async for message in _messages(service, generation, first, reader):
                is_whole = message.i is None
                yield message
    finally:
        generation.unsubscribe(reader)
        if not is_whole:
            _note_left(service.stats.extra)


def _note_left(extra: dict[str, object]) -> None:
    count = extra.get("streams_left", 0)
    assert isinstance(count, int)
    extra |= {"streams_left": count + 1, "left_ns": monotonic_ns()}


async def _messages(service: Service, generation: Generation, i: int, reader: _Reader) -> AsyncIterator[EncodedMessage]:
    while not (generation.ended and i >= generation.n):
        if i >= generation.produced:
            if reader.is_stopped:
                return
            await reader.more()
            continue
        service.stats.note_sent(1)
        yield EncodedMessage(generation.token(i, monotonic_ns()), i)
        i += 1
    yield EncodedMessage(generation.end(), is_error=generation.failure is not None)
    if generation.failure is None:
        service.note_delivered(generation)


class _Reader:
    """Waits for an answer's next token (servers.generation.Reader), or for the server's stop."""

    def __init__(self) -> None:
        self.is_stopped = False
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """There is more."""
        self._changed.set()

    def stop(self) -> None:
        """Wait no longer (servers.service.Stoppable)."""
        self.is_stopped = True
        self._changed.set()

    async def more(self) -> None:
        """Return when there may be more, or when there will be none."""
        await self._changed.wait()
        self._changed.clear()


async def encoded_events(
    service: Service, generation: Generation, first: int, *, stops: bool = True
) -> AsyncIterator[bytes]:
    """The answer as Server-Sent Events, message by message."""
    yield sse_wire.encode_retry()
    async for message in encoded_messages(service, generation, first, stops=stops):
        yield event(generation.stream_id, message)


def event(stream_id: str, message: EncodedMessage) -> bytes:
    """A message as a Server-Sent Event."""
    if message.i is not None:
        return sse_wire.encode_token(stream_id.encode("ascii"), message.i, message.data)
    return sse_wire.encode_failure(message.data) if message.is_error else sse_wire.encode_end(message.data)


async def encoded_lines(service: Service, generation: Generation, first: int) -> AsyncIterator[bytes]:
    """The answer as JSON lines, message by message."""
    async for message in encoded_messages(service, generation, first):
        yield chunked_wire.encode_token(message.data)


async def unpacked_body(pieces: AsyncIterator[bytes], encoding: str) -> bytes:
    """A body, unpacked. Raises RequestError if it is too large, late, or not packed as `encoding` says."""
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in pieces:
                size += len(piece)
                if size <= MAX_REQUEST_BYTES:
                    body += piece
                elif size > READ_ON_BYTES:
                    break
    except TimeoutError:
        raise RequestError(408, "body_timeout", f"the body did not come within {BODY_TIMEOUT_S:g} s") from None
    if size > MAX_REQUEST_BYTES:
        raise too_large()
    return unpacked(bytes(body), encoding)


def open_frame(service: Service, frame: str | bytes | None) -> tuple[Generation, int]:
    """The answer that a WebSocket's message asks for, and the first index. Raises RequestError."""
    service.stats.requests += 1
    if not isinstance(frame, str):
        raise RequestError(400, "bad_request", "a chat request is a text frame")
    if len(frame.encode("utf-8", "surrogatepass")) > MAX_REQUEST_BYTES:
        raise RequestError(413, "too_large", f"a request may have {MAX_REQUEST_BYTES} bytes")
    chat = ChatRequest.parse(frame)
    return open_answer(service.generations, chat), chat.first


def close_code(error: RequestError) -> int:
    """With which code a WebSocket is closed whose request was refused."""
    return INVALID_DATA if error.code == "bad_json" else POLICY_VIOLATION
