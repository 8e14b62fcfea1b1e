"""Servers that know a short answer full of hazards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from support.feeding import schedule_of
from support.processes import RunningServer, running_server
from support.recordings import Hazards

from servers import recording
from servers.transport import TRANSPORTS

TEXTS = ("Hé", " \U0001f600", "", '{"done": true}', "\n\nevent: end\n", "0\r\n\r\n")


@pytest.fixture(scope="session")
def hazards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hazards]:
    """A server of each transport, and what it answers."""
    path = tmp_path_factory.mktemp("hazards") / "answers.jsonl"
    path.write_text(json.dumps({"deltas": TEXTS}) + "\n")
    stream = {
        "recording": recording.load_recording(path).id,
        "ttft_ms": 5,
        "ttft_sigma": 0,
        "gap_ms": 20,
        "gap_sigma": 0,
    }
    with ExitStack() as stack, ThreadPoolExecutor() as pool:

        def start(transport: str) -> RunningServer:
            return stack.enter_context(running_server(transport, "--recording", str(path)))

        servers = list(pool.map(start, TRANSPORTS))
        yield Hazards(schedule_of(*TEXTS), stream, {server.transport: server.url for server in servers})
