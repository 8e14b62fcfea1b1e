"""The connections of a source to the server that answers it.

An answer is over when its end message says so, a moment before its response is: what comes behind (the usage, a
sentinel, the last chunk's mark) is still read, without anybody waiting for it, since only then can the connection
serve the next question. Otherwise each answer would begin with a connection of its own, and a TLS handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import aiohttp

_REST_S = 2.0
_IDLE_S = 4.0  # uvicorn and Node close after 5 s, and a question that crosses with that is lost
_MOST_REST_BYTES = 65_536


class Upstream:
    """Asks questions, each by a POST with these headers. Redirects are not followed: the headers have the key."""

    def __init__(self, headers: Mapping[str, str], connect_s: float) -> None:
        self._headers, self._connect_s = headers, connect_s
        self._http: aiohttp.ClientSession | None = None
        self._finishing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def asked(self, url: str, question: object) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response, read as far as one likes. Raises aiohttp.ClientError, TimeoutError or OSError."""
        response = await self._session().post(url, json=question, allow_redirects=False)
        try:
            yield response
        except BaseException:
            response.release()
            raise
        task = asyncio.create_task(_read_rest(response))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        task.add_done_callback(lambda _: response.release())  # here, since a task may be cancelled before it begins

    async def close(self) -> None:
        """Close the connections."""
        for task in self._finishing:
            task.cancel()
        await asyncio.gather(*self._finishing, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
            )
        return self._http


async def _read_rest(response: aiohttp.ClientResponse) -> None:
    """Read what little is left; a response that does not end then loses its connection."""
    size = 0
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(_REST_S):
            async for data in response.content.iter_any():
                size += len(data)
                if size > _MOST_REST_BYTES:
                    break
