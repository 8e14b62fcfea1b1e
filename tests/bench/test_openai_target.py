"""A run against an OpenAI-compatible endpoint: from the words to the report."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from support.processes import RunningServer, running_server
from support.runs import Message, RunBuilder
from support.scripted import Connection, closed_port, response, scripted

from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.measures.groups import measure
from bench.analysis.measures.metrics import summary_table
from bench.analysis.measures.missing import why_no_value
from bench.analysis.report.report import write_report
from bench.plan import parse
from bench.plan_options import with_options
from bench.running.endpoints import Counters, Route, Server, token_for
from bench.running.processes import PartDied
from bench.running.runner import RunOptions, new_run, with_targets
from bench.running.targets import NoAnswer, NotNow, check_endpoint
from bench.table_checks import PlanError
from clients.core.record import UNKNOWN_NS

Servers = Callable[[str], RunningServer]
KEY = "sk-do-not-tell"
PLAN = """
name = "mine"
blocks = 1
[stream]
profile = "fast"
tokens = 8
[load]
streams = 10
rate_per_s = 50
warmup_streams = 2
[slo]
ttft_ms_p50 = 0.001
[[targets]]
transport = "openai"
url = "%s"
[[cells]]
transport = "openai"
"""


def tokenderby(*words: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        [sys.executable, "-c", "from bench.cli import main; main()", *words],
        env={"PATH": "/usr/bin:/bin", "OPENAI_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_run_from_the_words_to_the_report(tmp_path: Path) -> None:
    with running_server("sse", "--auth-token", KEY) as server:
        plan = tmp_path / "mine.toml"
        plan.write_text(PLAN % f"{server.url}/v1")
        refused = tokenderby("run", str(plan), "--model", "fast", "--out", str(tmp_path / "none"), key="wrong")
        ran = tokenderby("run", str(plan), "--model", "fast", "--out", str(tmp_path / "runs"))
    assert refused.returncode == 2
    assert "does not take this key: give it by OPENAI_API_KEY" in refused.stderr
    assert not (tmp_path / "none").exists()
    assert ran.returncode == 1, ran.stderr  # for the limit, which nobody can keep
    assert "ttft_ms_p50" in ran.stderr
    (folder,) = (tmp_path / "runs").glob("2*")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in ran.stdout + ran.stderr
    told = json.loads((folder / "run.json").read_text())
    assert (told["cells"][0]["cell"], told["cells"][0]["messages"]) == ("openai model=fast", 10)
    assert told["cells"][0]["failed_messages"] == 0
    (row,) = csv.DictReader((folder / "summary.csv").read_text().splitlines())
    assert (row["transport"], row["delay_ms_p50"], row["ttft_overhead_ms_p50"]) == ("openai", "", "")
    assert "nobody tells when the model made a token" in (folder / "report.html").read_text()


def begun(table: dict[str, object], out: Path) -> None:
    """As the command begins a run."""
    plan = parse(table)
    with_targets(RunOptions(), plan)
    new_run(plan, out)


@pytest.mark.parametrize(
    ("given", "cell", "why"),
    [
        ([], {"model": "m"}, r"takes --target openai=https://HOST/v1, or \[\[targets\]\]"),
        ([{"transport": "openai", "url": "nowhere"}], {"model": "m"}, r"\[\[targets\]\] url"),
        ([{"transport": "openai", "url": "http://u:p@h/v1"}], {"model": "m"}, "password"),
        ([{"transport": "klingon", "url": "http://h"}], {}, r"\[\[targets\]\] 1 transport"),
        ([{"transport": "openai", "url": "http://h"}] * 2, {}, "has a target already"),
        ({"transport": "openai"}, {}, r"\[\[targets\]\]: takes tables"),
        ([{"transport": "openai", "url": "http://h"}], {"recovery": "resume"}, "cannot resume"),
        ([{"transport": "openai", "url": "http://h"}], {"model": "a b"}, "model"),
        ([{"transport": "openai", "url": "http://h"}], {"limit": "n"}, "limit"),
        ([{"transport": "openai", "url": "http://h"}], {}, "model: an endpoint is asked for a model"),
    ],
)
def test_what_is_wrong_with_the_words_is_said(given: object, cell: dict[str, str], why: str, tmp_path: Path) -> None:
    table = {"name": "n", "targets": given, "cells": [{"transport": "openai"} | cell]}
    with pytest.raises(PlanError, match=why):
        begun(table, tmp_path)


def test_the_command_lines_target_and_model_are_taken_first() -> None:
    plan = parse(
        {
            "name": "n",
            "targets": [{"transport": "openai", "url": "http://a/v1/"}, {"transport": "sse", "url": "http://b"}],
            "cells": [{"transport": "openai"}, {"transport": "openai", "model": "theirs"}, {"transport": "sse"}],
        }
    )
    options = with_targets(RunOptions({"openai": "http://c/v1"}), plan)
    assert options.targets == {"openai": "http://c/v1", "sse": "http://b"}
    assert with_targets(RunOptions(), plan).targets["openai"] == "http://a/v1"
    cells = with_options(plan, model="mine").cells
    assert [(cell.transport, cell.model) for cell in cells] == [("openai", "mine"), ("openai", "theirs"), ("sse", "")]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


@pytest.mark.parametrize(
    ("status", "fault", "why"),
    [
        ("200 OK", None, ""),
        ("404 Not Found", None, ""),
        ("307 Elsewhere", None, ""),
        ("401 No", PartDied, "does not take this key: give it by OPENAI_API_KEY"),
        ("403 No", PartDied, "does not take this key"),
        ("503 Soon", NotNow, "answers 503"),
    ],
)
async def test_an_endpoint_is_asked_for_its_models(
    http: aiohttp.ClientSession, status: str, fault: type[PartDied] | None, why: str
) -> None:
    asked: list[bytes] = []

    async def script(connection: Connection) -> None:
        asked.append(await connection.request())
        await connection.send(response(b"{}", status=status, more="Location: /elsewhere\r\n"))

    async with scripted(script) as server:
        if fault is None:
            await check_endpoint(http, server.url, KEY)
        else:
            with pytest.raises(fault, match=why):
                await check_endpoint(http, f"{server.url}/v1", KEY)
        endpoint = Server("openai", server.url, KEY)
        assert await endpoint.counters(http) == Counters()
    (request,) = asked
    assert request.startswith(b"GET /v1/models ")
    assert f"Authorization: Bearer {KEY}".encode() in request


async def test_a_busy_list_of_models_takes_no_measured_cell_away(http: aiohttp.ClientSession) -> None:
    """After a cell it is asked whether a part hangs: one that answers, whatever it says, does not."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b"busy", status="503 Soon"))

    async with scripted(script) as server:
        await Route(Server("openai", server.url, KEY), server.url).check_answers(http)
    with closed_port() as url, pytest.raises(PartDied, match="the openai server hangs: no endpoint answers"):
        await Route(Server("openai", url, KEY), url).check_answers(http)


async def test_where_nobody_listens_nothing_answers(http: aiohttp.ClientSession) -> None:
    with closed_port() as url, pytest.raises(NoAnswer, match="no endpoint answers"):
        await check_endpoint(http, url, None)


def test_the_servers_token_is_not_for_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert (token_for("openai", "ours"), token_for("sse", "ours")) == (KEY, "ours")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert token_for("openai", "ours") is None


# ---- what the report makes of it


def told(*received_ms: float, **facts: object) -> Message:
    """A message without due times."""
    facts |= {"ttft_scheduled_ns": UNKNOWN_NS}
    return Message([(0.0, at_ms) for at_ms in received_ms], facts=facts)


def test_what_nobody_tells_is_empty_and_the_rest_is_there(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    for block in range(6):
        # Six pieces 10 ms apart, but for one that came 150 ms later: a stall. By the usage they are eleven tokens.
        messages = [told(50, 60, 70, 230, 240, 250, usage_tokens=11) for _ in range(4)]
        run.cell("openai", block, [*messages, Message([], expected=0, outcome="http_error")], variant={"model": "m"})
        run.cell("sse", block, [Message([(40, 50), (50, 60)]) for _ in range(5)])
    folder = run.write()
    measured = measure(folder)
    row = next(row for _, row in summary_table(measured).iterrows() if row["transport"] == "openai")
    unknown = ("ttft_overhead_ms_p50", "delay_ms_p50", "wait_s_per_answer")
    assert [column for column in unknown if not np.isnan(row[column])] == []
    assert (row["completed_ratio"], row["ttft_ms_p50"], row["burst_tokens_mean"]) == (0.8, 50, 1)
    assert row["itl_ms_p50"] == pytest.approx(10, rel=0.02)
    assert row["stalls_per_1k_tokens"] == pytest.approx(1000 / 6)
    cell = measured.cell("openai", "model=m")
    assert cell.messages["tpot_ms"].iloc[0] == pytest.approx(200 / 10)
    for column in (*unknown, "burst_emitted_mean", "transit_ms_p50", "lag_ms_p99"):
        assert why_no_value(cell, column) == "nobody tells when this endpoint's model made its tokens"
    assert measured.early_tokens == measured.ledger_errors == 0
    (warning,) = [each for each in run_warnings(measured) if each.code == "no due times"]
    assert warning.text.startswith("OpenAI endpoint model=m: nobody tells")
    assert "answers told" not in [each.code for each in run_warnings(measured)]
    write_report(folder)  # and its pictures, with one cell that tells and one that does not
    assert (folder.path / "charts" / "delay.svg").exists()
