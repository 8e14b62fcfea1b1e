"""A server's log under a flood."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from servers.logs import BURST, RateLimit


def test_a_flood_becomes_some_lines_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("flooded")
    limit = RateLimit(burst=3, per_s=0)
    caplog.handler.addFilter(limit)
    try:
        for k in range(1000):
            logger.error("fault %d", k)
        limit._left = 1
        logger.error("fault %d", 1000)
    finally:
        caplog.handler.removeFilter(limit)
    assert caplog.messages == ["fault 0", "fault 1", "fault 2", "fault 1000 (997 before it were left out)"]


def test_a_server_s_own_log_is_limited() -> None:
    """In a process of its own: here the log is pytest's."""
    program = "import logging; from servers import logs; logs.set_up('sse'); [logging.error('x') for _ in range(1000)]"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stderr
    assert said.startswith("sse: x\n")
    assert BURST <= said.count("\n") < 2 * BURST
