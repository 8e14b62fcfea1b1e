"""The load that one Locust process makes in one test: questions to ask, records to pass on, an orderly end."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count

import gevent
import msgspec
from gevent.event import Event

from clients.core.clock import Account, account_of
from clients.core.exchange import Question
from clients.core.record import StreamRecord
from clients.drivers.gev import GeventClient
from clients.lateness import to_our_clock
from clients.locusts.batch import Batch, Health, portions
from clients.locusts.options import Options
from servers.lags import BEAT_NS, KEPT_LAGS, beats_missed
from servers.stream import StreamSpec, build, message_seed

_REPORT_S = 1.0


class WorkerLoad:
    """Begins with the test; `finish` lets messages under way go on for a while and passes on what is left.

    `worker` is the process's number in the test, `send` takes each encoded Batch.
    """

    def __init__(self, options: Options, worker: int, send: Callable[[bytes], object]) -> None:
        self.options = options
        self.closing = False
        self.cut = 0  # messages that were stopped before their end
        self._worker = worker
        self._send = send
        self._token = os.urandom(4).hex()
        self._numbers = count()
        self._spec = StreamSpec.parse(options.stream)
        build(self._spec, 0)  # reads the texts, which takes longer than a token may be late
        self._over: list[tuple[str, StreamRecord]] = []
        self._counters: dict[str, Counter[str]] = {name: Counter() for name in options.urls}
        self._active = 0
        self._idle = Event()
        self._idle.set()
        self._finished: Event | None = None
        self._accounts = {name: _account(name, options) for name in options.urls}
        self._offsets_ns = {name: account.offset_ns for name, account in self._accounts.items()}
        self._notes = [note for account in self._accounts.values() for note in account.notes]
        self._health = Health(time.monotonic_ns(), 0, 0.0)
        self._cpu_s = time.process_time()
        gc.collect()
        gc.freeze()  # what exists now stays; looking through it again would stop all users
        self._greenlets = [gevent.spawn(self._report), gevent.spawn(self._probe)]

    def question(self, transport: str, intended_start_ns: int) -> Question:
        """The next message of a user of `transport`."""
        options, k = self.options, next(self._numbers)
        seed = message_seed(options.seed, self._worker, k)
        schedule = build(self._spec, seed)
        schedule.sha256  # noqa: B018  # computed and kept now, not while others are being measured
        return Question(
            f"locust-{transport}-{self._token}-{k:06d}",
            seed,
            dict(options.stream),
            schedule,
            intended_start_ns,
            timeout_s=options.timeout_s,
            is_told=bool(self._accounts[transport].source),
        )

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Around one message: an orderly end waits for it."""
        self._active += 1
        self._idle.clear()
        try:
            yield
        except gevent.GreenletExit:
            self.cut += 1  # not the transport's fault, so not a failure; but it must not be forgotten
            raise
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    def add(self, transport: str, record: StreamRecord) -> None:
        """A message is over."""
        to_our_clock([record], self._offsets_ns[transport])
        counter = self._counters[transport]
        counter["messages"] += 1
        counter["requests"] += record.requests
        counter["tokens"] += record.tokens_received
        self._over.append((transport, record))

    def finish(self) -> int:
        """End in order: no new messages, wait for those under way, pass the rest on. How many had to be cut."""
        if self._finished is not None:
            self._finished.wait()
            return self.cut
        self._finished = Event()
        self.closing = True
        self._idle.wait(self.options.finish_s)
        gevent.killall(self._greenlets)
        self._flush()
        gc.unfreeze()
        self._finished.set()
        return self.cut + self._active

    def _report(self) -> None:
        while True:
            gevent.sleep(_REPORT_S)
            self._flush()

    def _flush(self) -> None:
        over, self._over = self._over, []
        *full, last = [*portions(over)] or [[]]
        for messages in full:
            self._pass_on(messages, None)
        self._pass_on(last, self._checked())

    def _pass_on(self, messages: list[tuple[str, msgspec.Raw]], health: Health | None) -> None:
        counters = {name: dict(counter) for name, counter in self._counters.items()}
        epoch_ns = time.time_ns() - time.monotonic_ns()
        batch = Batch(str(self._worker), epoch_ns, messages, counters, health, self._offsets_ns, self._notes)
        self._send(batch.encode())

    def _checked(self) -> Health:
        """How this process was since the last time."""
        health, self._health = self._health, Health(time.monotonic_ns(), 0, 0.0)
        health.until_ns, cpu_s = self._health.from_ns, time.process_time()
        health.cpu_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        return health

    def _probe(self) -> None:
        """How late the event loop is when it has something to do at a known moment."""
        due_ns = time.monotonic_ns() + BEAT_NS
        while True:
            gevent.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            lags_ns = beats_missed(time.monotonic_ns() - due_ns, BEAT_NS)
            self._health.loop_lags_ns.extend(lags_ns[-KEPT_LAGS:])
            due_ns += len(lags_ns) * BEAT_NS


def _account(transport: str, options: Options) -> Account:
    with closing(GeventClient(transport, options.settings(transport))) as client:
        return client.run(account_of(client.session))
