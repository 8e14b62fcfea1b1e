"""`--source openai`: the answers of an OpenAI-compatible endpoint, which the environment names.

OPENAI_BASE_URL (default OpenAI's own), OPENAI_API_KEY, OPENAI_MODEL, and TOKENDERBY_OPENAI_API: `chat` (default) or
`responses`. The key goes to that address alone: redirects are not followed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import cast, get_args

import aiohttp
import msgspec

from servers.checks import http_address
from servers.generation import Failure
from servers.messages import NOT_JSON, ProtocolError
from servers.openai_events import AnswerReader, Api, EndpointError, word_of_error
from servers.retry_after import retry_after_s
from servers.source import SourceError
from servers.upstream import Upstream
from servers.user_errors import InputError

DEFAULT_URL = "https://api.openai.com/v1"
CONNECT_S = 30.0
_MOST_ERROR_BYTES = 65_536
_BUSY = (429, 503)
_NO_STREAMS = {"application/json": "JSON", "text/html": "a page"}
_PATHS: dict[Api, str] = {"chat": "/chat/completions", "responses": "/responses"}


@dataclass
class ModelEndpoint:
    """An endpoint that answers; its connections are kept and used again."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    api: Api = "chat"
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        headers = {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        self._upstream = Upstream(headers, CONNECT_S)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> ModelEndpoint:
        """The one that the environment names. Raises InputError, which never repeats the key."""
        url = (environment.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
        if http_address(url) is None:
            raise InputError("--source openai: OPENAI_BASE_URL takes an address such as http://127.0.0.1:8000/v1")
        model = environment.get("OPENAI_MODEL")
        if not model:
            raise InputError("--source openai: OPENAI_MODEL has to name the endpoint's model")
        key = environment.get("OPENAI_API_KEY") or None
        if key and not (key.isascii() and key.isprintable()):
            raise InputError("--source openai: OPENAI_API_KEY takes printable ASCII")
        api = environment.get("TOKENDERBY_OPENAI_API") or "chat"
        if api not in get_args(Api):
            raise InputError(f"--source openai: TOKENDERBY_OPENAI_API takes {' or '.join(get_args(Api))}")
        return cls(url, model, key, cast(Api, api))

    async def tokens(self, message: str) -> AsyncGenerator[str, None]:
        """The texts of an answer, as they come; an empty one shows that something came. Raises SourceError."""
        reader = AnswerReader(self.api)
        try:
            async with self._upstream.asked(self.url + _PATHS[self.api], self._body(message)) as response:
                await _check(response)
                async for data in response.content.iter_any():
                    yield ""
                    for text in reader.feed(data):
                        yield text
                    if reader.is_over:
                        return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failed(f"the connection failed ({type(error).__name__})") from error
        except (EndpointError, ProtocolError) as error:
            raise _failed(str(error)) from error
        if not reader.is_over:
            raise _failed("its stream ended before its answer did")

    async def close(self) -> None:
        """Close the connections."""
        await self._upstream.close()

    def _body(self, message: str) -> dict[str, object]:
        if self.api == "responses":
            return {"model": self.model, "input": message, "stream": True}
        return {"model": self.model, "messages": [{"role": "user", "content": message}], "stream": True}


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise SourceError for what is no stream."""
    if response.status == 200 and response.content_type not in _NO_STREAMS:
        return
    try:
        body = await response.content.read(_MOST_ERROR_BYTES)
    except aiohttp.ClientError:
        body = b""  # it is cut off, and the status says what matters
    word = word_of_error(_object(body)).removesuffix(f" ({response.status})")  # a code that only repeats the status
    if response.status in _BUSY:
        why = f"the endpoint answers {response.status}{word}"
        wish_s = retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"))
        raise SourceError(Failure(response.status, "source_busy", why, wish_s))
    if response.status == 200:
        raise _failed(f"it answers with {_NO_STREAMS[response.content_type]}{word} where a stream belongs")
    raise _failed(f"it answers {response.status}{word}")


def _object(body: bytes) -> dict[str, object]:
    try:
        found = msgspec.json.decode(body)
    except NOT_JSON:
        return {}
    return found if isinstance(found, dict) else {}


def _failed(why: str) -> SourceError:
    return SourceError(Failure(502, "source_failed", f"the endpoint failed: {why}"))
