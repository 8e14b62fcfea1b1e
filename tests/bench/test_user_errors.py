"""Errors for people: one tree, documented in one place, whose exit codes hold however a command is called."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import main
from servers import user_errors

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("servers", "clients", "bench") for path in (ROOT / folder).rglob("*.py")]


def test_the_documented_tree_is_the_whole_tree() -> None:
    text = "\n".join(path.read_text() for path in SOURCES)
    bases = dict(re.findall(r"^class (\w+)\((\w+)", text, re.MULTILINE))
    tree = {"UserError"}
    while more := {name for name, base in bases.items() if base in tree} - tree:
        tree |= more
    assert user_errors.__doc__
    assert tree == set(re.findall(r"^ +[│├└─ ]*(\w+) {2,}", user_errors.__doc__, re.MULTILINE))


def test_an_error_that_says_what_to_give_instead_is_of_the_tree() -> None:
    """No command has to know an error of its own: those left are for programs, and the tree's docstring names them."""
    found = [
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path in SOURCES
        for name, base in re.findall(r"^class (\w+Error)\((\w+)", path.read_text(), re.MULTILINE)
        if base in ("Exception", "ValueError", "RuntimeError") and name not in (user_errors.__doc__ or "")
    ]
    assert found == ["servers/polling/link.py: RedisError"]  # of one command, which the store answers


@pytest.mark.parametrize("command", ["serve", "proxy"])
def test_what_cannot_be_done_here_is_exit_code_1_and_a_line(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = {
            "serve": ["sse", "--port", str(port)],
            "proxy": ["--upstream", "127.0.0.1:9", "--listen", f"127.0.0.1:{port}"],
        }
        with pytest.raises(SystemExit) as ended:
            main([command, *words[command]])
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said.startswith("tokenderby: ")
    assert said.count("\n") == 1
    assert "Address already in use" in said  # the system's words alone: asyncio's have numbers and a Python tuple
    assert "(" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_standard_output_is_not_blamed_on_the_address() -> None:
    """The line that says where a process serves is lost: an error of the system's, as a taken port is one."""
    served = ("bench.cli serve sse", "bench.cli proxy --upstream 127.0.0.1:9")
    with Path("/dev/full").open("wb") as full:
        started = [
            subprocess.Popen([sys.executable, "-m", *words.split()], stdout=full, stderr=subprocess.PIPE, text=True)
            for words in served
        ]
    for words, process in zip(served, started, strict=True):
        said = process.communicate(timeout=60)[1]
        assert (process.returncode, said.count("\n")) == (1, 1), (words, said)
        assert said.endswith(": cannot write to standard output: No space left on device\n")


def test_an_error_of_tls_is_not_called_by_the_system_s_words_for_its_number() -> None:
    assert user_errors.reason(ssl.SSLError(1, "[SSL] wrong version number")) == "[SSL] wrong version number"
    assert user_errors.reason(ConnectionRefusedError(111, "Connect call failed ('::1', 1)")) == "Connection refused"
    assert user_errors.reason(TimeoutError()) == "TimeoutError"


def test_the_systems_words_for_its_errors_are_asked_for_in_one_place() -> None:
    """By themselves they are None where an error has no number, as pyarrow's, or begin with it."""
    own = [path.relative_to(ROOT).as_posix() for path in SOURCES if ".strerror" in path.read_text()]
    assert own == ["servers/user_errors.py"]
    assert user_errors.reason(OSError("no number")) == "no number"
    assert user_errors.reason(ConnectionResetError(104, "[Errno 104] whatever")) == "Connection reset by peer"
