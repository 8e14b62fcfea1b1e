"""Find the knee: `locust -f clients/locustfile.py,clients/locust_knee.py --headless` (docs/locust.md).

A file of its own, because Locust uses every LoadTestShape that it finds.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from locust import LoadTestShape, events

from clients.locusts.knee_climb import Climb
from clients.locusts.options import add_argument

logger = logging.getLogger("tokenderby")


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_arguments(parser: Any, **_: Any) -> None:
    add_argument(parser, "knee-delay-ms", 20.0, "Token delay, p99, that may not be exceeded")
    add_argument(parser, "knee-step", 10, "Users more at each step")
    add_argument(parser, "knee-most", 1000, "Users at which to stop whatever the delay")
    add_argument(parser, "knee-hold", 12.0, "Seconds for each step, at least 10")


class KneeShape(LoadTestShape):
    """Climbs by steps until a transport's p99 delay breaks the limit, then ends the test.

    What it has found goes into the run at every step, whoever ends the test; the last line that Locust prints says it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._climb: Climb | None = None

    def reset_time(self) -> None:
        """A new test begins."""
        super().reset_time()  # type: ignore[no-untyped-call]
        self._climb = None

    def tick(self) -> tuple[int, float] | None:
        """Users and spawn rate, once a second; None when the knee is found."""
        environment: Any = self.runner.environment if self.runner else None
        coordinator, options = environment.tokenderby, environment.parsed_options
        if self._climb is None:
            self._climb = Climb(options.knee_delay_ms, options.knee_step, options.knee_most, options.knee_hold)
        climb = self._climb
        users = climb.next(time.monotonic(), coordinator.live.last())
        coordinator.extra["knee"] = climb.told
        coordinator.farewell = f"Tokenderby: {climb.sentence}"
        if users is None:
            logger.info("%s", coordinator.farewell)
            return None
        return users, float(max(1, options.knee_step))
