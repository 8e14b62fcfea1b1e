"""A stack's own server that does not begin to serve: whether it ended or is only late."""

from __future__ import annotations

import pytest

from servers.process import free_port
from servers.stacks import ready


@pytest.mark.parametrize(
    ("lives", "told"), [(True, "did not answer within 0.2 s"), (False, "ended before it began to serve")]
)
async def test_what_it_did_is_said(lives: bool, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "READY_S", 0.2)
    with pytest.raises(OSError, match=told):
        await ready.until_ready("127.0.0.1", free_port(), lambda: lives)
