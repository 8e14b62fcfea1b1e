"""No-op: passes everything on. What it costs is the proxy itself."""

from __future__ import annotations

from bench.proxy.rule import Draw, Rule
from bench.proxy.stage import Context, Stage


class Noop(Rule, frozen=True, kw_only=True):
    """No parameters."""

    name = "noop"

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return Stage(self.name, chain)

    def deed(self) -> str:
        return "passes everything on"
