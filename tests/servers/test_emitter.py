"""The clock and the answers: due times kept, readers woken, memory freed."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Callable

import pytest

from servers.alarm import Alarm, _LoopTimer, alarm
from servers.emitter import Emitter
from servers.generation import Busy, Generation, Generations
from servers.messages import EndMessage, JsonTexts, TokenMessage, decode
from servers.stream import Schedule

MS = 1_000_000


@pytest.fixture
async def emitter() -> AsyncIterator[Emitter]:
    clock = Emitter()
    yield clock
    clock.close()


class Recorder:
    """A reader that notes how much had been produced at each wake-up."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.produced: list[int] = []

    def wake(self) -> None:
        self.produced.append(self.generation.produced)


def schedule(*due_ms: float) -> Schedule:
    return Schedule(tuple(f" {k}" for k in range(len(due_ms))), array("q", [round(ms * MS) for ms in due_ms]))


def generation(planned: Schedule, start_ns: int = 0) -> Generation:
    return Generation("s", planned, start_ns, lambda _: None, JsonTexts())


# ---- pure: time is an argument


def test_emit_produces_what_is_due_and_tells_the_next_time() -> None:
    answer = generation(schedule(10, 10, 20, 50), start_ns=1000 * MS)
    reader = Recorder(answer)
    answer.subscribe(reader)
    assert answer.emit(1010 * MS) == 1020 * MS
    assert (answer.emit(1020 * MS - 1), answer.ended) == (1020 * MS, False)
    assert (answer.emit(1060 * MS), answer.ended) == (None, True)
    assert reader.produced == [2, 2, 4]


def test_a_reader_may_start_anywhere_and_several_may_read() -> None:
    answer = generation(schedule(1, 2, 3))
    answer.emit(10 * MS)
    message = decode(answer.token(2, 77))
    assert message == TokenMessage(2, " 2", 3 * MS, 77)
    assert decode(answer.end()) == EndMessage(True, 3, answer.schedule.sha256)


def test_an_unsubscribed_reader_is_left_alone() -> None:
    answer = generation(schedule(1, 2))
    reader = Recorder(answer)
    answer.subscribe(reader)
    answer.unsubscribe(reader)
    answer.unsubscribe(reader)
    answer.emit(5 * MS)
    assert reader.produced == []


# ---- the real clock


@pytest.mark.parametrize("kind", [alarm, lambda ring: _LoopTimer(asyncio.get_running_loop(), ring)])
async def test_the_alarm_rings_after_its_time_and_never_before(kind: Callable[[Callable[[], object]], Alarm]) -> None:
    rung = asyncio.get_running_loop().create_future()
    clock = kind(lambda: rung.set_result(time.monotonic_ns()))
    clock.set(time.monotonic_ns() + 10_000 * MS)
    deadline = time.monotonic_ns() + 20 * MS
    clock.set(deadline)  # the later setting counts
    assert deadline <= await asyncio.wait_for(rung, 5)
    clock.close()
    clock.close()


async def test_an_alarm_of_a_loop_that_rounds_down_rings_no_earlier() -> None:
    class EarlyLoop:
        """Calls back after half of the time."""

        def call_later(self, delay_s: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
            return asyncio.get_running_loop().call_later(delay_s / 2, callback)

    rung = asyncio.get_running_loop().create_future()
    clock = _LoopTimer(EarlyLoop(), lambda: rung.set_result(time.monotonic_ns()))  # type: ignore[arg-type] # all of one
    clock.set(deadline := time.monotonic_ns() + 20 * MS)
    assert deadline <= await asyncio.wait_for(rung, 5)


async def test_an_alarm_set_to_the_past_rings_at_once() -> None:
    rung = asyncio.Event()
    clock = alarm(rung.set)
    clock.set(0)
    await asyncio.wait_for(rung.wait(), 5)
    clock.close()


async def test_many_answers_are_emitted_in_due_order(emitter: Emitter) -> None:
    answers = Generations(emitter, keep_s=60)
    ticks: list[int] = []
    emitter.after_tick(lambda: ticks.append(1))
    started = [answers.start(schedule(*range(k, 60, 7))) for k in range(1, 40)]
    assert answers.active == 39
    while not all(answer.ended for answer in started):
        await asyncio.sleep(0.01)
    assert answers.active == 0
    assert all(answer.produced == answer.schedule.n for answer in started)
    assert all((answer.ended_ns or 0) >= answer.start_ns + answer.schedule.duration_ns for answer in started)
    p99_us, most_us = emitter.lags.us_since()
    assert 0 < p99_us <= most_us < 1_000_000
    assert emitter.lags.us_since(time.monotonic_ns()) == (0, 0)
    assert ticks


async def test_a_later_start_with_an_earlier_due_time_comes_first(emitter: Emitter) -> None:
    answers = Generations(emitter, keep_s=60)
    answers.start(schedule(5_000))
    soon = answers.start(schedule(5))
    async with asyncio.timeout(2):
        while not soon.ended:
            await asyncio.sleep(0.005)


async def test_answers_are_forgotten_after_their_time(emitter: Emitter) -> None:
    answers = Generations(emitter, keep_s=0.1)
    answer = answers.start(schedule(1), "mine")
    assert answers.get("mine") is answer
    await asyncio.sleep(0.3)
    assert answers.get("mine") is None
    assert answers.ids() == []
    assert answers.started == 1


async def test_the_number_of_answers_is_bounded(emitter: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.generation.MAX_ACTIVE", 3)
    answers = Generations(emitter, keep_s=60)
    for _ in range(3):
        answers.start(schedule(10_000))
    with pytest.raises(Busy):
        answers.start(schedule(1))
