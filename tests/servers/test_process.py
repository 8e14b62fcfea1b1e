"""What processes share: ports."""

from __future__ import annotations

from servers.process import free_port, free_ports


def test_ports_asked_for_together_are_others() -> None:
    """One after the other they may be the same: the first is free again when the next is looked for."""
    assert len(set(free_ports(200))) == 200
    assert 0 < free_port() < 65_536
