"""The browser module in Node, unbundled: Node's own test runner over the files beside this one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.programs import program

HERE = Path(__file__).parent
pytestmark = pytest.mark.needs("node")


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda file: file.name)
def test_in_node(file: Path) -> None:
    words = [program("node"), "--test", "--test-reporter=tap", str(file)]  # from Node 23 on another one is the default
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "\n# fail 0\n" in done.stdout
    assert "\n# pass 0\n" not in done.stdout
