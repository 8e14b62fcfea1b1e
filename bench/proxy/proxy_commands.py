"""The commands `proxy` and `profiles`."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import option_types
from bench.proxy.profile import Profile, load_profile
from bench.proxy.profile import names as names_of_all
from bench.proxy.real import KINDS, PREFIX, host_port, real_proxy
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy, serve
from servers.arguments import HELP, Command
from servers.checks import is_host, shown, suggestion
from servers.process import run
from servers.ready_line import say_ready
from servers.user_errors import InputError, UserError, reason


class _Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT, [IPv6]:PORT or http://HOST:PORT."""

    name = "HOST:PORT"

    def convert(
        self, value: str | tuple[str, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = value.removeprefix("http://").rstrip("/").rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            self.fail(f"{value!r} takes HOST:PORT, with a port up to 65535", param, ctx)
        host = host.strip("[]")
        if not is_host(host):
            self.fail(f"{value!r}: {host!r} is no host's name", param, ctx)
        return host, int(port)


class _Upstream(_Address):
    """An address to connect to."""

    def convert(
        self, value: str | tuple[str, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        host, port = super().convert(value, param, ctx)
        if port == 0:
            self.fail(f"{value!r} takes a port from 1 to 65535", param, ctx)
        return host, port


@click.command(cls=Command, context_settings=HELP)
@click.option(
    "--upstream",
    "upstreams",
    type=_Upstream(),
    required=True,
    multiple=True,
    help="The server behind the proxy; repeat it for several.",
)
@click.option("--listen", type=_Address(), default="127.0.0.1:0", show_default=True, help="Port 0: any free one.")
@click.option(
    "--profile",
    default="none",
    show_default=True,
    metavar="NAME_OR_FILE",
    help="A profile's name, or your own TOML file.",
)
@option_types.time_scale
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random in the profile.")
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="A JSON line per connection that ended.")
def proxy(  # noqa: PLR0917 (click passes them by name)
    upstreams: tuple[tuple[str, int], ...],
    listen: tuple[str, int],
    profile: str,
    time_scale: float,
    seed: int,
    log: Path | None,
) -> None:
    """Put an intermediary in front of a server: its timeouts, its buffering, its ways to end a connection.

    Prints one JSON line when ready and serves until SIGTERM. The profiles real:nginx, real:nginx-http11,
    real:nginx-unbuffered, real:haproxy and real:haproxy-no-delay start the real thing with the same timeouts (and
    write no log). real:nginx-h2 and real:haproxy-h2 speak TLS and HTTP/2 too: the line then has the `cafile` that
    makes their certificate trusted, and `plain_url`, a port on this machine without TLS.
    Several servers take turns, connection by connection, unless the profile says otherwise (upstreams).

    \b
    Examples:
      tokenderby proxy --upstream 127.0.0.1:8001 --profile aws-alb
      tokenderby proxy --upstream 127.0.0.1:8001 --profile my.toml --time-scale 20 --log proxy.jsonl
    """
    upstream, *others = upstreams
    if profile.startswith(PREFIX):
        if others:
            raise InputError(f"--profile {profile}: takes one --upstream")
        if (kind := profile.removeprefix(PREFIX)) not in KINDS:
            raise InputError(f"--profile: unknown real proxy {shown(kind)}; {suggestion(kind, KINDS)}")
        _serve_real(profile, upstream, listen, time_scale)
        return
    loaded = option_types.named_profile(profile)
    rules = loaded.scaled(time_scale).rules
    server = Proxy(upstream, rules, others=others, listen=listen, seed=seed, log=log, profile=loaded.name)
    try:
        run(serve(server, partial(_say_ready, loaded.name)))
    except OSError as error:
        raise _cannot_serve(listen, error) from error


def _cannot_serve(listen: tuple[str, int], error: OSError) -> UserError:
    return UserError(f"cannot serve on {host_port(listen)}: {reason(error)}")


def _say_ready(name: str, address: tuple[str, int]) -> None:
    say_ready({"profile": name, "url": f"http://{host_port(address)}"})


def _serve_real(name: str, upstream: tuple[str, int], listen: tuple[str, int], time_scale: float) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it has no events whose moments could be counted anew
    try:
        with real_proxy(name.removeprefix(PREFIX), upstream, time_scale=time_scale, listen=listen) as running:
            secure = {"cafile": str(running.cafile), "plain_url": running.plain_url} if running.cafile else {}
            say_ready({"profile": name, "url": running.url} | secure)
            while True:
                time.sleep(0.5)  # signal.pause() would miss a signal that comes just before it
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise _cannot_serve(listen, error) from error


@click.command(cls=Command, context_settings=HELP)
@click.argument("names", nargs=-1)
@click.option("--markdown", is_flag=True, help="As the table in docs/proxy.md.")
def profiles(names: tuple[str, ...], markdown: bool) -> None:
    """List the profiles: what each intermediary does, where its numbers come from, which are unsure.

    \b
    Examples:
      tokenderby profiles
      tokenderby profiles aws-alb nginx
    """
    loaded = [load_profile(name) for name in names or names_of_all()]
    if markdown:
        click.echo(profile_markdown(loaded))
        return
    console = Console()
    console.print(profile_table(loaded))
    console.print("? = the source does not say, or sources conflict. The keys of the sources are in docs/proxy.md.")


def profile_table(loaded: list[Profile]) -> Table:
    """One row a rule, profiles separated by lines."""
    table = Table("profile", "rules, from the client's side to the server's", "unsure", "source", show_lines=False)
    for profile in loaded:
        rules = profile.rules or (None,)
        for n, rule in enumerate(rules):
            first = f"[bold]{escape(profile.name)}[/bold]\n{escape(profile.title)}" if n == 0 else ""
            table.add_row(first, *_rule_cells(rule), end_section=n == len(rules) - 1)
    return table


def profile_markdown(loaded: list[Profile]) -> str:
    """The same table for docs/proxy.md; a question mark stands behind what is unsure."""
    lines = ["| profile | rules, from the client's side to the server's | source |", "|---|---|---|"]
    for profile in loaded:
        for n, rule in enumerate(profile.rules):
            name = f"`{profile.name}`: {profile.title}. {profile.notes}".strip() if n == 0 else ""
            unsure = f" (unsure: {', '.join(f'`{key}`' for key in rule.unsure)})" if rule.unsure else ""
            lines.append(f"| {name} | {rule.words()}{unsure} | {rule.source} |")
    return "\n".join(lines)


def _rule_cells(rule: Rule | None) -> tuple[str, str, str]:
    if rule is None:
        return "passes everything on", "", ""
    unsure = "\n".join(f"{key} ?" for key in rule.unsure)
    return escape(rule.words()), f"[yellow]{unsure}[/yellow]" if unsure else "", escape(rule.source)
