"""What the documents say can be typed as it stands there: commands, options, variables, files."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml

from bench.cli import cli, main
from bench.injuries.injuries_command import injuries
from bench.proxy import profile
from bench.run_record import CellRecord, Run
from bench.selfcost.perf_command import perf
from bench.soak.soak_command import soak
from clients import columns
from clients.core.record import Outcome
from clients.locusts.options import add_arguments

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "results/README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
FOLDERS = (".", "bench", "clients", "servers", "tests", "results/reference")
NAMES = {path.name for folder in FOLDERS for path in (ROOT / folder).glob("*" if folder == "." else "**/*")}
PLACEHOLDERS = {
    "COMMAND": "run",
    "KEY=VALUE": "ttft_ms_p95=800",
    "FILE…": "README.md",
    "questions.txt": "README.md",
    "HOST:PORT": "127.0.0.1:8000",
    "TRANSPORT": "sse",
    "TRANSPORT=URL": "sse=http://127.0.0.1:8000",
    "URL": "http://127.0.0.1:8000",
    "<name>": "noop",
}
OF_OTHERS = {  # files that a reader may have, or that others have
    *("my.toml", "mine.toml", "proxy.jsonl", "my-firewall.toml", "calibration.json", "request_stats.py"),
}
SHELL = {"&", "|", ">", ">>"}  # where what a program is told ends
OTHER_VARIABLES = {
    *("TOKENDERBY_GIT_COMMIT", "TOKENDERBY_ENGINE", "TOKENDERBY_REQUIRE", "TOKENDERBY_COMPLETE"),
    "TOKENDERBY_OPENAI_API",
}
LEAST = {  # what a command cannot do without
    "proxy": ["--upstream", "h:1"],
    "serve": ["sse"],
    "compare": ["a", "b"],
    "decide": ["aws-alb"],
    "record": ["--source", "openai", "--messages", "README.md", "--out", "a.jsonl"],
    "import": ["README.md", "--out", "a.jsonl"],
}
LOCUST_S_OWN = {
    "--headless",
    "--host",
    "--class-picker",
    "--worker",
    "--master",
    "--expect-workers",
    "--master-host",
    "--web-host",
}
OF_OTHER_TOOLS = {  # aiperf's, guidellm's, docker's, gunicorn's, uvicorn's
    *("--timeout", "--workers", "--timeout-graceful-shutdown"),
    *("--concurrency", "--prompt-input-tokens-mean", "--output-tokens-mean", "--extra-inputs"),
    *("--use-server-token-count", "--constraint", "--tokenizer", "--data", "--cpuset-cpus"),
}

Parse = Callable[[list[str]], click.Context]


def code_of(document: str) -> Iterator[tuple[str, bool]]:
    """Every piece of code in a document, and whether it is a whole line, to be typed."""
    fenced = False
    for line in (ROOT / document).read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ "), True
        else:
            yield from ((found, False) for found in re.findall(r"`([^`]+)`", line))


CODE = [(document, text, whole) for document in DOCUMENTS for text, whole in code_of(document)]


def words_of(code: str) -> tuple[dict[str, str], list[str]]:
    """A command line's assignments before the command, and its words; comments and `&` are left out."""
    try:
        words = shlex.split(code, comments=True)
    except ValueError:
        return {}, []
    words = [word.removeprefix(".venv/bin/") for word in takewhile(lambda word: word not in SHELL, words)]
    given = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        given[name] = value
    return given, words


def typed(program: str) -> list[Any]:
    """Where a document names a command line of `program`: the document, its words, whether it is a whole line."""
    found = [(document, words_of(text)[1], whole) for document, text, whole in CODE]
    return [
        pytest.param(words, whole, id=f"{document}: {' '.join(words)}")
        for document, words, whole in found
        if words and words[0] == program and len(words) > 1
    ]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Parse:
    """Read a command line of `tokenderby` as it would be read, and run nothing."""
    contexts: list[click.Context] = []
    invoke = click.Command.invoke

    def invoke_no_more(command: click.Command, context: click.Context) -> Any:
        if isinstance(command, click.Group) or "arguments" in context.params:  # it hands the words on
            return invoke(command, context)
        return contexts.append(context)

    monkeypatch.setattr(click.Command, "invoke", invoke_no_more)

    def read(words: list[str]) -> click.Context:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0, capsys.readouterr().err
        return contexts[-1] if contexts else click.Context(cli)

    return read


@pytest.mark.parametrize(("words", "whole"), typed("tokenderby"))
def test_a_command_can_be_typed_as_it_stands_there(parse: Parse, words: list[str], whole: bool) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in words[1:]]
    try:
        parse(words)
    except AssertionError as error:
        if whole or "Missing" not in str(error):  # in a sentence a command need not be whole
            raise


def test_what_goes_through_docker_can_be_typed_too(parse: Parse) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    seen = 0
    for given, words in (words_of(text) for _, text, _ in CODE):
        if words[:2] != ["docker", "compose"] or len(words) < 3:
            continue
        seen += 1
        if given.get("RUN_OPTIONS"):
            parse(["run", *([given["PLAN"]] if given.get("PLAN") else []), *shlex.split(given["RUN_OPTIONS"])])
        if words[2] == "run" and "tokenderby" in words:
            parse(words[words.index("tokenderby") + 1 :])
        elif words[2] in ("up", "stop", "logs"):
            names = [word for word in words[3:] if not word.startswith("-") and "=" not in word]
            assert set(names) <= set(services), words
    assert seen > 10


@pytest.mark.parametrize(("words", "whole"), typed("make"))
def test_a_goal_is_one_of_the_makefile_s(words: list[str], whole: bool) -> None:
    goals = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    arguments = [shlex.split(word.partition("=")[2]) for word in words if word.startswith("ARGS=")]
    named = [word for word in words[1:] if "=" not in word]
    assert set(named) <= goals
    for given in arguments:
        {"perf": perf, "soak": soak, "injuries": injuries}[named[0]].make_context(named[0], given)


@pytest.mark.parametrize("program", ["python", "locust"])
def test_the_files_that_are_called_exist(program: str) -> None:
    called = [word for param in typed(program) for word in param.values[0] if re.search(r"\.py|^tests", word)]
    assert called
    for file in (file for word in called for file in word.split(",")):
        assert (ROOT / file).exists(), file


def told_to_locust() -> SimpleNamespace:
    """The options that Locust's parser is told of, and their variables."""
    told = SimpleNamespace(options=set(), variables=set())
    parser = SimpleNamespace(
        add_argument=lambda name, **more: (told.options.add(name), told.variables.add(more["env_var"]))
    )
    add_arguments(parser)
    knee = (ROOT / "clients" / "locust_knee.py").read_text()
    for name in re.findall(r'add_argument\(parser, "([a-z-]+)"', knee):
        told.options.add(f"--{name}")
        told.variables.add(f"TOKENDERBY_{name.upper().replace('-', '_')}")
    return told


def options_of_ours(parse: Parse) -> dict[str, click.Option]:
    """Every option of every command, by `command --name`."""
    commands = {name: parse([name, *LEAST.get(name, [])]).command for name in cli.commands}
    commands |= {"perf": perf, "soak": soak, "injuries": injuries}
    return {
        f"{name} {word}": parameter
        for name, command in commands.items()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for word in parameter.opts
    }


def test_every_option_that_is_named_exists(parse: Parse) -> None:
    known = {key.partition(" ")[2] for key in options_of_ours(parse)} | told_to_locust().options | LOCUST_S_OWN
    known |= OF_OTHER_TOOLS
    known |= {"--tools", "--only", "--streams", "--install", "--write"}  # scripts/referees.py
    known |= {"--help", "--version", "--<name>-url", "--runs", "--run"}  # the last two: bench.analysis.simulation
    for document, text, _ in CODE:
        if re.match(r"--[a-z<]|locust ", text):
            for word in re.findall(r"(?<![\w-])--[a-z<][a-z<>-]+", text):
                assert word in known, f"{document}: {word}"


def test_every_option_of_locust_stands_in_its_document() -> None:
    text = (ROOT / "docs" / "locust.md").read_text()
    assert [option for option in sorted(told_to_locust().options) if f"`{option}`" not in text] == []


def test_every_option_has_the_variable_of_its_name_and_it_works(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its help says it: TOKENDERBY_RUN_BLOCKS for `run --blocks`."""
    shared = {"--auth-token", "--redis-url", "--target-token"}  # of several commands, or secrets
    values = {
        "--target": "sse=http://127.0.0.1:1",
        "--redis-url": "redis://127.0.0.1",
        "--host": "127.0.0.1",
        "--allow-origin": "http://127.0.0.1",
        "--listen": "127.0.0.1:0",
        "--port": "8010",
        "--upstream": "127.0.0.1:1",
        "--slo": "ttft_ms_p95=1",
        "--messages": "README.md",
        "--source": "openai",
        "--up-to": "90s",
    }
    for key, option in options_of_ours(parse).items():
        command, _, word = key.partition(" ")
        if command in ("perf", "soak", "injuries") or word in ("--help", "-h"):
            continue
        prefix = "TOKENDERBY" if word in shared else f"TOKENDERBY_{command.upper()}"
        variable = f"{prefix}_{word.strip('-').upper().replace('-', '_')}"
        number = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
        monkeypatch.setenv(variable, values.get(word, "1" if number or option.is_flag else "sse"))
        context = parse([command, *_without(word, LEAST.get(command, []))])
        monkeypatch.delenv(variable)
        source = context.get_parameter_source(option.name or "")
        assert source is click.core.ParameterSource.ENVIRONMENT, f"{variable}: {source}"


def _without(option: str, words: list[str]) -> list[str]:
    """The words without that option and its value."""
    place = words.index(option) if option in words else len(words)
    return words[:place] + words[place + 2 :]


def test_every_variable_that_is_named_exists(parse: Parse) -> None:
    known = OTHER_VARIABLES | told_to_locust().variables | {"TOKENDERBY_AUTH_TOKEN", "TOKENDERBY_TARGET_TOKEN"}
    known |= {f"TOKENDERBY_{key.upper().replace(' --', '_').replace('-', '_')}" for key in options_of_ours(parse)}
    known |= {"TOKENDERBY_REDIS_URL"}
    for document in DOCUMENTS:
        for name in re.findall(r"TOKENDERBY_[A-Z_]+", (ROOT / document).read_text()):
            assert name in known, f"{document}: {name}"


def anchors(document: Path) -> set[str]:
    """What a code host calls the headings of a document."""
    headings = re.findall(r"(?m)^#+ (.*)$", document.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_heading_that_is_linked_exists(document: str) -> None:
    path = ROOT / document
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", path.read_text()):
        assert anchor in anchors(path.parent / link if link else path), f"{link}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    for link in re.findall(r"\]\(([^)#]+)", text):
        if not link.startswith("http"):
            assert ((ROOT / document).parent / link).exists(), link
    for word in re.findall(r"`([\w./-]+\.(?:py|md|toml|yml|ipynb|csv|html|txt|json))`", text):
        if Path(word).name not in OF_OTHERS:
            exists = (ROOT / word).exists() or ((ROOT / document).parent / word).exists() or word in NAMES
            assert exists, word


def test_every_column_and_field_of_a_run_stands_in_a_document() -> None:
    """Whoever opens a run's folder finds there what each name means."""
    said = set(re.findall(r"`([a-z0-9_]+)`", "".join((ROOT / document).read_text() for document in DOCUMENTS)))
    tables = {column.name for column in (*columns.CELL, *columns.MESSAGE, *columns.TOKEN, *columns.PAINTED)}
    fields = {field for kind in (Run, CellRecord) for field in kind.__struct_fields__}
    estimates = {re.sub(r"_p(95|99)$", "_p50", column) for column in columns.SUMMARY}  # the others are named in short
    assert sorted((tables | fields | estimates | set(Outcome)) - said) == []


def test_the_number_of_profiles() -> None:
    """An intermediary more is a number more in the README."""
    assert f"has {len(profile.names())} profiles" in " ".join((ROOT / "README.md").read_text().split())


def linked(document: Path) -> set[Path]:
    """The files that a document links to, its pictures included."""
    text = document.read_text()
    links = re.findall(r"\]\(([^)#]+)", text) + re.findall(r'<img src="([^"]+)"', text)
    return {(document.parent / link).resolve() for link in links if not link.startswith("http")}


def test_every_page_can_be_reached_from_the_readme_and_every_picture_is_there() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        files = linked(page)
        assert [file for file in files if not file.exists()] == [], page.name
        new |= {file for file in files if file.suffix == ".md"} - reached
    assert sorted({ROOT / document for document in DOCUMENTS} - reached) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_heading_stands_twice(document: str) -> None:
    """A link to it could lead to one of them only."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", (ROOT / document).read_text()))
    assert [heading for heading in headings if headings.count(heading) > 1] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_row_belongs_to_a_table(document: str) -> None:
    """An empty line ends a table; what follows is shown as text full of bars."""
    text = re.sub(r"(?ms)^```.*?^```", "", (ROOT / document).read_text())
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, rule, *rows = table.splitlines()
        assert re.fullmatch(r"\|(?: *:?-+:? *\|)+", rule), f"{head} is the head of no table"
        assert {row.replace(r"\|", "").count("|") for row in rows} <= {rule.count("|")}, head


def test_the_readme_s_table_is_the_reference_run() -> None:
    with (ROOT / "results" / "reference" / "summary.csv").open() as file:
        runs = {row["transport"]: row for row in csv.DictReader(file) if not row["variant"]}
    of = {"Blocking (no streaming)": "blocking", "Polling every second": "polling"}
    rows = re.findall(r"(?m)^\| ([A-Z][^|]+) \|(.* ms \|.*)\|$", (ROOT / "README.md").read_text())
    assert len(rows) == len(runs)
    columns_shown = [
        *("ttft_overhead_ms_p50", "delay_ms_p50", "delay_ms_p99", "wait_s_per_answer", "burst_tokens_mean"),
        *("requests_per_message", "bytes_per_token", "wire_bytes_per_token"),
    ]
    for name, cells in rows:
        run = runs[of.get(name, name.lower())]
        measured = [float(run[column]) * (1000 if column == "wait_s_per_answer" else 1) for column in columns_shown]
        measured.append(float(run["client_cpu_us_per_token"]) + float(run["server_cpu_us_per_token"]))
        for said, value in zip(re.findall(r"[\d.]+", cells), measured, strict=True):
            assert float(said) == pytest.approx(value, abs=0.5 * 10.0 ** -len(said.partition(".")[2]) + 1e-9), name
    late_ms = float(runs["polling"]["ttft_overhead_ms_p50"])
    assert f"So the {late_ms:.0f} ms by which" in (ROOT / "docs" / "metrics.md").read_text()
