"""The blind proof: every shipped profile, and real nginx and HAProxy, found out by a probe that is told nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from support.programs import PROGRAMS

from bench.probe.proof import Proof, prove, running_servers
from bench.probe.real_cases import REAL_CASES
from bench.probe.sweep import ServerAddress
from bench.proxy import profile

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.proof]


@pytest.fixture(scope="module")
def servers() -> Iterator[Mapping[str, ServerAddress]]:
    with running_servers() as addresses:
        yield addresses


@pytest.fixture(scope="module")
def proofs(request: pytest.FixtureRequest, servers: Mapping[str, ServerAddress]) -> Mapping[str, Proof]:
    """The proofs of what was selected, all side by side: tried again, what failed is proved alone."""
    chosen = {item.name.partition("[")[2].removesuffix("]") for item in request.session.items}
    cases = [case for case in REAL_CASES if case.name in chosen and PROGRAMS[case.program][0]()]
    names = [name for name in profile.names() if name in chosen]
    return {proof.name: proof for proof in prove(names, cases, servers)}


def explained(proof: Proof) -> str:
    wrong = [verdict for verdict in proof.verdicts if not verdict.is_right]
    return "\n".join(map(str, (*wrong, *proof.differences, f"survives alike: {proof.survives_alike}", proof.written)))


@pytest.mark.parametrize("name", profile.names())
def test_a_shipped_profile_is_found_out(proofs: Mapping[str, Proof], name: str) -> None:
    assert proofs[name].holds, explained(proofs[name])


@pytest.mark.parametrize(
    "name", [pytest.param(case.name, marks=pytest.mark.needs(case.program)) for case in REAL_CASES]
)
def test_a_real_one_is_found_out(proofs: Mapping[str, Proof], name: str) -> None:
    assert proofs[name].holds, explained(proofs[name])
