"""`--source http://HOST:PORT`: the answers of another Tokenderby server on this machine, which sends them chunked.

The question goes on with its stream id, and each token keeps the moment when it was due there. So one answer of a model
that never answers twice alike serves the readers of every transport: the server of one has the source, and those of the
others have that server.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import aiohttp

from servers.checks import http_address
from servers.chunked.wire import CONTENT_TYPE, Decoder
from servers.generation import Failure
from servers.messages import AnswerFailed, EndMessage, ProtocolError, TokenMessage, decode_error
from servers.retry_after import retry_after_s
from servers.source import SourceError, failed
from servers.upstream import Upstream
from servers.user_errors import InputError

CONNECT_S = 10.0
_MOST_ERROR_BYTES = 65_536
_BAD_GATEWAY = 502


@dataclass
class RelayedServer:
    """A chunked server that answers; `token` is what it asks for."""

    url: str
    token: str | None = field(default=None, repr=False)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._upstream = Upstream({"Authorization": f"Bearer {self.token}"} if self.token else {}, CONNECT_S)

    @classmethod
    def of(cls, url: str, token: str | None) -> RelayedServer:
        """The server at `url`. Raises InputError."""
        parts = http_address(url)
        if parts is None or "@" in parts.netloc or parts.query or parts.fragment:
            raise InputError("--source: takes an address such as http://127.0.0.1:8001; a password is no part of it")
        return cls(url.rstrip("/"), token)

    async def tokens(self, message: str, stream_id: str) -> AsyncGenerator[TokenMessage | str, None]:
        """The tokens of the answer of that id, from its start; "" shows that something came. Raises SourceError."""
        decoder, held, end = Decoder(), 0, None
        question = {"message": message, "stream_id": stream_id}
        try:
            async with self._upstream.asked(f"{self.url}/chat", question) as response:
                await _check(response)
                async for data in response.content.iter_any():
                    yield ""
                    for found in decoder.feed(data):
                        if isinstance(found, EndMessage):
                            end = found
                            break
                        held += 1
                        yield found
                    if end is not None:
                        break
        except AnswerFailed as error:
            raise SourceError(Failure(_BAD_GATEWAY, error.error.code, error.error.message)) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ProtocolError) as error:
            raise failed(f"the server there does not answer as it should ({type(error).__name__})") from error
        if end is None or end.n != held:
            raise failed("the server there ended its answer too early")

    async def close(self) -> None:
        """Close the connections."""
        await self._upstream.close()


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise SourceError for what is no chunked answer."""
    if response.status == 200 and response.content_type == CONTENT_TYPE:
        return
    if response.status == 200:
        raise failed(f"the server there sends {response.content_type}; it has to be a chunked one")
    error = decode_error(await response.content.read(_MOST_ERROR_BYTES))
    if error is None:
        raise failed(f"the server there answers {response.status}")
    wish_s = retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"))
    raise SourceError(Failure(response.status, error.code, error.message, wish_s))
