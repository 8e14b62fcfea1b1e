"""The blind proof: every shipped profile, and real nginx and HAProxy, probed as strangers.

`python -m bench.probe.proof` prints the table of docs/probe.md. The emulated ones are scaled in time; the real ones
have short limits of their own. A probe is told nothing: what it should have found comes from the rules, played by a
simulated clock (bench.probe.foretold).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context

import click
import msgspec

from bench.probe.finding import Findings
from bench.probe.foretold import PROBED_TRANSPORTS, foretold
from bench.probe.judging import ProofVerdict, judge
from bench.probe.profile_likeness import Difference, profile_differences, survived
from bench.probe.profile_writer import profile_of
from bench.probe.real_cases import NGINX_EARLY_S, REAL_CASES, RealCase, real_sweep
from bench.probe.sweep import SIDE_BY_SIDE, ServerAddress, sweep
from bench.probe.unseen import rule_in_short, unseen
from bench.proxy import profile as profiles
from bench.proxy.profile import Profile
from bench.proxy.rule import Rule
from bench.selfcost.child_process import running
from clients.core.endpoint import Endpoint
from servers.arguments import HELP
from servers.process import usable_cores

TIME_SCALE = 20.0
UP_TO_S = 600.0
EDGE = 0.95  # of what was tried: what strikes at its very end may be found or not
REAL_UP_TO_S = 20.0
SERVER_KEEP_ALIVE_S = 3600  # far above every limit: what is found is then not our own server's


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What one probe of a known intermediary came to.

    verdicts: a question each; differences: where the written profile looks different, in time-scaled seconds
    survives_alike: the written profile, in real seconds, lets the same answers through
    rules, up_to_s: the true ones, and the longest silence that was tried, in real seconds
    """

    name: str
    findings: Findings
    written: Profile
    verdicts: list[ProofVerdict]
    differences: list[Difference]
    survives_alike: bool
    rules: tuple[Rule, ...]
    up_to_s: float

    @property
    def holds(self) -> bool:
        """Everything was found, nothing invented, and the written profile is as good as the true one."""
        right = all(verdict.is_right for verdict in self.verdicts)
        return right and not self.differences and self.survives_alike


def prove(
    names: Sequence[str],
    cases: Sequence[RealCase],
    servers: Mapping[str, ServerAddress],
    time_scale: float = TIME_SCALE,
    at_once: int = SIDE_BY_SIDE,
    *,
    real_up_to_s: float = REAL_UP_TO_S,
) -> list[Proof]:
    """Probe the shipped profiles of these names, on every core `at_once` side by side, and real ones beside them.

    real_up_to_s: the longest silence that is tried of the real ones
    What does not hold is probed a second time, fewer at once: a machine that stood still explains it once.
    Raises bench.proxy.real.RealProxyError.
    """
    proofs: dict[str, Proof] = {}
    with ProcessPoolExecutor(len(usable_cores()) + 1, mp_context=get_context("spawn")) as pool:
        for fewer in (1, 3):
            open_names = [name for name in names if name not in proofs or not proofs[name].holds]
            open_cases = [case for case in cases if case.name not in proofs or not proofs[case.name].holds]
            few = max(1, at_once // fewer)
            made = _made(pool, open_names, servers, time_scale, few)
            if open_cases:  # mostly they wait
                made.append(pool.submit(_real, [case.name for case in open_cases], servers, few, real_up_to_s))
            for each in made:
                proofs |= {proof.name: proof for proof in each.result()}
    return [proofs[name] for name in (*names, *(case.name for case in cases))]


def _made(
    pool: Executor,
    names: Sequence[str],
    servers: Mapping[str, ServerAddress],
    time_scale: float,
    at_once: int,
) -> list[Future[list[Proof]]]:
    """The profiles' proofs under way, on every core."""
    cores = len(usable_cores())
    shares = [share for k in range(cores) if (share := names[k::cores])]
    return [pool.submit(_emulated, share, servers, time_scale, at_once) for share in shares]


def _emulated(
    names: Sequence[str], servers: Mapping[str, ServerAddress], time_scale: float, at_once: int
) -> list[Proof]:
    cases = {name: profiles.load_profile(name).scaled(time_scale).rules for name in names}
    found = sweep(cases, servers, UP_TO_S / time_scale, at_once)
    return [_emulated_proof(name, found[name], profiles.load_profile(name).rules, time_scale) for name in names]


def _emulated_proof(name: str, findings: Findings, rules: tuple[Rule, ...], time_scale: float) -> Proof:
    scaled = Profile(name=name, rules=rules).scaled(time_scale).rules
    written = profile_of(findings, name)
    real = written.scaled(1 / time_scale)
    return Proof(
        name=name,
        findings=findings,
        written=real,
        verdicts=judge(findings, foretold(scaled, findings.up_to_s)),
        differences=profile_differences(scaled, written.rules, EDGE * findings.up_to_s),
        survives_alike=survived(rules) == survived(real.rules),
        rules=rules,
        up_to_s=UP_TO_S,
    )


def _real(names: Sequence[str], servers: Mapping[str, ServerAddress], at_once: int, up_to_s: float) -> list[Proof]:
    found = real_sweep(names, servers, up_to_s, at_once)
    return [proof_of_real(case, found[case.name]) for case in REAL_CASES if case.name in names]


def proof_of_real(case: RealCase, findings: Findings) -> Proof:
    """What a probe of a real one came to; what it does at times only may be found or not, question by question."""
    early_s = NGINX_EARLY_S if case.program == "nginx" else 0.0
    judged = [judge(findings, foretold(rules, findings.up_to_s), early_s) for rules in case.alternatives]
    return Proof(
        name=case.name,
        findings=findings,
        written=profile_of(findings, case.name),
        verdicts=[next((each for each in same if each.is_right), same[0]) for same in zip(*judged, strict=True)],
        differences=[],  # its numbers are its own: what was found is judged, question by question
        survives_alike=True,
        rules=case.shows,
        up_to_s=findings.up_to_s,
    )


@contextmanager
def running_servers() -> Iterator[dict[str, ServerAddress]]:
    """Our servers, a process each, that keep connections for an hour."""
    with ExitStack() as stack:
        options = ("--keep-alive", str(SERVER_KEEP_ALIVE_S))
        urls = {
            name: stack.enter_context(running("servers", name, *options)).line()["url"] for name in PROBED_TRANSPORTS
        }
        yield {name: ((at := Endpoint.parse(url)).host, at.port) for name, url in urls.items()}


def markdown(proofs: Sequence[Proof]) -> str:
    """A row an intermediary: what it does and what was found, and what nobody can see."""
    lines = ["| intermediary | true → found | cannot be seen from outside | |", "|---|---|---|---|"]
    for proof in proofs:
        shown = [verdict for verdict in proof.verdicts if verdict.is_shown or not verdict.is_right]
        found = "; ".join(f"{_name(verdict)}: {verdict.true} → {verdict.found}" for verdict in shown) or "nothing"
        hidden = "; ".join(f"{rule_in_short(rule)}: {why}" for rule, why in unseen(proof.rules, proof.up_to_s))
        lines.append(f"| {proof.name} | {found} | {hidden} | {'holds' if proof.holds else '**fails**'} |")
    return "\n".join(lines)


def _name(verdict: ProofVerdict) -> str:
    return f"{verdict.question} ({verdict.transport})" if verdict.transport else verdict.question


@click.command(context_settings=HELP)
@click.argument("names", nargs=-1, type=click.Choice(profiles.names()), metavar="[NAME]…")
@click.option("--time-scale", type=click.FloatRange(1, 60), default=TIME_SCALE, show_default=True, help="Of profiles.")
@click.option("--at-once", type=click.IntRange(1, 100), default=SIDE_BY_SIDE, show_default=True, help="On each core.")
@click.option("--real/--no-real", default=True, show_default=True, help="Real nginx and HAProxy too.")
def main(names: tuple[str, ...], time_scale: float, at_once: int, real: bool) -> None:
    """Probe the profiles that ship (or those of these NAMES) as a stranger would, and print what was found."""
    with running_servers() as servers:
        proofs = prove(names or profiles.names(), REAL_CASES if real else (), servers, time_scale, at_once)
    click.echo(markdown(proofs))
    if failed := [proof.name for proof in proofs if not proof.holds]:
        raise click.ClickException(f"does not hold: {', '.join(failed)}")


if __name__ == "__main__":
    main()
