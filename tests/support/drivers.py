"""Users of both drivers behind one face, for tests that are coroutines: gevent's runs in a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, cast

import gevent

from clients.core.exchange import Question
from clients.core.record import StreamRecord
from clients.core.session import Script, Session
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from clients.drivers.gev import GeventClient

_LOOK_S = 0.002  # how often the thread looks whether there is something to do


class AsyncUser(Protocol):
    """What a test needs of a user."""

    session: Session

    async def ask(self, question: Question) -> StreamRecord: ...

    async def run(self, script: Script[Any]) -> Any: ...

    async def close(self) -> None: ...


class GeventInThread:
    """A gevent user whose hub runs all the time, as under Locust: it reads between messages too."""

    def __init__(self, transport: str, settings: ClientSettings) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._client = GeventClient(transport, settings)
        self.session = self._client.session
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                gevent.sleep(_LOOK_S)
                continue
            if call is None:
                gevent.get_hub().destroy()
                return
            try:
                call[1].set_result(call[0]())
            except Exception as error:
                call[1].set_exception(error)

    async def _call(self, function: Callable[[], Any]) -> Any:
        future: Future[Any] = Future()
        self._calls.put((function, future))
        return await asyncio.wrap_future(future)

    async def ask(self, question: Question) -> StreamRecord:
        """As AioClient's."""
        return cast(StreamRecord, await self._call(lambda: self._client.ask(question)))

    async def run(self, script: Script[Any]) -> Any:
        """As AioClient's."""
        return await self._call(lambda: self._client.run(script))

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self._call(self._client.close)
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)


DRIVERS: dict[str, Callable[[str, ClientSettings], AsyncUser]] = {"asyncio": AioClient, "gevent": GeventInThread}
