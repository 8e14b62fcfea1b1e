"""`make perf`: what it prints, what it writes, and what it does not."""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench.console import Console
from bench.selfcost import perf_command
from bench.selfcost.cost_report import COLUMNS, append_csv, missed
from bench.selfcost.hottest_functions import hottest_functions
from bench.selfcost.other_programs import OtherPrograms
from bench.selfcost.perf_command import PerfParts, expected_perf_s
from bench.selfcost.proxy_cost import ProxyCost
from bench.selfcost.stream_capacity import SECONDS_PER_TRANSPORT
from bench.selfcost.transport_cost import Floor, Parts, SteadyTraffic, TransportCost

CONTRACT = ["commit", "machine", "transport", "role", "us_per_token", "floor_us_per_token", "ratio"]
FLOOR = Floor(client_us=[10, 10, 900], server_us=[20, 20, 20])
PROXY = ProxyCost(proxy_us=[13, 13, 14], pump_us=[10, 10, 10], direct_ms=[(1, 2)], proxied_ms=[(1.5, 9)])


def cost(client_us: float, server_us: float) -> TransportCost:
    return TransportCost([client_us] * 3, [server_us] * 3, [0.5, 1.5], [0.1] * 3, [Parts(700, 30)] * 3, FLOOR)


PROFILE = """
         2380498 function calls (2364223 primitive calls) in 4.000 seconds

   ncalls  tottime  percall  cumtime  percall filename:lineno(function)
      543    1.500    0.000    0.079    0.000 {built-in method marshal.loads}
        1    1.000    0.280    2.194    2.194 /python3.11/asyncio/runners.py:86(run)
313858/312695    0.500    0.000    0.092    0.000 /clients/core/%s_%s.py:101(feed)
    39121    0.020    0.000    0.033    0.000 {method 'decode_lines' of 'msgspec.json.Decoder' objects and a long name}
"""
COSTS = {"sse": cost(14, 33), "websocket": cost(20, 30)}
COSTS["sse"].decoding_us = [12, 13, 900]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Figures without measuring them, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perf_command, "measure", lambda *_, **__: (COSTS, None))
    monkeypatch.setattr(perf_command, "hottest_functions", lambda role, name, _: PROFILE % (role, name))
    return tmp_path / "results" / "perf.csv"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(perf_command.perf, arguments)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_contract_s_columns_and_a_row_per_role(tmp_path: Path) -> None:
    path = tmp_path / "results" / "perf.csv"
    append_csv(path, COSTS, PROXY)
    append_csv(path, COSTS, None)
    assert path.read_text().splitlines()[0].split(",") == list(COLUMNS) == CONTRACT
    roles = [("sse", "client"), ("sse", "server"), ("websocket", "client"), ("websocket", "server")]
    found = rows(path)
    assert [(row["transport"], row["role"]) for row in found] == [*roles, ("sse", "proxy"), *roles]
    assert len({row["commit"] for row in found}) == 1
    for row in found:
        ratio = float(row["us_per_token"]) / float(row["floor_us_per_token"])
        assert float(row["ratio"]) == pytest.approx(ratio, abs=0.01)
    assert found[4]["ratio"] == "1.30"


def test_the_table_that_comes_with_the_project_has_these_columns() -> None:
    path = Path(__file__).parents[3] / perf_command.RESULTS
    assert path.read_text().splitlines()[0].split(",") == CONTRACT
    assert {row["role"] for row in rows(path)} <= {"client", "server", "proxy"}


def test_goals_stand_beside_the_figures_and_a_missed_one_is_no_failure(made_up: Path) -> None:
    done = call("--only-transports")
    assert done.exit_code == 0
    alone = "parser, decoder and ledger alone take 13.0, 1.20 × the floor"
    apart = "700 CPU µs per request, 30.0 for each further token"
    for words in ("≤ 1.4 met", "≤ 1.6 missed", "≤ 1.8 met", apart, alone):
        assert words in done.output


def test_each_ratio_above_its_goal_and_no_other_is_followed_by_its_profile_in_80_columns(made_up: Path) -> None:
    output = call("--only-transports").output
    assert {line for line in output.splitlines() if line.startswith("why")} == {
        "why the server of sse is above its goal (share of its CPU, by cProfile):",
        "why the client of websocket is above its goal (share of its CPU, by cProfile):",
    }
    assert "   25%  python3.11/asyncio/runners.py:86(run)" in output
    assert "   12%  clients/core/server_sse.py:101(feed)" in output
    assert "   12%  clients/core/client_websocket.py:101(feed)" in output
    assert "marshal" not in output  # imports explain no token's cost
    assert max(map(len, output.splitlines())) <= 80


def test_the_proxy_s_ratio_is_among_those_that_are_shown_with_a_profile() -> None:
    above = ProxyCost(proxy_us=[14, 14, 14], pump_us=[10, 10, 10])
    assert missed({}, above) == [("proxy", "sse")]
    assert missed({}, PROXY) == []


def test_it_writes_only_when_told_to(made_up: Path) -> None:
    assert call("--only-transports").exit_code == 0
    assert not made_up.exists()
    assert call("--only-transports", "--record").exit_code == 0
    assert len(rows(made_up)) == 4


def test_a_figure_is_compared_with_the_floor_beside_it_and_not_with_those_of_other_minutes(tmp_path: Path) -> None:
    # The core became twice as slow in the middle of the run, between a floor and its transport once.
    slowing = TransportCost([10, 20, 30, 30], [13, 13, 26, 26], floor=Floor([10, 10, 20, 20], [10, 10, 20, 20]))
    append_csv(tmp_path / "perf.csv", {"sse": slowing}, None)
    client, server = rows(tmp_path / "perf.csv")
    assert (client["us_per_token"], client["floor_us_per_token"]) == ("25.00", "15.00")
    assert (client["ratio"], server["ratio"]) == ("1.50", "1.30")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--transports", "sse,pigeon"), "pigeon"),
        (("--record", "--streams", "3"), "--record"),
        (("--record", "--seconds", "1"), "--record"),
        (("--profile", "server", "pigeon"), "pigeon"),
        (("--rounds", "0"), "--rounds"),
        (("--profile", "server", "sse", "--record"), "--record"),
        (("--profile", "server", "sse", "--transports", "sse"), "--transports"),
        (("--profile", "server", "sse", "--only-transports"), "--only-transports"),
    ],
)
def test_wrong_words_are_named_before_anything_runs(made_up: Path, arguments: tuple[str, ...], names: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert names in done.output
    assert not made_up.exists()


def test_the_search_prints_every_try_and_its_goal(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perf_command, "measure_delay_ms", lambda name, streams: 5.0 if streams <= 2000 else 50.0)
    output = call("--only-transports", "--scale", "--transports", "sse,websocket,polling").output
    assert "sse: 2250 streams, p99 50.0 ms" in output
    assert "sse: 2000 ≥ 2500 missed" in output
    assert "websocket: 2000 ≥ 2000 met" in output
    assert "polling: 2" not in output


def test_a_table_that_cannot_be_written_is_told_before_anything_is_measured(
    made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any, **__: Any) -> None:
        raise AssertionError("minutes of work for nothing")

    monkeypatch.setattr(perf_command, "measure", measure)
    made_up.parent.write_text("no folder")
    done = call("--only-transports", "--record")
    assert done.exit_code == 2, done.output
    assert "--record: cannot write results/perf.csv: File exists" in done.output


def test_one_that_cannot_be_written_any_more_is_an_error_after_the_figures(
    made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any, **__: Any) -> Any:
        made_up.mkdir(parents=True)
        return COSTS, None

    monkeypatch.setattr(perf_command, "measure", measure)
    done = call("--only-transports", "--record")
    assert done.exit_code == 1
    assert "≤ 1.4 met" in done.output
    assert "Error: cannot write results/perf.csv: Is a directory" in done.output
    assert "appended" not in done.output


def test_on_a_full_disk_no_row_is_half_there(tmp_path: Path) -> None:
    path = tmp_path / "results" / "perf.csv"
    append_csv(path, COSTS, PROXY)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            append_csv(path, COSTS, PROXY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_takes_nothing_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "bench.selfcost", "--rounds", "1"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write to standard output: No space left on device\n"


def test_what_is_expected_follows_what_is_asked() -> None:
    def expected_s(transports: tuple[str, ...], rounds: int = 1, **parts: bool) -> float:
        return expected_perf_s(SteadyTraffic(), rounds, PerfParts(transports, **parts))

    alone = expected_s(("polling",), only_transports=True)
    assert expected_s(("polling",), only_transports=True, scale=True) == alone  # which has no goal to search
    assert expected_s(("chunked",), scale=True) - expected_s(("chunked",)) == SECONDS_PER_TRANSPORT
    assert expected_s(("polling",), 3, only_transports=True) > 2.5 * alone
    longest = expected_perf_s(SteadyTraffic(seconds=60), 1, PerfParts(("chunked",), only_transports=True))
    assert (
        5 * 55 <= longest - expected_s(("chunked",), only_transports=True) < 6 * 55
    )  # two floors, one load, two profiles


def test_a_machine_that_was_busy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is none of ours takes a core."""
    others = OtherPrograms()
    burn = "import time; end = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"
    subprocess.run(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"]
    )
    time.sleep(1)
    assert others.ratio > 0.05
    monkeypatch.setattr(perf_command, "OtherPrograms", lambda: SimpleNamespace(disturb=True, ratio=0.4))
    console = Console(record=True, width=100)
    perf_command.measure(console, SteadyTraffic(), 0, (), with_proxy=False)
    assert "other programs took 40% of a core meanwhile" in console.export_text()


@pytest.mark.extra
def test_a_few_streams_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_cores: list[tuple[str, list[int]]]
) -> None:
    monkeypatch.chdir(tmp_path)
    options: tuple[Any, ...] = ("--rounds", "1", "--streams", "3", "--seconds", "0.2", "--transports", "chunked")
    done = call(*options, "--only-transports")
    assert done.exit_code == 0, done.output
    for word in (
        "takes about 20 s; servers on core [2], load on [5]",
        "round 1 of 1",
        "floor",
        "Chunked",
        "for each further token",
    ):
        assert word in done.output
    assert not list(tmp_path.iterdir())
    loaded = [("servers", [2]), ("clients.load", [5])]
    floor = [("servers", [2]), ("client", [5]), ("server", [2]), ("client", [5])]
    pairs = len(asked_cores[4:]) // 2  # the transport's two, and one for each profile of what was above its goal
    assert pairs >= 2
    assert asked_cores == [*floor, *loaded * pairs]


@pytest.mark.extra
@pytest.mark.parametrize("role", ["client", "server"])
def test_the_hottest_functions_are_those_of_the_role(role: str) -> None:
    table = hottest_functions(role, "sse", SteadyTraffic(streams=3, seconds=0.2), functions=1000)
    assert "tottime" in table
    assert (" /clients/load.py:" in table) == (role == "client")
    assert (" /servers/push.py:" in table) == (role == "server")
