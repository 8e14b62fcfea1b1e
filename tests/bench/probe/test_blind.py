"""The blind proof: every shipped profile, and real nginx and HAProxy, found out by a probe that is told nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from bench.probe.proof import Proof, prove_emulated, prove_real, running_servers
from bench.probe.real_cases import REAL_CASES
from bench.probe.sweep import Address
from bench.proxy import profile

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.proof]


@pytest.fixture(scope="module")
def servers() -> Iterator[Mapping[str, Address]]:
    with running_servers() as addresses:
        yield addresses


@pytest.fixture(scope="module")
def emulated(servers: Mapping[str, Address]) -> Mapping[str, Proof]:
    return {proof.name: proof for proof in prove_emulated(profile.names(), servers)}


@pytest.fixture(scope="module")
def real(servers: Mapping[str, Address]) -> Mapping[str, Proof]:
    return {proof.name: proof for proof in prove_real(servers)}


def explained(proof: Proof) -> str:
    wrong = [verdict for verdict in proof.verdicts if not verdict.is_right]
    return "\n".join(map(str, (*wrong, *proof.differences, f"survives alike: {proof.survives_alike}", proof.written)))


@pytest.mark.parametrize("name", profile.names())
def test_a_shipped_profile_is_found_out(emulated: Mapping[str, Proof], name: str) -> None:
    assert emulated[name].holds, explained(emulated[name])


@pytest.mark.parametrize(
    "name", [pytest.param(case.name, marks=pytest.mark.needs(case.program)) for case in REAL_CASES]
)
def test_a_real_one_is_found_out(real: Mapping[str, Proof], name: str) -> None:
    assert real[name].holds, explained(real[name])
