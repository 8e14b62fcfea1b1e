"""The client of an OpenAI-compatible endpoint: a POST, and the chunks of a chat completion.

A piece of text is a token here, however many of the model's own it has. Nobody says when the model made it, so `due`
and `sent` are unknown; nobody knows the text beforehand, so an answer is whole when the endpoint has said so
(docs/openai.md).
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import msgspec

from clients.core.exchange import Exchange
from clients.core.http1 import Request
from clients.core.http_scripts import stream
from clients.core.record import UNKNOWN_NS
from clients.core.session import Script, Session
from servers.messages import AnswerFailed, EndMessage, ErrorMessage, ProtocolError, TokenMessage
from servers.openai_events import SENTINEL, BrokenOff, EndpointError, piece_of_chat
from servers.sse.event_reader import EventReader, Found, NotPlain
from servers.sse.events import Event
from servers.sse.wire import CONTENT_TYPE

_DEFAULT_BASE = "/v1"  # of a URL without a path


def attempt(session: Session, exchange: Exchange) -> Script[None]:
    """Cannot resume within an answer."""
    exchange.first = 0
    decoder = OpenAIDecoder()
    try:
        yield from stream(session, exchange, _request(session, exchange), decoder, CONTENT_TYPE)
    finally:
        exchange.record.usage_tokens = decoder.usage_tokens


def _request(session: Session, exchange: Exchange) -> Request:
    question, settings = exchange.question, session.settings
    body = {
        "model": settings.model,
        # No two alike: what an endpoint has cached for one question would answer the next.
        "messages": [{"role": "user", "content": f"{question.text} ({question.stream_id}.{exchange.restarts})"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        settings.limit: question.schedule.n,
    }
    path = f"{'' if session.endpoint.base else _DEFAULT_BASE}/chat/completions"
    return Request("POST", path, {"Accept": CONTENT_TYPE}, json.dumps(body).encode())


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta
    index: Literal[0] = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    """A chunk that brings text, and nothing else that counts; so nearly every one."""

    choices: list[_Choice]
    usage: None = None
    error: None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class OpenAIDecoder:
    """Bytes of the stream in, messages out. `usage_tokens`: how many tokens the text has, if the endpoint told."""

    def __init__(self) -> None:
        self.usage_tokens: int | None = None
        self._n = 0
        self._digest = hashlib.sha256()
        self._is_over = False
        self.feed = EventReader(self._quick, self._exact).feed

    def _quick(self, data: bytes, found: Found) -> None:
        """Text alone, by the fields that it has."""
        (choice,) = _decode_chunk(data).choices
        delta = choice.delta
        if choice.finish_reason or delta.refusal is not None or self._is_over:
            raise NotPlain
        if delta.content:
            self._add(delta.content, found)

    def _exact(self, event: Event, found: Found) -> None:
        if event.data.strip() == SENTINEL:
            self._end(found)
            return
        try:
            piece = piece_of_chat(event)
        except BrokenOff as error:
            raise AnswerFailed(ErrorMessage(error.word, str(error))) from None
        except EndpointError as error:
            raise ProtocolError(str(error)) from None
        self.usage_tokens = piece.tokens or self.usage_tokens
        if piece.text and not self._is_over:
            self._add(piece.text, found)
        if piece.is_last:
            self._end(found)

    def _add(self, text: str, found: Found) -> None:
        found.append(TokenMessage(self._n, text, UNKNOWN_NS, UNKNOWN_NS))
        self._n += 1
        self._digest.update(text.encode())

    def _end(self, found: Found) -> None:
        """The endpoint says that its answer is complete; a second time that means nothing."""
        if self._is_over:
            return
        if not self._n:
            raise AnswerFailed(ErrorMessage("no_text", "the answer ended without any text"))
        self._is_over = True
        found.append(EndMessage(True, self._n, self._digest.hexdigest()))
