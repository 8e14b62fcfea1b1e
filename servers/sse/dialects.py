"""What others write around a token on an event stream: dialects of `/chat?dialect=…`, to and from bytes (pure).

    openai      data: {"id":"chatcmpl-s1",…,"choices":[{"index":0,"delta":{"content":" the"},…}],"i": 12, …}
    ai-sdk      data: {"type":"text-delta","id":"0","delta":" the","i": 12, "due": …, "sent": …}
    cumulative  data: {"text":"The answer so far, and the","i": 12, "due": …, "sent": …}

A token's index and stamps stand behind the dialect's own fields, and behind the dialect's own end come our end message
and `[DONE]`: so an answer is judged as in any other form. There are no event ids; who resumes says `from`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from servers import messages
from servers.messages import AnswerFailed, Count, ProtocolError, TokenMessage
from servers.sse.event_reader import EventReader, Found
from servers.sse.events import Event
from servers.sse.openai_wire import Completion

MAX_CUMULATIVE_BYTES = 16_384  # of an answer's text as JSON, since each token brings all of it again
_MODEL = "tokenderby"
_DONE = "[DONE]"


@dataclass(frozen=True)
class Writer:
    """How an answer is written: what opens it, each token (of its encoded token message), and what closes it."""

    opening: bytes
    token: Callable[[bytes], bytes]
    closing: bytes


def writer(dialect: str, stream_id: str, before: Iterable[bytes]) -> Writer:
    """The writer of an answer; `before` are the texts, as JSON strings, of the tokens that this reader has already."""
    return _WRITERS[dialect](stream_id, before)


def _taken_apart(message: bytes) -> tuple[bytes, bytes]:
    """The text of a token message, as a JSON string, and its other fields."""
    index, _, rest = message.partition(b', "t": ')
    text, _, stamps = rest.rpartition(b', "due": ')
    return text, b'%b, "due": %b' % (index[1:], stamps[:-1])


def _openai(stream_id: str, _: Iterable[bytes]) -> Writer:
    completion = Completion(stream_id, 0, _MODEL, "fp_0", 0)

    def token(message: bytes) -> bytes:
        text, rest = _taken_apart(message)
        return b"%b,%b}\n\n" % (completion.token(text).removesuffix(b"}\n\n"), rest)

    return Writer(completion.role(), token, completion.finish(b'"stop"'))


def _ai_sdk(stream_id: str, _: Iterable[bytes]) -> Writer:
    """The AI SDK's UI message stream, version 1."""

    def token(message: bytes) -> bytes:
        return b'data: {"type":"text-delta","id":"0","delta":%b,%b}\n\n' % _taken_apart(message)

    start = b'data: {"type":"start","messageId":"%b"}\n\ndata: {"type":"text-start","id":"0"}\n\n' % stream_id.encode()
    return Writer(start, token, b'data: {"type":"text-end","id":"0"}\n\ndata: {"type":"finish"}\n\n')


def _cumulative(_: str, before: Iterable[bytes]) -> Writer:
    so_far = bytearray().join(text[1:-1] for text in before)

    def token(message: bytes) -> bytes:
        text, rest = _taken_apart(message)
        so_far.extend(text[1:-1])
        return b"".join((b'data: {"text":"', so_far, b'",', rest, b"}\n\n"))

    return Writer(b"", token, b"")


_WRITERS: dict[str, Callable[[str, Iterable[bytes]], Writer]] = {
    "openai": _openai,
    "ai-sdk": _ai_sdk,
    "cumulative": _cumulative,
}
DIALECTS = tuple(_WRITERS)


class _Stamped(msgspec.Struct, gc=False):
    """What stands behind a dialect's own fields."""

    i: Count
    due: Count
    sent: Count


class _Delta(msgspec.Struct, gc=False):
    content: str


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta


class _OpenAI(_Stamped, gc=False):
    choices: list[_Choice]

    @property
    def text(self) -> str:
        return self.choices[0].delta.content if self.choices else ""


class _AiSdk(_Stamped, gc=False):
    text: str = msgspec.field(name="delta")


class _Cumulative(_Stamped, gc=False):
    text: str


_FORMS: dict[str, type[_OpenAI | _AiSdk | _Cumulative]] = {
    "openai": _OpenAI,
    "ai-sdk": _AiSdk,
    "cumulative": _Cumulative,
}


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class DialectDecoder:
    """Bytes of an answer in a dialect in, messages out. `before`: the text of the tokens that came over another."""

    last_event_id = ""
    retry_ms: int | None = None

    def __init__(self, dialect: str, before: str = "") -> None:
        self._decode = msgspec.json.Decoder(_FORMS[dialect]).decode
        self._so_far = before if dialect == "cumulative" else None
        self.feed = EventReader(self._token, self._event).feed

    def _token(self, data: bytes | str, found: Found) -> None:
        token = self._decode(data)
        text = token.text if self._so_far is None else self._news(token.text)
        found.append(TokenMessage(token.i, text, token.due, token.sent))

    def _news(self, text: str) -> str:
        """What `text` has beyond all that came before."""
        before = self._so_far or ""
        if not text.startswith(before):
            raise ProtocolError("an event that does not go on from the one before it")
        self._so_far = text
        return text[len(before) :]

    def _event(self, event: Event, found: Found) -> None:
        if event.type == "end":
            found.append(messages.decode(event.data))
        elif event.type == "error" and (failure := messages.decode_error(event.data)) is not None:
            raise AnswerFailed(failure)
        elif event.type == "message" and event.data != _DONE:
            self._message(event.data, found)

    def _message(self, data: str, found: Found) -> None:
        """A token, or what the dialect itself opens and closes an answer with."""
        try:
            if "i" in _decode_fields(data):
                self._token(data, found)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolError(f"no event of this dialect: {error}") from None
