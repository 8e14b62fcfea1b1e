"""What is not installed skips its tests, and fails them where it is required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.programs import VARIABLE, program, required

WEB_UI = Path(__file__).parent / "locust" / "test_web_ui.py"


def test_what_is_there_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "chromium"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program("chromium") == str(own)


def test_what_is_missing_skips_or_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        program("chromium")
    monkeypatch.setenv(VARIABLE, "nginx, chromium")
    with pytest.raises(pytest.fail.Exception, match=f"{VARIABLE} asks for it"):
        program("chromium")


def test_an_old_node_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "node")
    node = tmp_path / "node"
    for version in ("v18.20.4", "v20.0.0"):
        node.write_text(f"#!/bin/sh\necho {version}\n")
        node.chmod(0o755)
        if version == "v20.0.0":
            assert program("node") == str(node)
        else:
            with pytest.raises(pytest.fail.Exception, match="version 20 or newer"):
                program("node")


def test_a_misspelt_requirement_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "chromium,ngnix")
    with pytest.raises(pytest.UsageError, match="unknown ngnix; known: chromium"):
        required()


@pytest.mark.parametrize(
    ("asked", "code", "said"), [("", 0, "skipped"), ("chromium", 1, "asks for it"), ("x", 4, "unknown")]
)
def test_a_whole_test_run_without_a_browser(asked: str, code: int, said: str, tmp_path: Path) -> None:
    environment = os.environ | {"PATH": str(tmp_path), VARIABLE: asked}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(WEB_UI), "-k", "phone"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
