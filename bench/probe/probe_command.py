"""`tokenderby probe`."""

from __future__ import annotations

import asyncio
import shlex
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import click

from bench.option_types import Duration
from clients.whole_file import replace_file
from servers.arguments import HELP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.console import Console
    from bench.probe.deployment import Deployment
    from bench.probe.engine import Engine
    from bench.probe.finding import Finding, Findings

DONE, FAILED, INTERRUPTED = 0, 1, 130
KEPT = "tokenderby-probe.json"  # where an interrupted probe goes, if nobody said
LEAST_S, MOST_S = 1.0, 3600.0
_LINE_S = 60.0  # between two lines on the way, where no terminal shows it


@click.command(context_settings=HELP)
@click.argument("urls", nargs=-1, metavar="URL…")
@click.option(
    "--token", metavar="SECRET", help="The servers' token; better by the environment, which `ps` does not show."
)
@click.option(
    "--up-to",
    type=Duration(LEAST_S, MOST_S),
    metavar="TIME",
    help="How long a silence is worth trying: 90s, 10m, 1h. Without it 10m, which takes 15 minutes at most.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a profile for `tokenderby proxy`.")
@click.option("--json", "json_file", metavar="FILE", help='All findings and observations ("-": standard output).')
@click.option("--cafile", metavar="FILE", help="Trust these authorities (PEM), not the system's.")
@click.option("--insecure", is_flag=True, help="Trust every certificate.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Go on with an interrupted probe, from its --json file; what was found is kept.",
)
def probe(  # noqa: PLR0917 (click passes them by name)
    urls: tuple[str, ...],
    token: str | None,
    up_to: float | None,
    out: Path | None,
    json_file: str | None,
    cafile: str | None,
    insecure: bool,
    resume: Path | None,
) -> int:
    """Find out what stands between your users and your servers, and what it does to streams.

    Deploy any of our servers where your own would run (`tokenderby serve sse --host 0.0.0.0 --keep-alive 3600`), then
    name its URL as your users see it. Each question is asked over connections of its own, all side by side: how long a
    stream may be silent and which bytes end a silence, how long an answer may take to begin and to last, how long a
    connection is kept, and how a cut looks.

    URL is https://HOST, whose /healthz tells which transport it serves, or TRANSPORT=https://HOST. Give
    several if there are.
    Says first what load that is. Ctrl-C keeps what is known.

    \b
    Examples:
      tokenderby probe https://chat.example.com --out mine.toml
      tokenderby probe sse=https://a.example.com websocket=https://b.example.com --up-to 90s
      tokenderby probe https://chat.example.com --json probe.json
      tokenderby probe --resume probe.json
      tokenderby proxy --profile mine.toml --upstream 127.0.0.1:8001    # the same, on this machine

    Exit code: 0 done, 1 nothing passes, or nobody answers, 2 the words are wrong, 130 interrupted.
    """
    from bench.console import Console
    from bench.probe.finding import read_findings

    kept = read_findings(resume) if resume else None
    if kept is None and not urls:
        raise click.UsageError("takes a URL, as https://chat.example.com, or --resume FILE")
    if kept is not None and (urls or up_to is not None):
        raise click.UsageError("--resume goes on with the probe's own URLs and --up-to; leave them out")
    arguments = urls or tuple(f"{transport}={url}" for transport, url in (kept.urls if kept else {}).items())
    up_to_s = kept.up_to_s if kept else up_to or 600.0
    json_file = json_file or (str(resume) if resume else None)
    _check_places({"--json": json_file, "--out": None if out is None else str(out)})
    console = Console(stderr=json_file == "-")
    findings = _ask(arguments, token, cafile, insecure, up_to_s, kept, console)
    again = (*(("--cafile", cafile) if cafile else ()), *(("--insecure",) if insecure else ()))
    return _conclude(findings, json_file, out, again, console)


def _ask(  # noqa: PLR0917
    arguments: tuple[str, ...],
    token: str | None,
    cafile: str | None,
    insecure: bool,
    up_to_s: float,
    kept: Findings | None,
    console: Console,
) -> Findings:
    """Ask all questions; what is known when that is over, or interrupted."""
    from bench.probe.deployment import find_deployment
    from clients.core.tls import Trust
    from servers.process import run

    trust = Trust(cafile, insecure)
    trust.context  # noqa: B018  # read now, so that a wrong file is said before anything runs
    engines: list[Engine] = []

    async def main() -> Findings:
        from bench.probe.engine import Engine

        deployment = await find_deployment(arguments, token, trust)
        engine = Engine(deployment, up_to_s, kept=kept, on_finding=lambda finding: _say(console, finding))
        engines.append(engine)
        _say_load(console, deployment, engine)
        return await _watched(engine, console)

    try:
        return run(main())
    except KeyboardInterrupt:
        if not engines:
            raise
        return engines[0].findings(interrupted=True)


async def _watched(engine: Engine, console: Console) -> Findings:
    """Run, and show on the way how far it is."""
    asking = asyncio.ensure_future(engine.run())
    began_s = asyncio.get_running_loop().time()
    status = console.status("") if console.is_terminal else None
    try:
        with status or nullcontext():
            while not asking.done():
                await asyncio.wait([asking], timeout=1.0 if status else _LINE_S)
                done, of = engine.done
                passed_s = asyncio.get_running_loop().time() - began_s
                line = f"{_clock(passed_s)} of at most {_clock(engine.most_s)}: {done} of {of} questions answered"
                if status:
                    status.update(line)
                elif not asking.done():
                    _tell(console, line)
        return asking.result()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def _say_load(console: Console, deployment: Deployment, engine: Engine) -> None:
    load = engine.load
    for transport in deployment.transports:
        console.print(f"{transport:<10} {deployment.urls[transport]}", soft_wrap=True)
    console.print(
        f"Takes {_minutes(load.least_s)} to {_minutes(load.most_s)}, with at most {load.connections} connections at "
        f"once and about {load.requests} small requests in all. Ctrl-C keeps what is known.",
        soft_wrap=True,
    )


def _say(console: Console, finding: Finding) -> None:
    from servers.foreign_text import SENTENCE_SIGNS, in_one_line

    line = f"{finding.question} {finding.transport}".strip() + f": {finding.words}"
    _tell(console, in_one_line(line, SENTENCE_SIGNS))


def _tell(console: Console, line: str) -> None:
    """Print on the way. Where nobody reads it any more the probe goes on: its files are still wanted."""
    from servers.user_errors import OutputLost

    with suppress(OutputLost):
        console.print(line, soft_wrap=True)


def _conclude(
    findings: Findings, json_file: str | None, out: Path | None, again: tuple[str, ...], console: Console
) -> int:
    """Write what was found, then show it, whichever fails; the exit code. Raises OSError, OutputLost.

    `again`: the options that a resumed probe needs as well
    """
    from bench.probe.probe_report import findings_report
    from bench.probe.profile_writer import profile_text

    is_interrupted, kept_in = findings.interrupted, KEPT if json_file in (None, "-") else json_file
    if is_interrupted:
        json_file = kept_in
    failed = [] if json_file is None else _written(json_file, findings.encode())
    if out is not None and not is_interrupted:
        failed += _written(str(out), profile_text(findings).encode())
    try:
        console.print(findings_report(findings))
    except KeyboardInterrupt:  # it takes a moment, and so long a probe must not be lost in it
        is_interrupted = True
        failed += _written(kept_in, findings.encode())
    if failed:
        raise failed[0]
    if is_interrupted:
        words = ("--resume", kept_in, *again, *(("--out", str(out)) if out else ()))
        console.print(f"interrupted; go on with: tokenderby probe {shlex.join(words)}", soft_wrap=True)
        return INTERRUPTED
    if out is not None:
        console.print(
            f"Profile: {out}; try it with: tokenderby proxy --profile {out} --upstream HOST:PORT", soft_wrap=True
        )
    return DONE if findings.is_good else FAILED


def _check_places(places: Mapping[str, str | None]) -> None:
    """Try where to write before anything is asked: a probe takes long. Raises InputError."""
    from servers.user_errors import InputError

    for option, place in places.items():
        if place is not None and place != "-" and (why := _why_unwritable(Path(place))):
            raise InputError(f"{option} {place}: {why}; takes a file in a folder that exists and can be written")


def _why_unwritable(path: Path) -> str:
    """ "" where `write` can write, which is tried, or why it cannot."""
    from servers.user_errors import reason

    try:
        if not path.name or (path.exists() and not path.is_file()):
            return "a folder" if path.is_dir() else "no file"
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        return reason(error)
    return ""


def _written(place: str, data: bytes) -> list[OSError]:
    """Write; what went wrong."""
    try:
        write(place, data)
    except OSError as error:
        return [error]
    return []


def write(place: str, data: bytes) -> None:
    """Write a file whole, or to standard output. Raises OSError."""
    if place == "-":
        click.echo(data, nl=False)
    else:
        replace_file(Path(place), data)


def _minutes(value_s: float) -> str:
    return f"{value_s:.0f} s" if value_s < 120 else f"{value_s / 60:.0f} minutes"


def _clock(value_s: float) -> str:
    return f"{int(value_s) // 60}:{int(value_s) % 60:02d}"
