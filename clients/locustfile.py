"""Locust users of every transport that streams: `locust -f clients/locustfile.py` (docs/locust.md).

Each user asks, waits for the whole answer, thinks, and asks again. Locust counts what it always counts; every token's
record goes into a run folder besides, which `tokenderby report` reads like any other.
"""

from __future__ import annotations

import random
import sys
import types
from time import monotonic_ns
from typing import Any, ClassVar

import gevent
from locust import User, events, task
from locust.exception import StopUser

from clients.drivers.gev import GeventClient
from clients.locusts import tab
from clients.locusts.coordinator import Coordinator
from clients.locusts.options import OptionError, add_arguments
from clients.locusts.request_events import fire_events, rows_of
from servers.transport import STREAMING, TRANSPORTS, Transport

_SPREAD_S = 0.5  # Locust spawns a second's users at one moment; their first questions would hold up everybody else


class StreamUser(User):
    """A user of one transport; the subclasses say of which. A message starts late rather than never."""

    abstract = True
    transport: ClassVar[str]

    def on_start(self) -> None:
        """Begin soon."""
        self.load = self.environment.tokenderby.load
        self.client = GeventClient(self.transport, self.load.options.settings(self.transport))
        gevent.sleep(random.random() * _SPREAD_S)
        self.next_ns = monotonic_ns()  # when the next message is meant to start
        self.question = self.load.question(self.transport, self.next_ns)

    def wait_time(self) -> float:
        """Seconds until the next message."""
        return max(0.0, (self.next_ns - monotonic_ns()) / 1e9)

    @task
    def message(self) -> None:
        """Ask one question and wait for the end of its answer."""
        if self.load.closing:
            raise StopUser
        with self.load.under_way():
            record = self.client.ask(self.question)
            ended_ns = monotonic_ns()
            self.load.add(self.transport, record)
        self.next_ns = ended_ns + round(self.load.options.think_s * 1e9)
        self.question = self.load.question(self.transport, self.next_ns)  # now: it takes time that TTFT would show
        fire_events(rows_of(self.environment), self.transport, record, ended_ns)

    def on_stop(self) -> None:
        """Close the connection."""
        self.client.close()


def _user_of(transport: Transport) -> type[StreamUser]:
    members = {"transport": transport.name, "__module__": __name__, "__doc__": f"A user of {transport.title}."}
    return types.new_class(transport.user_class, (StreamUser,), exec_body=lambda names: names.update(members))


# PollingUser, WebSocketUser and so on: Locust takes every user class that it finds among a locustfile's names.
globals().update({TRANSPORTS[name].user_class: _user_of(TRANSPORTS[name]) for name in STREAMING})


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_arguments(parser: Any, **_: Any) -> None:
    add_arguments(parser)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _set_up(environment: Any, web_ui: Any = None, **_: Any) -> None:
    environment.tokenderby = coordinator = Coordinator(environment)
    if not coordinator.records:
        return
    if not environment.parsed_options.user_classes:  # nobody named any: those that have a server
        environment.user_classes = coordinator.with_server(vars(environment.parsed_options))
    if web_ui is not None:
        tab.add_to(web_ui, coordinator)
        return
    try:
        coordinator.options()
    except OptionError as error:
        print(f"locust: error: {error}", file=sys.stderr)
        sys.exit(2)
