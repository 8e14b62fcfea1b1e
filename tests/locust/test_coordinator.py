"""The coordinator of a Locust process that is alone. Each in a process of its own: Locust changes all sockets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_LONE = """
import sys, time
from argparse import Namespace
import gevent
from locust.argument_parser import get_empty_argument_parser
from locust.env import Environment
from clients.locusts.coordinator import Coordinator
from clients.locusts.options import add_arguments
from clients.locusts.recorder import Recorder

parser = get_empty_argument_parser()
add_arguments(parser)
environment = Environment(user_classes=[])
environment.create_local_runner()
environment.parsed_options = parser.parse_args(["--sse-url", "http://127.0.0.1:1", "--results-dir", sys.argv[1]])
"""

_TIME_LIMIT = """
imported_s = time.monotonic() + 0.4  # before gevent's loop has run once
while time.monotonic() < imported_s:
    pass
Coordinator(environment)
began_s = time.monotonic()
limit = gevent.spawn_later(0.2, time.monotonic)
limit.join()
assert limit.value - began_s >= 0.19, limit.value - began_s
"""

_STOP_AMID_THE_START = """
coordinator = Coordinator(environment)
coordinator.recorder = Recorder(coordinator.options())  # and Ctrl-C came before the load was made
environment.events.test_stopping.fire(environment=environment)
"""

_NO_MESSAGE = """
Coordinator(environment)
environment.events.quitting.fire(environment=environment)
assert environment.process_exit_code == 1
"""
_CASES = {"time-limit": _TIME_LIMIT, "stop-amid-the-start": _STOP_AMID_THE_START, "no-message": _NO_MESSAGE}


@pytest.mark.parametrize("then", _CASES.values(), ids=_CASES)
def test_a_process_alone(then: str, tmp_path: Path) -> None:
    """A time limit counts from when it is set; a stop amid the start is one; a test without a message has failed."""
    ran = subprocess.run(
        [sys.executable, "-c", _LONE + then, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
