"""The notebook's questions, on runs whose answers can be worked out on paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import Message, RunBuilder

from bench.analysis.measures.groups import Measurements, measure
from bench.analysis.report import questions
from bench.analysis.report.charts import CHARTS
from bench.analysis.report.report import summarize
from bench.analysis.synthetic import Caricature, synthetic_run
from bench.store import RunFolder, StoreError, link_latest

PNG = b"\x89PNG\r\n\x1a\n"


def asked(folder: RunFolder) -> tuple[RunFolder, Measurements]:
    return folder, measure(folder)


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Measurements]:
    """Six blocks of SSE with its control, chunked (3 times as slow) and polling; 24 messages each."""
    field = (
        Caricature("sse", "", "push", 0.5),
        Caricature("sse", "copy=aa", "push", 0.5),
        Caricature("chunked", "", "push", 1.5),
        Caricature("polling", "", "pull", 1000),
    )
    return asked(synthetic_run(tmp_path_factory.mktemp("race"), blocks=6, messages=24, tokens=30, field=field))


def test_the_first_answer_has_who_stands_where_and_why(race: tuple[RunFolder, Measurements]) -> None:
    summary = summarize(race[0])
    assert questions.answer(summary) == f"**{summary.headline}**"
    board = questions.board(summary.measured)
    assert "behind" in str(board.loc["Polling", "First token [ms]"])
    assert str(board.loc["SSE", "Survival [%]"]).endswith("all equal")
    assert "**Did everything arrive?** *resolved*" in questions.verdicts(summary)


class TestRuns:
    def test_latest_then_newest_then_the_reference(self, tmp_path: Path) -> None:
        for name in ("20260101T000000Z-a", "20260102T000000Z-b", "20260103T000000Z-c", "reference", "unfinished"):
            (tmp_path / name).mkdir()
            if name != "unfinished":
                (tmp_path / name / "streams.parquet").touch()
        link_latest(RunFolder(tmp_path / "20260102T000000Z-b"))
        days = ["20260102T000000Z-b", "20260103T000000Z-c", "20260101T000000Z-a"]
        assert questions.runs(tmp_path) == [*days, "reference"]
        (tmp_path / "latest").unlink()
        (tmp_path / "latest").write_text("20260101T000000Z-a\n")  # where links are not possible
        assert questions.runs(tmp_path)[0] == "20260101T000000Z-a"

    def test_none(self, tmp_path: Path) -> None:
        assert questions.runs(tmp_path) == []


class TestTables:
    def test_facts(self, race: tuple[RunFolder, Measurements]) -> None:
        told = questions.facts(race[1])["synthetic"]
        assert told["cells"] == "4 × 6 blocks"
        assert told["valid messages"] == "576"
        assert told["cpu"] == "none: made-up numbers"

    def test_numbers_have_a_column_for_each_cell(self, race: tuple[RunFolder, Measurements]) -> None:
        tables = questions.numbers(race[1])
        speed, cost = tables["Speed"], tables["Cost and completeness"]
        assert list(speed.columns) == ["Polling", "Chunked", "SSE", "SSE (A/A copy)"]
        assert speed["SSE"]["messages"] == "144"
        assert cost["SSE"]["requests per message"] == "1"
        assert "–" in speed["SSE"]["token delay p50 [ms]"]  # an interval

    def test_what_is_left_out(self, tmp_path: Path) -> None:
        run = RunBuilder(tmp_path)
        run.cell("sse", 1, [Message([(1, 2)])])
        run.cell("sse", 2, [Message([(1, 2)])], status="void", reasons=["load came late: p99 20 ms > 5 ms"])
        left_out = questions.excluded(measure(run.write()))
        assert left_out.to_dict("records") == [
            {"cell": "sse", "status": "void", "blocks": "2", "why": "load came late: p99 20 ms > 5 ms"}
        ]


class TestCharts:
    def test_every_chart_with_data_is_a_picture(self, race: tuple[RunFolder, Measurements]) -> None:
        found = {chart.name: questions.chart(race[1], chart) for chart in CHARTS}
        assert {name for name, data in found.items() if data is not None} >= {"ttft", "delay", "staircase", "cpu"}
        assert all(data.startswith(PNG) for data in found.values() if data is not None)


class TestAgainst:
    def test_a_difference(self, race: tuple[RunFolder, Measurements]) -> None:
        told = questions.against(race[1], "Chunked", "SSE")
        assert told.startswith("**token delay p50** over 6 common blocks: Chunked 1.")
        assert "Chunked ÷ SSE = " in told
        assert "A difference:" in told

    def test_equal_cells_are_not_resolved(self, race: tuple[RunFolder, Measurements]) -> None:
        assert "Not resolved:" in questions.against(race[1], "SSE", "SSE (A/A copy)")

    def test_a_sample_too_small_has_no_number(self, race: tuple[RunFolder, Measurements]) -> None:
        told = questions.against(race[1], "Chunked", "SSE", "first token", 99)  # needs 368 messages, has 144
        assert "Chunked – ms and SSE – ms" in told
        assert "Nothing to compare" in told

    def test_a_percentile_that_nobody_computes(self, race: tuple[RunFolder, Measurements]) -> None:
        told = questions.against(race[1], "Chunked", "SSE", "first token over the model's own", 95)
        assert told == "There is no p95 of “first token over the model's own”; take another percentile."

    def test_only_common_blocks_are_compared(self, tmp_path: Path) -> None:
        run = RunBuilder(tmp_path)
        for block in (1, 2, 3):
            run.cell("sse", block, [Message([(10, 12)])])
        for block in (2, 3, 4):
            run.cell("chunked", block, [Message([(10, 14 if block < 4 else 1000)])])
        told = questions.against(measure(run.write()), "Chunked", "SSE", "first token")
        assert "over 2 common blocks: Chunked 14 (14.0–14.0) ms and SSE 12 (12.0–12.0) ms" in told
        assert "No claim: 2 valid blocks, 5 needed." in told

    def test_cells_under_other_conditions_are_said_to_be(self, tmp_path: Path) -> None:
        run = RunBuilder(tmp_path)
        for block in range(1, 7):
            run.cell("sse", block, [Message([(10, 12)])])
            run.cell("chunked", block, [Message([(10, 112)])], profile="nginx")
        told = questions.against(measure(run.write()), "Chunked · nginx", "SSE")
        assert "A difference:" in told
        assert told.endswith("did not run under the same conditions.")

    def test_an_unknown_cell_is_named_with_those_that_there_are(self, race: tuple[RunFolder, Measurements]) -> None:
        with pytest.raises(KeyError, match=r"no valid cell 'Pigeon'.*Polling, Chunked"):
            questions.against(race[1], "Pigeon", "SSE")


def test_where_the_delay_comes_from(race: tuple[RunFolder, Measurements]) -> None:
    figure = questions.stages_figure(race[1])
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(questions.STAGES.values())
    assert [len(axes.texts) for axes in figure.axes] == [4, 4]  # a number for each cell
    assert questions.png(figure).startswith(PNG)


def test_cells_side_by_side_say_nothing_of_speed(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, {"plan": {"parallel": 8}})
    run.cell("sse", 1, [Message([(10, 15)])], server_cpu_s=0.01)
    run.cell("chunked", 1, [Message([(10, 16)])], server_cpu_s=0.01)
    measured = measure(run.write())
    assert questions.stages_figure(measured) is None
    assert "No claim: cells ran side by side" in questions.against(measured, "SSE", "Chunked")
    assert list(questions.cost_at(measured, 10)) == ["requests/s", "Mbit/s"]
    assert "Speed" not in questions.numbers(measured)


class TestMessages:
    @pytest.fixture
    def three(self, tmp_path: Path) -> tuple[RunFolder, Measurements]:
        """First tokens 5, 2 and 1 ms over the model's own, the last of them lost its second token."""
        run = RunBuilder(tmp_path)
        lost = Message([(10, 11)], expected=2, outcome="truncated")
        run.cell("sse", 1, [Message([(10, 15), (20, 25)]), Message([(10, 12), (12, 12)]), lost])
        return asked(run.write())

    def test_soonest_and_latest(self, three: tuple[RunFolder, Measurements]) -> None:
        soonest = questions.message(*three, "SSE", "soonest")
        assert list(soonest.tokens["received [ms]"]) == [12, 12]
        assert soonest.tokens["delay [ms]"].tolist() == [2, 0]
        assert (
            "ok, first token after 12 ms, 2 ms of it over the model's own; tokens 2 of 2, reads 1" in soonest.sentence
        )
        assert questions.message(*three, "SSE").tokens["delay [ms]"].tolist() == [5, 5]
        latest = questions.message(*three, "SSE", "latest")  # failed: infinitely late
        assert "truncated, first token after ∞ ms" in latest.sentence
        assert "tokens 1 of 2" in latest.sentence

    def test_by_name(self, three: tuple[RunFolder, Measurements]) -> None:
        assert questions.message_named(*three, "b01-0-1").row["stream_id"] == "b01-0-1"
        with pytest.raises(StoreError, match="no valid cell has a message 'nobody'"):
            questions.message_named(*three, "nobody")

    def test_a_picture_unless_nothing_came(self, three: tuple[RunFolder, Measurements], tmp_path: Path) -> None:
        figure = questions.message_figure(questions.message(*three, "SSE"))
        assert figure is not None
        assert questions.png(figure).startswith(PNG)
        run = RunBuilder(tmp_path / "nothing")
        run.cell("sse", 1, [Message([(1, 2)]), Message([], expected=3, outcome="refused")])
        assert questions.message_figure(questions.message(*asked(run.write()), "SSE", "latest")) is None


def test_what_so_many_users_take(tmp_path: Path) -> None:
    """Two messages of two tokens, 3 requests and 500 bytes each, 8 ms of server CPU in all."""
    run = RunBuilder(tmp_path)
    facts = {"requests": 3, "bytes_in": 400, "bytes_out": 100}
    messages = [Message([(10, 15), (20, 25)], facts=facts)] * 2
    run.cell("sse", 1, messages, server_cpu_s=0.008, client_cpu_s=0.1)
    run.cell("sse", 1, messages, variant={"copy": "aa"}, server_cpu_s=0.008)
    table = questions.cost_at(measure(run.write()), users=3600, messages_per_hour=10)  # ten messages a second
    assert table.to_dict("index") == {
        "SSE": {"requests/s": "30", "Mbit/s": "0.0400", "server cores, with Redis": "0.0400", "of these Redis": "0"}
    }


def test_what_users_take_of_whom_nobody_got_anything(tmp_path: Path) -> None:
    """No token was delivered, so there is no cost per token; requests and bytes were spent all the same."""
    run = RunBuilder(tmp_path)
    message = Message([], expected=3, outcome="refused", facts={"bytes_in": 0, "bytes_out": 100})
    run.cell("sse", 1, [message], server_cpu_s=0.001)
    table = questions.cost_at(measure(run.write()), users=3600, messages_per_hour=10)
    assert list(table.loc["SSE"]) == ["10", "0.00800", "–", "–"]
