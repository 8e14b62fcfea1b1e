"""The one helper that starts, reads, meters and ends the processes that are measured."""

from __future__ import annotations

import os
import pstats
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.selfcost.child_process import ChildError, running

BUSY = """
import json, time
end_s = time.process_time() + 0.2
while time.process_time() < end_s: pass
print(json.dumps({"ready": True}), flush=True)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module of the text, which children can run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(text: str) -> str:
        (tmp_path / "selfcost_child.py").write_text(text)
        return "selfcost_child"

    return make


def gone(pid: int, patience_s: float = 10) -> bool:
    end_s = time.monotonic() + patience_s
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no pinning here")
def test_it_stays_on_its_cores_from_the_first_line_on(program: Callable[[str], str]) -> None:
    core = max(os.sched_getaffinity(0))
    name = program("import json, os\nprint(json.dumps({'cores': list(os.sched_getaffinity(0))}))")
    with running(name, cores=[core]) as child:
        assert child.line()["cores"] == [core]
    with running(name) as child:
        assert set(child.line()["cores"]) == os.sched_getaffinity(0)


def test_it_is_told_its_arguments_and_its_input(program: Callable[[str], str]) -> None:
    name = program("import json, sys\nprint(json.dumps({'words': sys.argv[1:], 'read': sys.stdin.read()}))")
    with running(name, "a", "b c", standard_input=b"job") as child:
        assert child.line() == {"words": ["a", "b c"], "read": "job"}


def test_lines_before_the_one_that_is_waited_for_are_passed_over(program: Callable[[str], str]) -> None:
    name = program("print('{\"done\": 1}'); print('{\"done\": 2}'); print('{\"messages\": 3}')")
    with running(name) as child:
        assert child.line_with("messages", limit_s=30) == {"messages": 3}


@pytest.mark.parametrize(
    ("text", "limit_s", "said"),
    [
        ("import time; time.sleep(60)", 0.2, "said nothing"),
        ("import sys; sys.exit(3)", 30, "ended$"),
        ("print('Hello')", 30, "said b'Hello"),
        ("print('[1]')", 30, "said b'\\[1]"),
        ("import time; print('x' * 2**21, end='', flush=True); time.sleep(60)", 30, "said b'xxx"),
        ("print('{\"address\": 1}')", 30, "ended"),
        ("import time\nwhile True: print('{}', flush=True); time.sleep(0.01)", 0.5, "said nothing"),
    ],
)
def test_a_child_that_does_not_answer_is_an_error_within_its_limit(
    program: Callable[[str], str], text: str, limit_s: float, said: str
) -> None:
    with running(program(text)) as child, pytest.raises(ChildError, match=said):
        child.line_with("url", limit_s)


def test_its_cpu_time_counts_what_it_started(program: Callable[[str], str]) -> None:
    busy = f"{BUSY}time.sleep(60)"
    name = program(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])")
    with running(name) as child:
        child.line()
        assert child.cpu_s() >= 0.2
    with pytest.raises(ChildError, match="gone"):
        child.cpu_s()


def test_whatever_it_started_ends_with_it(program: Callable[[str], str]) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    name = program(
        "import json, subprocess, sys, time\n"
        f"kid = subprocess.Popen([sys.executable, '-c', {stubborn!r}])\n"
        "print(json.dumps({'kid': kid.pid}), flush=True)\ntime.sleep(60)"
    )
    with running(name) as child:
        kid = child.line()["kid"]
    assert gone(kid)


def test_a_farewell_after_sigterm_can_be_read_and_is_not_cut_short(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    name = program(
        "import pathlib, signal, sys, time\n"
        "def end(number, _):\n"
        "    signal.signal(number, signal.SIG_DFL)  # another one would be deadly\n"
        "    print('{\"bye\": 1}', flush=True); time.sleep(0.3); pathlib.Path(sys.argv[1]).touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('{}', flush=True)\n"
        "while True: time.sleep(0.1)"  # a signal just before signal.pause() would not end it
    )
    last_deed = tmp_path / "done"
    with running(name, str(last_deed)) as child:
        child.line()
        child.terminate()
        assert child.line() == {"bye": 1}
    assert last_deed.exists()


def test_under_the_profiler_it_leaves_what_it_spent_where(program: Callable[[str], str], tmp_path: Path) -> None:
    name = program(
        "import sys\ndef burn():\n    return sum(range(10**6))\n"
        "if __name__ == '__main__':\n    burn(); print('{}', flush=True); sys.exit(1)"
    )
    file = tmp_path / "profile"
    with running(name, profile=file) as child:
        child.line()
        with pytest.raises(ChildError):
            child.line()
    functions = {function for _, _, function in pstats.Stats(str(file)).stats}  # type: ignore[attr-defined]
    assert "burn" in functions
