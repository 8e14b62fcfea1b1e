"""Locust's stock user as its users write it: a streamed POST, read line by line.

The environment says REFEREE_MODEL, REFEREE_REQUESTS (in all) and REFEREE_OUT, which gets a line per whole answer: its
time to first token in ms.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

from locust import HttpUser, events, task

MODEL, REQUESTS = os.environ["REFEREE_MODEL"], int(os.environ["REFEREE_REQUESTS"])
_numbers = itertools.count()
_found: list[float | None] = []  # a time for each whole answer, in ms


class Reader(HttpUser):
    """Asks again when it has its answer."""

    @task
    def ask(self) -> None:
        """One answer."""
        number = next(_numbers)
        if number >= REQUESTS:
            self.stop()
            return
        try:
            _found.append(self._answer(number))
        finally:
            if len(_found) == REQUESTS:
                self.environment.runner.quit()

    def _answer(self, number: int) -> float | None:
        began = time.perf_counter()
        first: float | None = None
        is_whole = False
        body = {"model": MODEL, "messages": [{"role": "user", "content": f"question {number}"}], "stream": True}
        response = self.client.post("/v1/chat/completions", json=body, stream=True)
        for line in response.iter_lines():
            if first is None and b'"content":"word"' in line:
                first = time.perf_counter() - began
            is_whole = is_whole or line == b"data: [DONE]"
        return 1000 * first if first is not None and is_whole else None


def _write(**_: Any) -> None:
    Path(os.environ["REFEREE_OUT"]).write_text("".join(f"{ms}\n" for ms in _found if ms is not None))


events.quitting.add_listener(_write)  # type: ignore[no-untyped-call]
