"""An event loop in a thread of its own, for tests whose own thread is a browser's (Playwright's calls wait)."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

_Entered = TypeVar("_Entered")


class Background:
    """`with Background() as background: proxy = background.enter(Proxy(...))`; all is left again at the end."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def enter(self, manager: AbstractAsyncContextManager[_Entered], timeout_s: float = 10) -> _Entered:
        """Enter it in the loop."""
        return asyncio.run_coroutine_threadsafe(self._stack.enter_async_context(manager), self._loop).result(timeout_s)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(10)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()
