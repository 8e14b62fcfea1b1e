"""What others' load clients and ours see of one server, in one sitting: `python scripts/referees.py`.

Each tool has the same server for itself, with so many users that ask again when they have their answer. The server's
own stamps say when a question reached its model and when the first token came; what the tool calls the time to first
token is set beside that. aiperf and guidellm are installed into a folder of their own, with `uv`; they are no
dependencies.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.referee_tools.source import TOKENS  # noqa: E402 - found by the line before it

PARTS = ROOT / "scripts" / "referee_tools"
MODEL = "scripts.referee_tools.source:tokens"
REQUESTS = {20: 240, 200: 2000}  # by streams: so many that a p99 has a value beyond it
FOREIGN = {"aiperf": "aiperf==0.13.0", "guidellm": "guidellm==0.8.1", "fakellm": "fakellm==0.3.5"}
"""The last is no client, but a server for tests/servers/test_independent_upstreams.py."""
SHARES = (0.5, 0.95, 0.99)
_LIMIT_S = 240.0
_SAMPLE_S = 0.1
_HEADINGS = (
    *("streams", "client", "error of TTFT, p50 / p95 / p99 [ms]"),
    *("its CPU per token [µs]", "messages lost", "other programs [cores]"),
)
_MARK = "<!-- the table: scripts/referees.py -->"
_TOKENIZER = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
words = {f"w{i}": i for i in range(1000)} | {"[UNK]": 1000}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(sys.argv[1])
"""


@dataclass(frozen=True)
class Task:
    """What a tool is to do, and a folder for what it writes."""

    url: str  # of a server that is started for it
    streams: int
    requests: int
    tools: Path
    out: Path


@dataclass(frozen=True)
class Tool:
    """A tool: how it is started, and the times to first token (ms) of the answers that it calls whole."""

    name: str
    command: Callable[[Task], list[str]]
    read: Callable[[Task], list[float]]
    environment: Callable[[Task], dict[str, str]] = lambda _: {}
    stdin: Callable[[Task], str] = lambda _: ""


def _lines(task: Task) -> list[float]:
    return [float(line) for line in (task.out / "ttft.txt").read_text().split()]


def _sdk(task: Task) -> list[str]:
    words = (task.url, MODEL, str(task.streams), str(task.requests), str(task.out / "ttft.txt"))
    return [sys.executable, str(PARTS / "sdk.py"), *words]


def _locust(task: Task) -> list[str]:
    users = str(task.streams)
    words = ("--headless", "--only-summary", "-u", users, "-r", users, "-H", task.url)
    return [sys.executable, "-m", "locust", "-f", str(PARTS / "locust_user.py"), *words]


def _locust_environment(task: Task) -> dict[str, str]:
    out = str(task.out / "ttft.txt")
    return {"REFEREE_MODEL": MODEL, "REFEREE_REQUESTS": str(task.requests), "REFEREE_OUT": out}


def _ours(_: Task) -> list[str]:
    return [sys.executable, "-m", "clients.load"]


def _our_job(task: Task) -> str:
    load = {"arrivals": "closed", "concurrency": task.streams, "streams": task.requests, "warmup_streams": 0}
    cell = {"block": 1, "cell": "openai", "seed": 1, "stream": {"profile": "fast", "tokens": TOKENS}}
    words = {"transport": "openai", "url": task.url, "out": str(task.out / "ours"), "variant": {"model": MODEL}}
    return json.dumps({"load": load, **cell, **words})


def _our_times(task: Task) -> list[float]:
    rows = pq.read_table(task.out / "ours.streams.parquet").to_pylist()
    return [(row["first_token_ns"] - row["start_ns"]) / 1e6 for row in rows if row["outcome"] == "ok"]


def _aiperf(task: Task) -> list[str]:
    words = {
        "--model": MODEL,
        "--url": task.url,
        "--endpoint-type": "chat",
        "--tokenizer": str(task.tools / "tokenizer"),
        "--request-count": str(task.requests),
        "--concurrency": str(task.streams),
        "--prompt-input-tokens-mean": "20",
        "--output-tokens-mean": str(TOKENS),
        "--artifact-dir": str(task.out),
    }
    pairs = [word for pair in words.items() for word in pair]
    return [str(task.tools / "aiperf/bin/aiperf"), "profile", *pairs, "--streaming", "--use-server-token-count"]


def _aiperf_times(task: Task) -> list[float]:
    rows = [json.loads(line) for line in (task.out / "profile_export.jsonl").read_text().splitlines()]
    times = [row["metrics"].get("time_to_first_token") for row in rows if not row.get("error")]
    return [float(each["value"]) for each in times if each]


def _guidellm(task: Task) -> list[str]:
    words = {
        "--backend": f"kind=openai_http,target={task.url},model={MODEL}",
        "--profile": f"kind=concurrent,streams={task.streams}",
        "--constraint": f"kind=max_requests,count={task.requests}",
        "--tokenizer": f"kind=huggingface_auto,model={task.tools / 'tokenizer'}",
        "--data": f"kind=synthetic_text,prompt_tokens=20,output_tokens={TOKENS}",
        "--output": f"kind=json,path={task.out / 'guidellm.json'}",
    }
    pairs = [word for pair in words.items() for word in pair]
    return [str(task.tools / "guidellm/bin/guidellm"), "run", *pairs, "--disable-console"]


def _guidellm_times(task: Task) -> list[float]:
    found = json.loads((task.out / "guidellm.json").read_text())["benchmarks"][0]["requests"]["successful"]
    return [float(each["time_to_first_token_ms"]) for each in found if each["time_to_first_token_ms"] is not None]


TOOLS = (
    Tool("Tokenderby", _ours, _our_times, stdin=_our_job),
    Tool("openai SDK", _sdk, _lines),
    Tool("Locust's HttpUser", _locust, _lines, _locust_environment),
    Tool("guidellm", _guidellm, _guidellm_times),
    Tool("aiperf", _aiperf, _aiperf_times),
)


@dataclass
class Meter:
    """CPU time (s) of a process tree, and of the whole machine, sampled while it runs."""

    root: psutil.Process
    at: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)

    def sample(self) -> None:
        """Read the meters now."""
        spent = 0.0
        try:
            for process in (self.root, *self.root.children(recursive=True)):
                with suppress(psutil.Error):  # it has ended in the meantime
                    spent += sum(process.cpu_times()[:4])  # with those of children that have ended
        except psutil.NoSuchProcess:
            return
        whole = psutil.cpu_times()
        self.at.append(time.monotonic())
        self.own_s.append(spent)
        self.busy_s.append(sum(whole) - whole.idle - getattr(whole, "iowait", 0.0) - getattr(whole, "guest", 0.0))

    def between(self, series: Sequence[float], begin_s: float, end_s: float) -> float:
        """What was spent between two moments."""
        begin, end = np.interp((begin_s, end_s), self.at, series)
        return float(end - begin)


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    streams: int
    name: str
    errors_ms: Sequence[float]
    cpu_us: float
    lost: int
    others_cores: float

    def markdown(self) -> str:
        """As the document has it."""
        errors = " / ".join(f"{each:+.1f}" for each in self.errors_ms)
        return (
            f"| {self.streams} | {self.name} | {errors} | {self.cpu_us:.0f} | {self.lost} | {self.others_cores:.2f} |"
        )


def install(tools: Path) -> None:
    """Each with an environment of its own, and a tokenizer of a thousand words for all."""
    for name, pinned in FOREIGN.items():
        if not (tools / name / "bin" / name).exists():
            print(f"installing {pinned} into {tools / name}", file=sys.stderr)
            subprocess.run(["uv", "venv", "-q", "--clear", str(tools / name)], check=True)
            python = str(tools / name / "bin" / "python")
            subprocess.run(["uv", "pip", "install", "-q", "--python", python, pinned], check=True)
    if not (tools / "tokenizer").exists():
        python = str(tools / "guidellm" / "bin" / "python")
        subprocess.run([python, "-c", _TOKENIZER, str(tools / "tokenizer")], check=True)


@contextmanager
def server(stamps: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Our SSE server with the referees' model; its URL and process."""
    environment = os.environ | {"REFEREE_STAMPS": str(stamps)}
    command = [sys.executable, "-m", "servers", "sse", "--source", MODEL]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield json.loads(child.stdout.readline())["url"], psutil.Process(child.pid)
        finally:
            child.terminate()


def run(tool: Tool, task: Task) -> Row:
    """One tool against a server of its own. Raises SubprocessError, OSError, ValueError where it has no result."""
    task.out.mkdir(parents=True)
    with server(task.out / "stamps.txt") as (url, serving):
        task = replace(task, url=url)
        server_s = sum(serving.cpu_times()[:4])
        meter = _carried_out(tool, task)
        server_s = sum(serving.cpu_times()[:4]) - server_s
    return _row(tool, task, meter, server_s)


def _carried_out(tool: Tool, task: Task) -> Meter:
    environment = os.environ | tool.environment(task)
    with (
        (task.out / "log.txt").open("w") as log,
        subprocess.Popen(
            tool.command(task), cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
        ) as child,
    ):
        assert child.stdin is not None
        meter = Meter(psutil.Process(child.pid))
        deadline = time.monotonic() + _LIMIT_S
        threading.Thread(target=_given, args=(child.stdin, tool.stdin(task)), daemon=True).start()
        while child.poll() is None:
            if time.monotonic() > deadline:
                child.kill()
                raise subprocess.TimeoutExpired(tool.name, _LIMIT_S)
            meter.sample()
            time.sleep(_SAMPLE_S)
    return meter


def _given(stdin: Any, text: str) -> None:
    with stdin:
        stdin.write(text)


def _row(tool: Tool, task: Task, meter: Meter, server_s: float) -> Row:
    """Set what the tool says beside the server's own stamps."""
    times_ms = tool.read(task)
    asked = np.array([line.split() for line in (task.out / "stamps.txt").read_text().splitlines()], np.int64)
    truth_ms = (asked[:, 1] - asked[:, 0]) / 1e6
    begin_s, end_s = asked[:, 0].min() / 1e9, asked[:, 2].max() / 1e9
    own_s = meter.between(meter.own_s, begin_s, end_s)
    busy_s = meter.between(meter.busy_s, begin_s, end_s)
    return Row(
        streams=task.streams,
        name=tool.name,
        errors_ms=[float(np.quantile(times_ms, p) - np.quantile(truth_ms, p)) for p in SHARES],
        cpu_us=1e6 * own_s / (len(asked) * TOKENS),
        lost=max(0, len(asked) - len(times_ms)),
        others_cores=max(0.0, busy_s - own_s - server_s) / (end_s - begin_s),
    )


def table(rows: Sequence[str], seconds: float) -> str:
    """The document's table, and what it was made on."""
    versions = ", ".join(
        [FOREIGN["aiperf"], FOREIGN["guidellm"], *(f"{name}=={version(name)}" for name in ("openai", "locust"))]
    )
    cores = psutil.cpu_count()
    lines = [
        f"| {' | '.join(_HEADINGS)} |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    made = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {platform.machine()}, {cores} cores, {platform.system()}"
    note = f"Made in {seconds:.0f} s on {made}, Python {platform.python_version()}; {versions}."
    return "\n".join([*lines, "", note])


def write(document: Path, text: str) -> None:
    """Put the table between the document's two marks."""
    before, _, rest = document.read_text().partition(_MARK)
    _, _, after = rest.partition(_MARK)
    document.write_text(f"{before}{_MARK}\n\n{text}\n\n{_MARK}{after}")


def _row_of(tool: Tool, task: Task) -> str:
    try:
        return run(tool, task).markdown()
    except (subprocess.SubprocessError, OSError, ValueError, LookupError) as error:
        return f"| {task.streams} | {tool.name} | no result: {type(error).__name__}, see runs/{task.out.name} | | | |"


def numbers(text: str) -> list[int]:
    """Whole numbers, separated by commas. Raises ValueError, which argparse says."""
    return [int(word) for word in text.split(",")]


def main() -> None:
    """Run all tools at each number of streams, and print the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--streams", type=numbers, default="20,200", help="how many users at once, separated by commas")
    words.add_argument("--only", default="", help="tools whose names contain this")
    words.add_argument("--tools", type=Path, default=ROOT / ".referees", help="where they are installed and write")
    words.add_argument("--write", type=Path, help="a document whose table is replaced, as docs/referees.md")
    words.add_argument("--install", action="store_true", help="install them, and no more")
    given = words.parse_args()
    chosen = [tool for tool in TOOLS if given.only.lower() in tool.name.lower()]
    if not chosen:
        words.error(f"--only: no tool has {given.only!r} in its name; takes some of {', '.join(t.name for t in TOOLS)}")
    tools = given.tools.resolve()
    tools.mkdir(parents=True, exist_ok=True)
    install(tools)
    if given.install:
        return
    began, rows = time.monotonic(), []
    for streams in given.streams:
        for tool in chosen:
            out = tools / "runs" / f"{time.time_ns()}-{streams}-{tool.name.replace(' ', '-')}"
            rows.append(_row_of(tool, Task("", streams, REQUESTS.get(streams, 10 * streams), tools, out)))
            print(rows[-1], file=sys.stderr, flush=True)
    text = table(rows, time.monotonic() - began)
    print(text)
    if given.write:
        write(given.write, text)


if __name__ == "__main__":
    main()
