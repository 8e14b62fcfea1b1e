"""OpenAI's chat completions on the wire: a request read, and the chunks or the document that answer it (pure).

    data: {"id":"chatcmpl-s1","object":"chat.completion.chunk",…,"choices":[{"index":0,"delta":{"content":"Hi"},…}]}

    data: [DONE]

The first chunk has the role, then comes one per token, then one with the reason for the end, then, if asked for, the
usage. The fields are those of OpenAI's API reference (chat, streaming); what this server cannot know has their null.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from servers.messages import MAX_TOKENS
from servers.stream import StreamSpec

DONE = b"data: [DONE]\n\n"
MAX_MESSAGES = 2048
OWNER = "tokenderby"
_VALIDATION = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_PARAMETER = re.compile(r"([a-z_]+(?:\[[0-9]+\]|\.[a-z_]+)*): ")

Role = Literal["developer", "system", "user", "assistant", "tool", "function"]


class Part(msgspec.Struct, frozen=True):
    """A piece of a message's content. Only text is read."""

    type: Literal["text", "refusal", "image_url", "input_audio", "file"]
    text: str = ""


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: Role
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream has beside its tokens."""

    include_usage: bool | None = None


MaxTokens = Annotated[int, Meta(ge=1, le=2**31)]


class CompletionRequest(msgspec.Struct, frozen=True):
    """The keys of a request that mean something here; all others are passed over, as a simulated model has no use for
    a temperature. `ignore_eos` is vLLM's: the answer has exactly `max_tokens` tokens."""

    model: str
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    ignore_eos: bool | None = None

    @classmethod
    def parse(cls, value: object) -> CompletionRequest:
        """Check a decoded body. Raises ValueError, whose text begins with the parameter that is wrong."""
        try:
            request = msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise ValueError(_complaint(str(error))) from None
        if request.stream_options is not None and not request.stream:
            raise ValueError("stream_options: is only allowed with `stream`: true")
        if request.ignore_eos and (request.limit or 0) > MAX_TOKENS:  # without it, an answer ends before that by itself
            key = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
            raise ValueError(f"{key}: takes a number from 1 to {MAX_TOKENS} with `ignore_eos`, not {request.limit}")
        return request

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer, where the request says so."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether the stream is to end with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def text(self) -> str:
        """All that the messages say, a line each."""
        return "\n".join(message.text for message in self.messages)

    def seed_of_answer(self) -> int:
        """The seed given, or one made of the messages: the same conversation gets the same answer, another another."""
        if self.seed is not None:
            return self.seed % 2**63
        said = json.dumps([(message.role, message.text) for message in self.messages])
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big") >> 11

    def stream_table(self) -> str | dict[str, object]:
        """The `stream` of the chat request that this is (servers.stream.StreamSpec.parse)."""
        return {"profile": self.model, "tokens": self.limit} if self.ignore_eos and self.limit else self.model


def _complaint(text: str) -> str:
    """msgspec's words with the place in front."""
    found = _VALIDATION.fullmatch(text)
    what, where = (found[1], found[2]) if found else (text, "")
    what = what.replace("Object missing required field", "it lacks the field")
    return f"{where or 'the request'}: {what}"


def system_fingerprint(spec: StreamSpec | str) -> str:
    """`system_fingerprint`: the same as long as the model's parameters, or the source's name, are the same."""
    return f"fp_{hashlib.sha256(msgspec.json.encode(spec)).hexdigest()[:10]}"


@dataclass(frozen=True)
class Completion:
    """What every chunk of one answer, or its one document, repeats. `created_s` is Unix time."""

    stream_id: str
    created_s: int
    model: str
    fingerprint: str
    prompt_tokens: int
    most_tokens: int | None = None
    wants_usage: bool = False
    _head: bytes = field(init=False, repr=False)
    _tail: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_head", b"data: %b" % self._opening("chat.completion.chunk"))
        # With the usage asked for, every chunk but the last has a null in its place.
        object.__setattr__(self, "_tail", b',"usage":null}\n\n' if self.wants_usage else b"}\n\n")

    def _opening(self, kind: str) -> bytes:
        fields = {
            "id": f"chatcmpl-{self.stream_id}",
            "object": kind,
            "created": self.created_s,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }
        return msgspec.json.encode(fields)[:-1]

    def role(self) -> bytes:
        """The first chunk. It goes out with the first token: many clients take it for that."""
        return self._chunk(b'{"role":"assistant","content":"","refusal":null}')

    def token(self, json_text: bytes) -> bytes:
        """The chunk of one token; `json_text` is its text as a JSON string."""
        return self._chunk(b'{"content":%b}' % json_text)

    def end(self, tokens: int) -> bytes:
        """The chunks behind the last token, and the sentinel."""
        finish = self.finish(self._finish_reason(tokens))
        usage = b'%b,"choices":[],"usage":%b}\n\n' % (self._head, self._usage(tokens)) if self.wants_usage else b""
        return finish + usage + DONE

    def finish(self, reason: bytes) -> bytes:
        """The chunk that says why the answer ends; `reason` is JSON."""
        return self._chunk(b"{}", reason)

    def _chunk(self, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}' % (delta, finish_reason)
        return b'%b,"choices":[%b]%b' % (self._head, choice, self._tail)

    def document_head(self) -> bytes:
        """An answer without streaming, up to its text; what follows is the tokens' JSON strings without quotes."""
        message = b'{"role":"assistant","refusal":null,"content":"'
        return b'%b,"choices":[{"index":0,"logprobs":null,"message":%b' % (self._opening("chat.completion"), message)

    def document_tail(self, tokens: int) -> bytes:
        """What follows the text."""
        return b'"},"finish_reason":%b}],"usage":%b}' % (self._finish_reason(tokens), self._usage(tokens))

    def _finish_reason(self, tokens: int) -> bytes:
        return b'"length"' if tokens == self.most_tokens else b'"stop"'

    def _usage(self, tokens: int) -> bytes:
        total = self.prompt_tokens + tokens
        return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (self.prompt_tokens, tokens, total)


def error_kind(status: int) -> str:
    """`type` of an error."""
    return "server_error" if status >= 500 else "invalid_request_error"


def encode_openai_failure(status: int, code: str, message: str) -> bytes:
    """The event of an answer that failed in mid-stream; no sentinel follows."""
    return b"data: %b\n\n" % encode_openai_error(status, code, message)


def encode_openai_error(status: int, code: str, message: str) -> bytes:
    """An error in OpenAI's form. `param` is what the message names in front."""
    named = _PARAMETER.match(message)
    error = {"message": message, "type": error_kind(status), "param": named[1] if named else None, "code": code}
    return json.dumps({"error": error}).encode("ascii")


def model(name: str) -> dict[str, Any]:
    """A model as `GET /v1/models/NAME` has it. `created` is the first second of the year its figures are of."""
    return {"id": name, "object": "model", "created": 1_767_225_600, "owned_by": OWNER}


def models(names: Sequence[str]) -> dict[str, Any]:
    """The body of `GET /v1/models`."""
    return {"object": "list", "data": [model(name) for name in names]}
