"""`--source openai`, and the client of endpoints, against other people's OpenAI-compatible servers.

They are no dependencies: `python scripts/referees.py --install` puts them into a folder of their own, and without it
these tests are skipped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import openai
import pytest
from support.asking import question
from support.drivers import DRIVERS
from support.independent import Answer
from support.processes import running_server
from support.transports import ASK

from clients.core.record import UNKNOWN_NS, Outcome
from clients.core.settings import ClientSettings
from servers.transport import TRANSPORTS

FOLDER = Path(os.environ.get("TOKENDERBY_REFEREES") or Path(__file__).parents[2] / ".referees")
READY_S = 60.0
Command = Callable[[str, int], list[str]]
SERVERS: dict[str, Command] = {
    "guidellm": lambda program, port: [
        *(program, "mock-server", "--host", "127.0.0.1", "--port", str(port), "--model", "m"),
        *("--ttft-ms", "20", "--itl-ms", "2", "--output-tokens", "12"),
    ],
    "fakellm": lambda program, port: [program, "serve", "--host", "127.0.0.1", "--port", str(port)],
}


def installed(name: str) -> str:
    """The program; without it the test is skipped."""
    own = FOLDER / name / "bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    return found or pytest.skip(f"{name} is not installed: python scripts/referees.py --install")


@contextmanager
def upstream(name: str, folder: Path) -> Iterator[str]:
    """That server, ready; the base URL of its API."""
    program = installed(name)
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    (folder / "fakellm.yaml").touch()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(SERVERS[name](program, port), cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + READY_S
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def told(url: str, text: str) -> tuple[str, int]:
    """What the server says by OpenAI's own library: the answer, and how many pieces it came in."""
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=20) as sdk:
        stream = sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], stream=True)
        pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    texts = [piece for piece in pieces if piece]
    return "".join(texts), len(texts)


@pytest.mark.parametrize("name", SERVERS)
async def test_their_text_comes_whole_through_every_transport_and_our_client(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upstream(name, tmp_path) as url:
        expected, pieces = told(url, "hello there")
        for variable, value in (("BASE_URL", url), ("MODEL", "m"), ("API_KEY", "any")):
            monkeypatch.setenv(f"OPENAI_{variable}", value)

        def ask(transport: str) -> Answer:
            with running_server(transport, "--source", "openai") as server:
                return ASK[transport](server.url, {"message": "hello there"}).check()

        with ThreadPoolExecutor() as pool:
            answers = dict(zip(TRANSPORTS, pool.map(ask, TRANSPORTS), strict=True))
        assert expected
        for transport, answer in answers.items():
            assert answer.end is not None
            assert answer.end["sha256"] == hashlib.sha256(expected.encode()).hexdigest(), transport
            assert len(answer.tokens) == pieces
        for make in DRIVERS.values():
            user = make("openai", ClientSettings(url, auth_token="any", model="m"))
            record = await user.ask(question(is_told=True, text="hello there"))
            await user.close()
            assert (record.outcome, record.detail) == (Outcome.OK, "")
            assert record.tokens_received > 1
            assert set(record.due_ns) == {UNKNOWN_NS}
