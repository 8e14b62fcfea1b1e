"""A fifth transport in the three steps of the README, in a copy of the project: everything finds it by itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from support.any_machine import VALIDITY

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "results", "*_cache", "__pycache__", ".hypothesis", "build", "dist")

# Step 1: a line in servers/transport.py.
LAST_LINE = '        Transport("blocking", "Blocking", "#7F7F7F", streams=False),\n'
LINE = '        Transport("toy", "Toy", "#56B4E9"),\n'

# Step 2: servers/toy/.
WIRE = '''"""Numbered lines on the wire: index, TAB, message; `-` before the end message; `~`, a heartbeat (pure)."""

from __future__ import annotations

from servers import messages
from servers.messages import MAX_MESSAGE_BYTES, EndMessage, ProtocolError, TokenMessage

CONTENT_TYPE = "text/plain"
HEARTBEAT = b"~\\n"


def encode(first: int, tokens: list[bytes], end: bytes | None) -> bytes:
    """The lines of encoded messages, the first of them with index `first`."""
    lines = [b"%d\\t%b\\n" % (first + k, token) for k, token in enumerate(tokens)]
    return b"".join(lines if end is None else [*lines, b"-\\t%b\\n" % end])


class Decoder:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[TokenMessage | EndMessage]:
        """The messages that `data` completes. Raises ProtocolError, with the messages before the fault."""
        *lines, self._rest = (self._rest + data).split(b"\\n")
        found: list[TokenMessage | EndMessage] = []
        try:
            for line in lines:
                if line != b"~":
                    found.append(messages.decode(line.partition(b"\\t")[2]))
            if len(self._rest) > MAX_MESSAGE_BYTES:
                raise ProtocolError("a line is too long")
        except ProtocolError as error:
            error.messages = found
            raise
        return found
'''
APP = '''"""The toy server: numbered lines, in an HTTP response without a known length."""

from __future__ import annotations

from aiohttp import web

from servers.chat import open_answer
from servers.http import SERVICE, HttpStream, application, read_chat, stream_answer
from servers.service import Service
from servers.toy import wire


def create(service: Service) -> web.Application:
    """The application behind `tokenderby serve toy`."""
    app = application(service)
    app.router.add_post("/chat", _post)
    return app


async def _post(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    chat = await read_chat(request)
    generation = open_answer(service.generations, chat)
    return await stream_answer(
        request,
        generation.stream_id,
        wire.CONTENT_TYPE,
        lambda writer: service.push(generation, chat.first, HttpStream(request, writer, wire.encode, wire.HEARTBEAT)),
    )
'''

# Step 3: clients/toy.py.
CLIENT = '''"""The toy client: numbered lines over one POST."""

from __future__ import annotations

from clients.core.http1 import Request
from clients.core.http_scripts import stream
from clients.core.session import Script, Session
from clients.core.exchange import Exchange
from servers.toy.wire import CONTENT_TYPE, Decoder


def attempt(session: Session, exchange: Exchange) -> Script[None]:
    """Resumes by `from`."""
    request = Request("POST", "/chat", {"Accept": CONTENT_TYPE}, exchange.body())
    yield from stream(session, exchange, request, Decoder(), CONTENT_TYPE)
'''

PLAN = f"""
blocks = 1
control = "none"
[stream]
profile = "fast"
tokens = 8
[load]
streams = 10
rate_per_s = 50
warmup_streams = 2
{VALIDITY}
[[cells]]
transport = "sse"
"""


@dataclass(frozen=True)
class Copy:
    """The project with a transport more."""

    folder: Path

    def python(self, *words: str) -> str:
        """Run this Python there; what it says. It has to end with 0."""
        done = self.start(*words)
        try:
            said, _ = done.communicate(timeout=240)  # a busy machine's; a quiet one needs a tenth
        finally:
            done.kill()
            done.wait()
        assert done.returncode == 0, said
        return said

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start this Python there."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TOKENDERBY", "PYTEST"))}
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=clean | {"PYTHONPATH": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def server(self) -> Iterator[str]:
        """The new transport's server; its URL."""
        process = self.start("-m", "bench.cli", "serve", "toy")
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()
            process.communicate(timeout=10)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The three steps."""
    folder = tmp_path_factory.mktemp("fifth") / "project"
    shutil.copytree(PROJECT, folder, ignore=LEFT_OUT)
    registry = folder / "servers" / "transport.py"
    assert LAST_LINE in registry.read_text()
    registry.write_text(registry.read_text().replace(LAST_LINE, LAST_LINE + LINE))
    (folder / "servers" / "toy").mkdir()
    for name, text in {"__init__.py": '"""Numbered lines."""\n', "wire.py": WIRE, "app.py": APP}.items():
        (folder / "servers" / "toy" / name).write_text(text)
    (folder / "clients" / "toy.py").write_text(CLIENT)
    return Copy(folder)


def test_the_tests_of_every_transport_take_it_in(copy: Copy) -> None:
    """Without a line more: it is asked through its own client, and cut at every byte that it sends."""
    chosen = "toy and not (sigterm or expire or slow_reader)"  # those take seconds
    files = ("tests/conformance", "tests/servers/test_transport.py", "tests/recovery/test_seeded_faults.py")
    said = copy.python("-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, *files)
    assert int(re.search(r"(\d+) passed", said)[1]) > 60  # type: ignore[index]
    assert "skipped" not in said


def test_a_run_measures_it_and_the_report_names_it(copy: Copy) -> None:
    (copy.folder / "tiny.toml").write_text(PLAN)
    copy.python("-m", "bench.cli", "run", "tiny.toml", "--transports", "sse,toy")
    run = copy.folder / "results" / "latest"
    table = pd.read_csv(run / "summary.csv").set_index("transport")
    assert list(table.index) == ["sse", "toy"]
    assert table.loc["toy", "completed_ratio"] == 1
    report = (run / "report.html").read_text()
    assert "Toy" in report
    assert "#56B4E9" in (run / "charts" / "ttft.svg").read_text().upper()


def test_locust_has_a_user_of_it(copy: Copy) -> None:
    words = ("-m", "locust", "-f", "clients/locustfile.py", "--headless", "ToyUser", "--only-summary", "--skip-report")
    refused, _ = copy.start(*words).communicate(timeout=60)
    assert "--toy-url: not given, but there are users of toy" in refused
    with copy.server() as url:
        process = copy.start(*words, "--toy-url", url, "-u", "2", "-r", "2", "--stream-profile", "fast")
        end = time.monotonic() + 50
        while not any(spool.stat().st_size for spool in copy.folder.glob("results/*-locust/incoming.msgpack")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        process.terminate()  # after the first answers, however long they took
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
    (run,) = {path.resolve() for path in (copy.folder / "results").glob("*-locust*")}
    assert set(pd.read_parquet(run / "streams.parquet")["transport"]) == {"toy"}


def test_compose_gets_its_services(copy: Copy) -> None:
    copy.python("scripts/compose_services.py")
    services = (copy.folder / "docker-compose.yml").read_text()
    assert "  toy:\n    <<: *server\n    command: serve toy " in services
    assert '"127.0.0.1:${TOY_PORT:-8005}:8000"' in services
    assert "TOKENDERBY_TOY_URL: http://proxy-toy:8000" in services
    assert "--target toy=http://toy:8000" in services
