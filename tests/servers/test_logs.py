"""A server's log under a flood."""

from __future__ import annotations

import logging

import pytest

from servers.logs import RateLimit


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
