"""A Locust process's part in Tokenderby: wires Locust's events to the load, the recorder and the live figures.

Who is who: while a test runs, a worker (or a process alone) has a WorkerLoad, the master (or a process alone) a
Recorder.
Workers send batches every second. At the stop the master asks them to finish, waits until every worker that is still
there has said that it is done, and only then lets Locust stop the users; so no record is lost with its user.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from clients.locusts.batch import Batch
from clients.locusts.live import Live
from clients.locusts.options import Options, check_knee, check_token, endpoints_in
from clients.locusts.recorder import Recorder
from clients.locusts.worker_load import WorkerLoad

logger = logging.getLogger("tokenderby")

_BATCH, _FINISH, _DONE = "tokenderby_batch", "tokenderby_finish", "tokenderby_done"
_SPARE_S = 10.0  # workers may take so much longer than their messages to say that they are done
_TICK_S = 1.0


class Coordinator:
    """Everything of one process; `environment.tokenderby` is where users and the knee's shape find it."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.runner = environment.runner
        self.every_class = list(environment.user_classes)
        self._trusted = endpoints_in(vars(environment.parsed_options), environment.host)
        self.load: WorkerLoad | None = None
        self.recorder: Recorder | None = None
        self.live = Live()
        self.report_path = ""  # of the last test, once it is written
        self.extra: dict[str, object] = {}  # goes into the run's plan
        self.farewell = ""  # the last line that is printed: the finding of a search
        self._cut = 0
        self._has_records = False
        self._done: set[str] = set()
        self._ticker: gevent.Greenlet | None = None
        self._writer: gevent.Greenlet | None = None
        self._listen()
        # gevent's clock stands still until its loop runs: the time limit that Locust sets now would end a second early.
        gevent.get_hub().loop.update_now()

    @property
    def records(self) -> bool:
        """Whether this process writes the run folder."""
        return not isinstance(self.runner, WorkerRunner)

    @property
    def loads(self) -> bool:
        """Whether this process has users."""
        return not isinstance(self.runner, MasterRunner)

    def _listen(self) -> None:
        events = self.environment.events
        events.test_start.add_listener(self._begin)
        events.test_stopping.add_listener(self._finish)
        events.test_stop.add_listener(self._conclude)
        events.quitting.add_listener(self._wait_for_writer)
        events.quitting.add_listener(self._fail_without_records)
        events.quit.add_listener(self._say_farewell)
        if isinstance(self.runner, WorkerRunner):
            self.runner.register_message(_FINISH, self._on_finish, concurrent=True)
        if isinstance(self.runner, MasterRunner):
            self.runner.register_message(_BATCH, lambda msg, **_: self._take(msg.data))
            self.runner.register_message(_DONE, self._on_done)

    def options(
        self, given: Mapping[str, Any] | None = None, classes: Sequence[Any] | None = None, host: str | None = None
    ) -> Options:
        """The options for the classes that are chosen now, or for others that are about to be. Raises OptionError.

        The servers' token goes to those alone that were named when this process was started.
        """
        environment = self.environment
        chosen = tuple(user_class.transport for user_class in classes or environment.user_classes)
        given = given or vars(environment.parsed_options)
        check_knee(given)
        options = Options.of(given, host or environment.host, chosen)
        check_token(options, self._trusted)
        return options

    def _begin(self, **_: Any) -> None:
        options = self.worker_options() if not self.records else self.options()
        if self.records:
            self._wait_for_writer()
            self.live, self.extra, self.farewell, self._cut, self._done = Live(), {}, "", 0, set()
            self.recorder = Recorder(options)
            self._ticker = gevent.spawn(self._tick)
            logger.info("Tokenderby: recording into %s", self.recorder.folder.path)
        if self.loads:
            self.load = WorkerLoad(options, max(0, getattr(self.runner, "worker_index", 0)), self._send)

    def worker_options(self) -> Options:
        """A worker has all classes; those that the master chose are those that have a URL. Raises OptionError."""
        given = vars(self.environment.parsed_options)
        chosen = tuple(user_class.transport for user_class in self.with_server(given))
        return Options.of(given, self.environment.host, chosen)

    def with_server(self, given: Mapping[str, Any]) -> list[Any]:
        """Of all classes those whose server has an address; all of them where none has."""
        return [c for c in self.every_class if given[f"{c.transport}_url"]] or [*self.every_class]

    def _send(self, batch: bytes) -> None:
        if isinstance(self.runner, WorkerRunner):
            self.runner.send_message(_BATCH, batch)  # type: ignore[arg-type]  # msgpack takes bytes
        else:
            self._take(batch)

    def _take(self, data: bytes) -> None:
        """Record a batch, and add it to the live figures."""
        if self.recorder is None:
            logger.warning("Tokenderby: a worker's records came after the end of the test and are lost")
            return
        batch = Batch.decode(data)
        now_s = time.monotonic()
        for transport, record in self.recorder.receive(batch):
            self.live.add(transport, record, now_s)
            self._has_records = True
        self.live.count(batch.worker, batch.counters)

    def _tick(self) -> None:
        while True:
            gevent.sleep(_TICK_S)
            self.live.tick(time.monotonic())

    def _on_finish(self, **_: Any) -> None:
        cut = self.load.finish() if self.load is not None else 0
        self.runner.send_message(_DONE, {"cut": cut})

    def _on_done(self, msg: Any, **_: Any) -> None:
        if msg.node_id not in self._done:
            self._done.add(msg.node_id)
            self._cut += msg.data["cut"]

    def _finish(self, **_: Any) -> None:
        """The stop begins, perhaps amid the start: wait for messages under way, here or at the workers."""
        if self.recorder is not None:
            finish_s = self.recorder.options.finish_s
            logger.info("Tokenderby: answers under way may end, for at most %g s (--finish)", finish_s)
            if not self.loads:
                self._finish_workers(finish_s + _SPARE_S)
        if self.load is not None:
            self._cut = self.load.finish()  # a worker's is asked for by its master

    def _finish_workers(self, limit_s: float) -> None:
        self.runner.send_message(_FINISH)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            present = {worker.id for worker in self.runner.clients.all if worker.state != STATE_MISSING}
            if present <= self._done:
                return
            gevent.sleep(0.05)
        logger.warning("Tokenderby: some workers did not say that they are done; their last records may be missing")

    def _conclude(self, **_: Any) -> None:
        """The users are gone: write the folder and its report; a web UI goes on meanwhile."""
        recorder, self.recorder, self.load = self.recorder, None, None
        if self._ticker is not None:
            self._ticker.kill()
        if recorder is not None:
            self._writer = gevent.spawn(self._write, recorder, self._warnings())
        if self.environment.web_ui is None:
            self._wait_for_writer()

    def _warnings(self) -> list[str]:
        warnings = []
        if self._cut:
            warnings.append(
                f"{self._cut} messages were cut by the end of the test or of their user, and are in no table: "
                "long answers are missing. A longer --finish lets them end."
            )
        workers = self.runner.clients.all if isinstance(self.runner, MasterRunner) else []
        if vanished := sum(worker.state == STATE_MISSING for worker in workers):
            who = "1 worker vanished; what it" if vanished == 1 else f"{vanished} workers vanished; what they"
            warnings.append(f"{who} had not sent yet is missing.")
            logger.warning("Tokenderby: %s", warnings[-1])
        return warnings

    def _write(self, recorder: Recorder, warnings: list[str]) -> None:
        try:
            folder = recorder.finish(warnings, self.extra)
        except OSError as error:
            logger.error("Tokenderby: cannot write %s: %s", recorder.folder.path, error)
            return
        if not recorder.options.report:
            logger.info("Tokenderby: the run is in %s", folder.path)
            return
        # Another process: drawing takes seconds in which users of the next test would have to wait.
        report = [sys.executable, "-m", "bench.cli", "report", str(folder.path)]
        done = subprocess.run(report, check=False, capture_output=True, text=True)
        if done.returncode:
            logger.error("Tokenderby: no report: %s", done.stderr.strip())
            return
        self.report_path = str(folder.report_path)
        logger.info("Tokenderby:\n%s\nTokenderby: report in %s", done.stdout.rstrip(), self.report_path)

    def _wait_for_writer(self, **_: Any) -> None:
        if self._writer is not None:
            self._writer.join()

    def _fail_without_records(self, **_: Any) -> None:
        """A test without a web UI that no message came of, however short it was, is no success."""
        if self.records and self.environment.web_ui is None and not self._has_records:
            logger.error("Tokenderby: not one message was over when the test ended; a longer -t lets them end")
            self.environment.process_exit_code = 1

    def _say_farewell(self, **_: Any) -> None:
        """Behind Locust's own tables, which may have a thousand lines."""
        if self.farewell:
            sys.stderr.flush()
            print(self.farewell, flush=True)
