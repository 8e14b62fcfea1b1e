"""What a Locust test is told: command line, environment variables and the start form's fields are one and the same."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, get_args

import msgspec

from clients.core.endpoint import Endpoint
from clients.core.fallback import DEFAULT_ORDER, order_from
from clients.core.recovery import Mode, Policy
from clients.core.settings import ClientSettings
from clients.core.tls import Trust
from clients.results import variant_words
from servers.checks import check_number, choice
from servers.stream import PROFILES, StreamSpec, build
from servers.transport import STREAMING, TRANSPORTS
from servers.user_errors import InputError, StreamError

NOT_IN_FORM = frozenset({"results_dir", "skip_report", "auth_token", "cafile", "insecure", "web_names"})
"""What the command line and the environment say and the start form may not, whoever fills it in."""
_KNEE: dict[str, tuple[type[int | float], float, float]] = {
    "knee_delay_ms": (float, 0.001, 3.6e6),
    "knee_step": (int, 1, 1e5),
    "knee_most": (int, 1, 1e6),
    "knee_hold": (float, 0, 86_400),
}
_SAMPLE_SEEDS = range(3)  # answers looked at for whether any can last for over an hour


class OptionError(InputError):
    """An option is wrong; the message names it and says what it takes."""


@dataclass(frozen=True)
class Options:
    """A test's options, checked. Seconds end in `_s`; a `silence_s` or `token_silence_s` of None never gives up.

    `profile` and `heartbeat_s` describe what stands before the servers and how these were started: Locust cannot set
    either, but the results carry them.
    """

    urls: Mapping[str, str]
    stream: Mapping[str, object]
    interval_s: float
    wait_s: float
    think_s: float
    recovery: Mode
    silence_s: float | None
    token_silence_s: float | None
    timeout_s: float
    finish_s: float
    seed: int
    profile: str
    heartbeat_s: float
    auth_token: str | None
    trust: Trust
    results: str
    report: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], host: str | None, transports: tuple[str, ...]) -> Options:
        """Check what was given, for users of `transports`. Raises OptionError."""
        return cls(
            urls=_urls(given, host, transports),
            stream=_stream(given),
            interval_s=_seconds(given, "poll_interval"),
            wait_s=_seconds(given, "poll_wait"),
            think_s=_seconds(given, "think_time"),
            recovery=cast(Mode, choice("--recovery", given["recovery"], get_args(Mode), OptionError)),
            silence_s=_seconds(given, "silence") or None,
            token_silence_s=_seconds(given, "token_silence") or None,
            timeout_s=_seconds(given, "message_timeout", least=0.1),
            finish_s=_seconds(given, "finish"),
            seed=int(check_number("--seed", given["seed"], 0, 2**53 - 1, OptionError, whole=True, text=True)),
            profile=str(given["network_profile"]).strip() or "direct",
            heartbeat_s=_seconds(given, "server_heartbeat"),
            auth_token=str(given["auth_token"] or "") or None,
            trust=_trust(given),
            results=str(given["results_dir"]),
            report=not given["skip_report"],
        )

    def variant(self, transport: str) -> dict[str, object]:
        """The cell's settings that are not defaults, as the `key=value` words of a variant."""
        words: dict[str, object] = {"heartbeat": f"{self.heartbeat_s:g}"} if self.heartbeat_s else {}
        if not TRANSPORTS[transport].pulls:
            return words
        if self.wait_s:
            words["wait"] = f"{self.wait_s:g}"
        elif self.interval_s != 1.0:
            words["interval"] = f"{self.interval_s:g}"
        return words

    def cell(self, transport: str) -> str:
        """The cell's name, the same in every block."""
        parts = [transport, variant_words(self.variant(transport))]
        parts += [self.profile] * (self.profile != "direct") + [self.recovery] * (self.recovery != "none")
        return " ".join(filter(None, parts))

    def settings(self, transport: str) -> ClientSettings:
        """How a user of `transport` behaves."""
        order = order_from(transport, DEFAULT_ORDER)[1:] if self.recovery == "fallback" else ()
        return ClientSettings(
            url=self.urls[transport],
            auth_token=self.auth_token,
            trust=self.trust,
            recovery=Policy(self.recovery),
            silence_s=self.silence_s,
            token_silence_s=self.token_silence_s,
            others={name: self.urls[name] for name in order if name in self.urls},
            interval_s=self.interval_s,
            wait_s=self.wait_s,
        )


def add_argument(parser: Any, name: str, default: str | float | bool, text: str, **more: Any) -> None:
    """Tell Locust's parser of an option, which the environment can give too."""
    variable = f"TOKENDERBY_{name.upper().replace('-', '_')}"
    kind = {} if isinstance(default, str) else {"type": type(default)}
    more |= {"action": "store_true"} if isinstance(default, bool) else kind
    # Not in a group: Locust's form leaves groups out.
    parser.add_argument(f"--{name}", default=default, env_var=variable, help=text, **more)


def add_arguments(parser: Any) -> None:
    """Tell Locust's parser (and with it the start form) what there is."""
    option = partial(add_argument, parser)
    for transport in STREAMING:
        option(f"{transport}-url", "", f"The {transport} server, as http://127.0.0.1:8001")
    option("stream-profile", "hosted", "The simulated model", choices=list(PROFILES))
    option("stream-parameters", "", "What differs from the profile, as key=value: tokens=40 gap_ms=5")
    option("poll-interval", 1.0, "Polling: seconds from one poll to the next")
    option("poll-wait", 0.0, "Polling: seconds for which the server may hold a poll (long polling); 0: not at all")
    option("think-time", 1.0, "Seconds between an answer and the next question")
    option("recovery", "none", "What a user does after a drop", choices=list(get_args(Mode)))
    option("silence", 0.0, "Seconds without a byte after which a user gives a connection up; 0: never")
    option("token-silence", 0.0, "The same without a token, whatever else comes; 0: never")
    option("message-timeout", 60.0, "Seconds after which a message that is not complete has failed")
    option("finish", 30.0, "Seconds that messages under way may go on after the stop")
    option("seed", 1, "Another seed, other answers")
    option("network-profile", "direct", "What stands before the servers, for the results; the URLs must lead there")
    option("server-heartbeat", 0.0, "The heartbeat that the servers were started with, for the results; 0: none")
    option("results-dir", "results", "Where the run's folder is made", include_in_web_ui=False)
    option("cafile", "", "Trust these authorities (PEM) of https servers, not the system's", include_in_web_ui=False)
    option("insecure", False, "Trust every certificate of an https server", include_in_web_ui=False)
    option("skip-report", False, "Leave the report to `tokenderby report`", include_in_web_ui=False)
    option("web-names", "", "More names of this web UI, with commas between them", include_in_web_ui=False)
    option("auth-token", "", "The servers' secret, if they have one", is_secret=True, include_in_web_ui=False)


def _endpoint(url: str) -> Endpoint | None:
    try:
        return Endpoint.parse(url.strip())
    except ValueError:
        return None


def endpoints_in(given: Mapping[str, Any], host: str | None) -> frozenset[tuple[str, int, bool]]:
    """Whom a command line or an environment names as servers: who may be sent their token, and whether in the open."""
    urls = (str(url or "") for url in (*(given[f"{name}_url"] for name in STREAMING), host))
    return frozenset((e.host, e.port, e.secure) for url in urls if (e := _endpoint(url)) is not None)


def check_token(options: Options, trusted: Collection[tuple[str, int, bool]]) -> None:
    """The servers' token goes to `trusted` alone. Raises OptionError where it would go elsewhere."""
    for name, url in options.urls.items():
        to = Endpoint.parse(url)
        if options.auth_token and (to.host, to.port, to.secure) not in trusted:
            raise OptionError(
                f"--{name}-url: {url!r} was not named when Locust was started, so it is not sent the servers' token; "
                f"takes a server of the command line or of TOKENDERBY_{name.upper()}_URL"
            )


def check_knee(given: Mapping[str, Any]) -> None:
    """The options of the search for the knee, if it is loaded (clients/locust_knee.py). Raises OptionError."""
    for name, (kind, least, most) in _KNEE.items():
        if name in given:
            check_number(_option(name), given[name], least, most, OptionError, whole=kind is int, text=True)


def _urls(given: Mapping[str, Any], host: str | None, transports: tuple[str, ...]) -> dict[str, str]:
    urls = {name: str(given[f"{name}_url"] or "").strip() for name in transports}
    if len(transports) == 1 and host:
        urls[transports[0]] = urls[transports[0]] or host
    for name, url in urls.items():
        if not url:
            raise OptionError(
                f"--{name}-url: not given, but there are users of {name}; takes the server's address, as "
                f"http://127.0.0.1:8001 (or set TOKENDERBY_{name.upper()}_URL, or leave the class out)"
            )
        try:
            Endpoint.parse(url)
        except ValueError as error:
            raise OptionError(f"--{name}-url: {error}") from None
    return {name: url.rstrip("/") for name, url in urls.items()}


def _trust(given: Mapping[str, Any]) -> Trust:
    trust = Trust(str(given["cafile"]) or None, bool(given["insecure"]))
    try:
        trust.context  # noqa: B018  # read now: a wrong file is said before a test begins
    except ValueError as error:
        raise OptionError(str(error)) from None
    return trust


def _stream(given: Mapping[str, Any]) -> dict[str, object]:
    table: dict[str, object] = {"profile": given["stream_profile"]}
    for word in str(given["stream_parameters"] or "").split():
        key, equals, value = word.partition("=")
        if not equals:
            raise OptionError(f"--stream-parameters: takes key=value words, not {word!r}")
        try:
            table[key] = json.loads(value)
        except (ValueError, RecursionError):
            table[key] = value
    if "recording" in table:
        raise OptionError("--stream-parameters: recording: only a plan can have one (`tokenderby run`)")
    try:
        _build_longest(StreamSpec.parse(table))
    except StreamError as error:
        raise OptionError(f"--stream-parameters: {error}") from None
    return table


def _build_longest(spec: StreamSpec) -> None:
    """Make the longest answers that users can ask for. Raises StreamError where one takes over an hour."""
    longest = spec.tokens if spec.tokens is not None or spec.text == "hazards" else spec.tokens_max
    for seed in _SAMPLE_SEEDS:
        build(msgspec.structs.replace(spec, tokens=longest), seed)


def _seconds(given: Mapping[str, Any], name: str, least: float = 0.0) -> float:
    return check_number(_option(name), given[name], least, 86_400, OptionError, what="seconds", text=True)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
