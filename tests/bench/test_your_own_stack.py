"""docs/your-own-stack.md: its app, as it stands there, between our stand-in and a client."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from support.independent import request
from support.processes import running_server, wait_until
from support.transports.sse import events

from servers.process import free_port
from servers.stream import StreamSpec, build

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-stack.md").read_text(encoding="utf-8")
SHORT = {"profile": "fast", "tokens": 12, "ttft_ms": 0, "gap_ms": 1}


def test_the_app_passes_an_answer_on(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1
    port = free_port()
    with running_server("chunked") as stand_in:
        (tmp_path / "app.py").write_text(blocks[0].replace("http://127.0.0.1:8001", stand_in.url))
        argv = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "warning"]
        app = subprocess.Popen(argv, cwd=tmp_path)
        try:
            wait_until(lambda: answers(port), timeout_s=20)
            body = {"message": "hello", "stream": SHORT, "seed": 7}
            status, headers, data = request(f"http://127.0.0.1:{port}", "POST", "/chat", body)
        finally:
            app.terminate()
            app.wait(10)
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    *tokens, end = [json.loads(event["data"]) for event in events(data)]
    assert [token["t"] for token in tokens] == list(build(StreamSpec.parse(SHORT), 7).texts)
    assert end["n"] == 12


def answers(port: int) -> bool:
    try:
        return request(f"http://127.0.0.1:{port}", "GET", "/healthz")[2] == b'{"transport":"sse"}'
    except OSError:
        return False
