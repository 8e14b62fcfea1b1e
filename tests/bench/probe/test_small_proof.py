"""A tenth of the blind proof (test_blind.py), a minute in a second, so that every run of the tests has it."""

from __future__ import annotations

import pytest

from bench.probe.proof import prove, running_servers
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
