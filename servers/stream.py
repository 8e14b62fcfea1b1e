"""The simulated model: a pure, seeded schedule of tokens and due times.

The same parameters and seed give the same tokens at the same offsets in every server, process and Python version: the
only randomness is `random.Random(str).random()`, whose values Python guarantees, and offsets are whole microseconds, so
that the last bit of a platform's `exp` cannot show. The model is open loop: offsets are fixed when a message starts,
and a slow transport never slows the model.
"""

from __future__ import annotations

import hashlib
import tomllib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import accumulate, chain, cycle, islice, repeat
from math import exp, log
from random import Random
from statistics import NormalDist
from typing import Literal, get_args

import msgspec

from servers.checks import check_number, choice, shown, suggestion
from servers.messages import MAX_TOKENS
from servers.recording import Recording, registered
from servers.struct_words import explained
from servers.text import prose
from servers.text.hazards import hazards
from servers.user_errors import StreamError

MAX_DURATION_S = 3600
_TINY = 2.0**-53  # random() may return 0, whose quantile is not finite
_NORMAL = NormalDist()

Flush = Literal["fixed", "geometric", "speculative"]
Text = Literal["prose", "hazards"]


class StreamSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a simulated model does. Medians and sigmas are of lognormal distributions (sigma 0: always the median).

    `tokens` is an exact answer length and wins over the distribution. `per_emission` is the mean number of tokens that
    fall due at one moment: always so many (`fixed`, rounded), `geometric`, or as speculative decoding accepts
    `draft_tokens` with probability `acceptance` each. A stall of `stall_ms` is added to a gap with
    `stall_probability`; there is no good source for either, so sweep them. `recording` is the id of a registered
    recording (servers.recording), whose texts and emissions are then used as they are, and with `times` also when each
    came (`times_speed_up` times as fast), in place of all that is said of times here.
    """

    description: str = ""
    ttft_ms: float = 600.0
    ttft_sigma: float = 0.3
    gap_ms: float = 12.0
    gap_sigma: float = 0.3
    tokens: int | None = None
    tokens_median: float = 187.0
    tokens_sigma: float = 0.99
    tokens_max: int = 2000
    flush: Flush = "fixed"
    per_emission: float = 1.0
    draft_tokens: int = 3
    acceptance: float = 0.7
    stall_probability: float = 0.0
    stall_ms: float = 0.0
    text: Text = "prose"
    recording: str | None = None
    times: bool = False
    times_speed_up: float = 1.0

    @classmethod
    def parse(cls, value: object) -> StreamSpec:
        """Read a chat request's `stream`: a profile's name, or a table of parameters over `profile` (default hosted).

        Raises StreamError.
        """
        match value:
            case None:
                return PROFILES["hosted"]
            case str():
                return _profile(value)
            case Mapping():
                table = dict(value)
                base = _profile(table.pop("profile", "hosted"))
                return _override(base, table)
        raise StreamError("stream: takes a profile's name or a table of parameters")


RANGES: dict[str, tuple[float, float]] = {
    "ttft_ms": (0, 600_000),
    "ttft_sigma": (0, 3),
    "gap_ms": (0, 600_000),
    "gap_sigma": (0, 3),
    "tokens": (1, MAX_TOKENS),
    "tokens_median": (1, MAX_TOKENS),
    "tokens_sigma": (0, 3),
    "tokens_max": (1, MAX_TOKENS),
    "per_emission": (1, 1000),
    "draft_tokens": (0, 64),
    "acceptance": (0, 0.99),
    "stall_probability": (0, 1),
    "stall_ms": (0, 600_000),
    "times_speed_up": (1e-3, 1e6),
}
"""What each number of a StreamSpec takes: lowest and highest value."""
_WHOLE = frozenset(field.name for field in msgspec.structs.fields(StreamSpec) if field.type in (int, int | None))
_WORDS = {"flush": get_args(Flush), "text": get_args(Text)}


def _profile(name: object) -> StreamSpec:
    spec = PROFILES.get(name) if isinstance(name, str) else None
    if spec is None:
        raise StreamError(f"stream profile: unknown {shown(name)}; {suggestion(name, PROFILES)}")
    return spec


def _override(base: StreamSpec, table: Mapping[object, object]) -> StreamSpec:
    for key, value in table.items():
        _check(key, value)
    merged = msgspec.structs.asdict(base) | {str(k): v for k, v in table.items()}
    if table.keys() & {"tokens_median", "tokens_sigma", "tokens_max"} and "tokens" not in table:
        merged["tokens"] = None
    try:
        return msgspec.convert(merged, StreamSpec)
    except msgspec.ValidationError as error:
        raise StreamError(f"stream.{explained(error, merged, StreamSpec)}") from None


def _check(key: object, value: object) -> None:
    if key not in StreamSpec.__struct_fields__:
        takes = suggestion(key, ("profile", *StreamSpec.__struct_fields__))
        raise StreamError(f"stream.{str(key)[:64]}: unknown parameter; {takes}")
    if key in RANGES:
        check_number(f"stream.{key}", value, *RANGES[str(key)], StreamError, whole=key in _WHOLE)
    if key in _WORDS:
        choice(f"stream.{key}", value, _WORDS[str(key)], StreamError)


@cache
def _load_profiles() -> dict[str, StreamSpec]:
    tables = tomllib.loads(files(__package__).joinpath("profiles.toml").read_text(encoding="utf-8"))
    return {name: msgspec.convert(table, StreamSpec) for name, table in tables.items()}


PROFILES: dict[str, StreamSpec] = _load_profiles()


@dataclass(frozen=True)
class Schedule:
    """One answer as the model will produce it: text i falls due `due_ns[i]` after the message's start."""

    texts: Sequence[str]
    due_ns: array[int]

    @property
    def n(self) -> int:
        """Number of tokens."""
        return len(self.texts)

    @property
    def ttft_ns(self) -> int:
        """The model's own time to its first token."""
        return self.due_ns[0]

    @property
    def duration_ns(self) -> int:
        """From the message's start to its last token."""
        return self.due_ns[-1]

    @cached_property
    def sha256(self) -> str:
        """Hex hash of the whole text as UTF-8: what the end message carries."""
        return hashlib.sha256("".join(self.texts).encode("utf-8")).hexdigest()

    def first(self, tokens: int | None) -> Schedule:
        """The same answer, ended after so many tokens at most."""
        if tokens is None or tokens >= self.n:
            return self
        return Schedule(self.texts[:tokens], self.due_ns[:tokens])

    def update_digest(self, digest: hashlib._Hash) -> None:
        """Add texts and due times to `digest`, for the hash of a whole run's schedule."""
        digest.update(msgspec.json.encode([self.texts, list(self.due_ns)]))


def message_seed(run_seed: int, block: int, k: int) -> int:
    """The seed of a run's message `k` in `block`: below 2**53, so that every JSON reader keeps it whole."""
    digest = hashlib.sha256(f"tokenderby/{run_seed}/{block}/{k}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def build(spec: StreamSpec, seed: int) -> Schedule:
    """The answer of the model `spec` for `seed`. Pure. Raises StreamError when the answer would last over an hour."""
    if spec.times:
        return _replayed(spec, seed)
    texts = _texts(spec, seed)
    due_ns = _due_ns(spec, len(texts), _generator(seed, "gap"), _burst_lengths(spec, seed))
    return _bounded(Schedule(texts, due_ns))


def _bounded(schedule: Schedule) -> Schedule:
    if schedule.duration_ns > MAX_DURATION_S * 1_000_000_000:
        raise StreamError(f"stream: the answer would last over {MAX_DURATION_S} s; lower tokens, gap_ms or stall_ms")
    return schedule


def _generator(seed: int, purpose: str) -> Random:
    """A generator for each purpose: a change in one parameter leaves the other draws as they were."""
    return Random(f"tokenderby/1/{seed}/{purpose}")


def _texts(spec: StreamSpec, seed: int) -> Sequence[str]:
    if spec.recording is not None:
        return _recorded_texts(spec.recording, spec.tokens, _generator(seed, "text"))
    if spec.text == "hazards":
        tokens = hazards()
        return tokens if spec.tokens is None else _cycle(tokens, 0, spec.tokens)
    tokens = prose()
    first = int(_generator(seed, "text").random() * len(tokens))
    return _cycle(tokens, first, _answer_length(spec, seed))


def _recorded_texts(recording_id: str, tokens: int | None, text: Random) -> Sequence[str]:
    answers = registered(recording_id).answers
    first = int(text.random() * len(answers))
    if tokens is None:
        return answers[first]
    # An exact length (from a trace): go on with the next recorded answers until it is reached.
    endless = chain.from_iterable(answers[(first + k) % len(answers)] for k in range(tokens + 1))
    return tuple(islice(endless, tokens))


def check_times(recording: Recording | None) -> None:
    """Raise StreamError where `times` has nothing to replay."""
    if recording is None:
        raise StreamError("stream.times: replays a recording's times, and there is no recording")
    if not recording.has_times:
        raise StreamError("stream.times: this recording has answers without at_ms")


def _replayed(spec: StreamSpec, seed: int) -> Schedule:
    """A recorded answer as it came. One that has to be longer goes on with the next, as if that had been asked then."""
    found = registered(spec.recording) if spec.recording is not None else None
    check_times(found)
    assert found is not None
    first = int(_generator(seed, "text").random() * len(found.answers))
    wanted = len(found.answers[first]) if spec.tokens is None else spec.tokens
    texts: list[str] = []
    due_ns = array("q")
    for k in cycle([*range(first, len(found.answers)), *range(first)]):
        begin_ns = due_ns[-1] if due_ns else 0
        texts += found.answers[k]
        due_ns.extend(begin_ns + round(at_us / spec.times_speed_up) * 1000 for at_us in found.at_us[k] or ())
        if len(texts) >= wanted:
            break
    return _bounded(Schedule(texts, due_ns).first(wanted))


def _cycle(tokens: Sequence[str], first: int, count: int) -> Sequence[str]:
    if first + count <= len(tokens):
        return tokens[first : first + count]
    return tuple(tokens[(first + k) % len(tokens)] for k in range(count))


def _answer_length(spec: StreamSpec, seed: int) -> int:
    if spec.tokens is not None:
        return spec.tokens
    rng = _generator(seed, "len")
    return max(1, min(spec.tokens_max, round(_lognormal(rng, spec.tokens_median, spec.tokens_sigma))))


def _lognormal(rng: Random, median: float, sigma: float) -> float:
    uniform = rng.random()
    if sigma == 0:
        return median
    return median * exp(sigma * _NORMAL.inv_cdf(max(uniform, _TINY)))


def _burst_lengths(spec: StreamSpec, seed: int) -> Callable[[], int] | None:
    """A function that draws how many tokens the next emission has; None if each has one."""
    fixed = max(1, round(spec.per_emission))
    if spec.flush == "speculative":
        rng = _generator(seed, "flush")
        return lambda: (
            1 + next((k for k in range(spec.draft_tokens) if rng.random() >= spec.acceptance), spec.draft_tokens)
        )
    if spec.flush == "geometric" and spec.per_emission > 1:
        rng = _generator(seed, "flush")
        scale = log(1 - 1 / spec.per_emission)
        return lambda: 1 + int(log(max(rng.random(), _TINY)) / scale)
    return (lambda: fixed) if fixed > 1 else None


def _due_ns(spec: StreamSpec, count: int, rng: Random, burst_length: Callable[[], int] | None) -> array[int]:
    first_us = round(_lognormal(rng, spec.ttft_ms, spec.ttft_sigma) * 1000)
    if burst_length is None:
        return array("q", accumulate(_gaps_ns(spec, count - 1, rng), initial=first_us * 1000))
    lengths = _lengths(count, burst_length)
    emissions_ns = accumulate(_gaps_ns(spec, len(lengths) - 1, rng), initial=first_us * 1000)
    return array("q", chain.from_iterable(map(repeat, emissions_ns, lengths)))


def _lengths(count: int, burst_length: Callable[[], int]) -> list[int]:
    """How many tokens each emission of an answer has."""
    lengths: list[int] = []
    while count:
        lengths.append(min(burst_length(), count))
        count -= lengths[-1]
    return lengths


def _gaps_ns(spec: StreamSpec, count: int, rng: Random) -> list[int]:
    """`count` gaps between emissions, in whole microseconds. Written for speed: a gap for each token of each answer."""
    median_ms, sigma = spec.gap_ms, spec.gap_sigma
    uniform, quantile = rng.random, _NORMAL.inv_cdf
    if sigma and not spec.stall_probability:
        drawn = [quantile(uniform() or _TINY) for _ in range(count)]
        return [round(median_ms * exp(sigma * z) * 1000) * 1000 for z in drawn]
    return [_gap_us(spec, uniform) * 1000 for _ in range(count)]


def _gap_us(spec: StreamSpec, uniform: Callable[[], float]) -> int:
    drawn = uniform()
    factor = exp(spec.gap_sigma * _NORMAL.inv_cdf(drawn or _TINY)) if spec.gap_sigma else 1.0
    gap_us = round(spec.gap_ms * factor * 1000)
    if spec.stall_probability and uniform() < spec.stall_probability:
        gap_us += round(spec.stall_ms * 1000)
    return gap_us
