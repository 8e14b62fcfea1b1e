"""What is found of a limit becomes a rule that a proxy can follow."""

from __future__ import annotations

import pytest

from bench.probe.finding import Finding, Findings
from bench.probe.limit_rules import limit_rules
from bench.proxy.behaviours import IdleTimeout, WebsocketClose


@pytest.mark.parametrize(("ending", "code"), [("close 1013", 1013), ("close 4999", 4999), ("close 1005", None)])
def test_a_close_code_that_no_frame_may_have_is_in_no_rule(ending: str, code: int | None) -> None:
    idle = Finding(question="idle", transport="websocket", value=60.0, low=59.9, high=60.1, seen=3, ending=ending)
    (written,) = limit_rules(Findings(urls={}, up_to_s=90.0, started="", findings=(idle,)))
    if code is None:
        assert isinstance(written.rule, IdleTimeout)
    else:
        assert isinstance(written.rule, WebsocketClose)
        assert written.rule.close_code == code
    written.rule.check()
