"""A question of tests, and the answer that its schedule promises."""

from __future__ import annotations

import time
from typing import Any

from support.feeding import schedule_of

from clients.core.exchange import Question
from servers.stream import Schedule

ANSWER = schedule_of("Hello", " the", "\n\n", "", " é\u2028", " end")


def question(answer: Schedule = ANSWER, **given: Any) -> Question:
    """A question asked now, whose answer should be `answer`."""
    settings: dict[str, Any] = {"stream_id": "s", "seed": 7, "timeout_s": 5.0, "stream": None} | given
    return Question(schedule=answer, intended_start_ns=time.monotonic_ns(), **settings)
