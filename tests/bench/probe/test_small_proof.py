"""A tenth of the blind proof (test_blind.py), a minute in a second, so that every run of the tests has it."""

from __future__ import annotations

import pytest

from bench.probe.foretold import foretold
from bench.probe.proof import proof_of_real, prove, running_servers
from bench.probe.real_cases import REAL_CASES

TIME_SCALE = 60.0
NAMES = ("aws-alb", "nginx", "oracle-lb")  # a timer, a buffer without upgrades, a timer for each side
REAL, REAL_UP_TO_S = "nginx, short limits", 7.0


@pytest.mark.slow
@pytest.mark.needs("nginx")
def test_a_few_profiles_and_a_real_nginx_are_found_out() -> None:
    cases = [case for case in REAL_CASES if case.name == REAL]
    with running_servers() as servers:
        proofs = prove(NAMES, cases, servers, TIME_SCALE, real_up_to_s=REAL_UP_TO_S)
    assert [proof.name for proof in proofs] == [*NAMES, REAL]
    for proof in proofs:
        wrong = [verdict for verdict in proof.verdicts if not verdict.is_right]
        assert proof.holds, (proof.name, wrong, proof.differences, proof.survives_alike, proof.written)
    assert {verdict.question for proof in proofs for verdict in proof.verdicts if verdict.is_shown} >= {
        *("idle", "first_byte", "keep_alive", "buffering", "upgrade")
    }


def test_what_a_kernel_does_at_times_may_be_found_or_not_and_nothing_else() -> None:
    case = next(case for case in REAL_CASES if case.at_times)
    everything, always = case.alternatives
    assert len(always) == len(everything) - 1
    for seen in (everything, always):
        assert proof_of_real(case, foretold(seen, REAL_UP_TO_S)).holds
    assert not proof_of_real(case, foretold(always[1:], REAL_UP_TO_S)).holds
    regular = next(case for case in REAL_CASES if case.name == REAL)
    assert not proof_of_real(regular, foretold(regular.shows[1:], REAL_UP_TO_S)).holds
