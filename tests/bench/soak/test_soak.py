"""The soak itself: a few connections of each scenario on real processes, and that what it looks for is found."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.soak import findings_table, soak_command
from bench.soak.aborts import StartAndAbort
from bench.soak.bad_requests import BadRequests
from bench.soak.bounds import MIB, ProcessRow, ServerCounts, Size
from bench.soak.faults import Fault, FaultFinding, faults_of, strike
from bench.soak.findings_table import SoakFinding
from bench.soak.idle_connections import IdleConnections
from bench.soak.scenario import LoadFinding, soak_one
from bench.soak.silent_readers import SilentReaders
from bench.soak.soak_command import Soak, SoakStep, Wanted, most_connections, steps_of
from bench.soak.subject import Subject
from servers.transport import TRANSPORTS

FEW = 6


def not_of_time(finding: SoakFinding) -> list[str]:
    """The broken bounds that a busy machine cannot break."""
    return [reason for reason in finding.broken if " took " not in reason]


async def test_a_few_connections_of_each_scenario() -> None:
    findings = await asyncio.gather(
        soak_one(IdleConnections(), "sse", "none", FEW, is_quick=True),
        soak_one(StartAndAbort(), "polling", None, FEW, is_quick=True),
        soak_one(BadRequests(), "websocket", None, 40, is_quick=True),
        soak_one(SilentReaders(), "blocking", None, FEW, is_quick=True),
        strike(Fault("chunked", "server", "kill -9"), "none", 2),
    )
    assert [reason for finding in findings for reason in not_of_time(finding)] == []
    idle, abort, *_ = findings
    assert isinstance(idle, LoadFinding)
    assert [row.role for row in idle.processes] == ["server", "proxy"]
    assert all(row.end_s is not None and row.again is not None for row in idle.processes)
    assert idle.processes[1].most.descriptors >= idle.processes[1].before.descriptors + 2 * FEW
    assert isinstance(abort, LoadFinding)
    assert [row.role for row in abort.processes] == ["server", "redis"]
    struck = findings[-1]
    assert isinstance(struck, FaultFinding)
    assert (struck.complete, struck.tokens_lost) == (2, 0)
    assert struck.drops >= 2
    assert "| idle | sse | proxy | 6 | server |" in findings_table.findings_markdown(findings)


async def test_a_server_that_cannot_start_is_a_finding() -> None:
    finding = await soak_one(IdleConnections(), "sse", "no-such-profile", FEW, is_quick=True)
    assert "no-such-profile" in finding.broken[0]
    assert findings_table.finding_lines(finding)[1] == f"  broken: {finding.broken[0]}"


async def test_what_is_left_behind_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.soak.subject.ORPHAN_S", 0.2)
    under = Subject("sse", tmp_path, keep_s=1)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert await under.left_behind() == []
    (temporary / "forgotten").mkdir()
    (tmp_path / "proxy.jsonl").write_text("{")
    orphan = await asyncio.create_subprocess_exec("sleep", "60", env=os.environ | {"TMPDIR": str(temporary)})
    left = await under.left_behind()
    orphan.kill()
    await orphan.wait()
    assert left == ["left: the process sleep", "left: forgotten", "the proxy's log ends in the middle of a line"]


BROKEN = LoadFinding(
    "idle", "sse", "direct", 10_000,
    [ProcessRow("server", Size(50 * MIB, 20), Size(90 * MIB, 10_020), Size(60 * MIB, 20), Size(61 * MIB, 20), 1.234)],
    ServerCounts(0, 3, 2), 0.5, ["a reason"],
)  # fmt: skip
ROW = "| idle | sse | direct | 10,000 | server | 50 → 90 → 60 → 61 | 20 → 10,020 → 20 → 20 | 0 | 3, 2 for ever | 0.5 |"
STRUCK = FaultFinding(
    Fault("polling", "server", "kill -9", shared_redis=True), 9, 9, after=ServerCounts(), end_s={"proxy": 0}
)


def test_the_tables_have_a_row_for_each_process_and_a_line_for_each_reason() -> None:
    text = findings_table.findings_markdown([BROKEN, STRUCK])
    assert f"{ROW} 1.2 |" in text.splitlines()
    assert "| polling | server, Redis lives | kill -9 | 9/9 | 0 | 0 | 0 | proxy 0.0 |" in text.splitlines()
    assert text.endswith("- idle, sse, direct: a reason\n")
    assert findings_table.findings_markdown([STRUCK]).endswith("No bound was broken.\n")


@pytest.mark.parametrize(("found", "code"), [([STRUCK], 0), ([STRUCK, BROKEN], 1)])
def test_the_exit_code_says_whether_a_bound_was_broken(
    found: list[SoakFinding], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def case(number: int) -> SoakFinding:
        return found[number]

    soaking = Soak([SoakStep("all", [[partial(case, number)] for number in range(len(found))], 1)])
    assert soak_command.finish(soaking, tmp_path / "soak.md") == code
    assert ("BROKEN idle, sse, direct: a reason" in capsys.readouterr().out) == bool(code)
    assert (tmp_path / "soak.md").exists()


def test_every_transport_and_process_has_its_faults() -> None:
    for transport, facts in TRANSPORTS.items():
        struck = {(fault.role, fault.how) for fault in faults_of(transport)}
        roles = {"server", "proxy"} | ({"redis"} if facts.needs_redis else set())
        assert struck == {(role, how) for role in roles for how in ("kill -9", "STOP")}


def test_connections_are_as_many_as_the_open_files_allow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1_250, 1_250))
    assert most_connections(proxied=False) == 1_000
    assert most_connections(proxied=True) == 500
    steps_of("idle", Wanted(("sse",), ("direct", "proxy"), "none", None, is_quick=False))
    said = capsys.readouterr().out
    assert "idle, sse, direct: 1,000 of 10,000 connections" in said
    assert "idle, sse, proxy: 500 of 10,000 connections" in said


@pytest.mark.parametrize(
    ("word", "given"), [("--transport", "sse,pigeon"), ("--scenario", "x"), ("--connections", "0"), ("--profile", "x")]
)
def test_wrong_words_are_named_before_anything_runs(word: str, given: str) -> None:
    done = CliRunner().invoke(soak_command.soak, [word, given])
    assert done.exit_code == 2
    assert word in done.output


def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "soak.md"
    words = ["--quick", "--connections", "2", "--transport", "sse", "--way", "direct", "--scenario", "bad,abort"]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.soak", *words, "--markdown", str(file)],
        stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("takes about ")
        for line in process.stdout:
            if line.startswith("[2/2]"):
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert "interrupted" in rest
    assert "| bad | sse | direct | 2 | server |" in file.read_text()
    assert list(tmp_path.iterdir()) == [file]
