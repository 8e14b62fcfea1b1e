"""Options of `run` that would change nothing of a plan: who types one means something by it, and is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bench.plan import Plan
from bench.table_checks import PlanError
from servers.transport import ENDPOINTS


@dataclass(frozen=True)
class _Needs:
    """What the cells of a plan make use of, each with its `targets`."""

    plan: Plan
    targets: Mapping[str, str]

    @property
    def asked(self) -> set[str]:
        """The transports that carry messages, those that a fallback goes over to too."""
        return {name for cell in self.plan.cells for name in self.plan.order_of(cell)}

    def unused(self) -> dict[str, str]:
        """The options without a use, by their argument's name, and why that is so."""
        targets = {name: url for name, url in self.targets.items() if name in self.asked}
        found = {}
        if not self.asked & set(ENDPOINTS):
            found["model"] = "no cell of this plan asks an endpoint; takes --transports openai beside it"
        if not set(targets) - set(ENDPOINTS):
            key = "; an endpoint's key is in OPENAI_API_KEY" if targets else "; takes --target beside it"
            found["target_token"] = f"no cell of this plan asks a server that runs already{key}"
        if not any(url.startswith("https:") for url in targets.values()):
            found |= dict.fromkeys(("cafile", "insecure"), "no cell of this plan asks an https target")
        if all(self.plan.load_of(cell).arrivals == "trace" for cell in self.plan.cells):
            found["streams"] = "a trace says how many messages there are; see trace_s in the plan's [load]"
        return found


def check_used(typed: Collection[str], plan: Plan, targets: Mapping[str, str]) -> None:
    """Raise PlanError if one of the options `typed` has no use with `plan` and its `targets`.

    An option goes by its argument's name. What the environment says is for all runs, and is left alone where it means
    nothing; so is what only says where something is, `--target`, `--redis-url` and `--target-wait`: Compose gives every
    plan those of all transports.
    """
    for name, why in _Needs(plan, targets).unused().items():
        if name in typed:
            raise PlanError(f"--{name.replace('_', '-')}: {why}")
