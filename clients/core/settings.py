"""How a client behaves: the words of a cell's variant, each with its default (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from clients.core.recovery import EventSourcePolicy, Policy
from clients.core.tls import Trust
from servers.checks import choice, number
from servers.user_errors import InputError

MAX_WAIT_S = 3600  # between two polls, or in one


@dataclass(frozen=True)
class ClientSettings:
    """A client's settings, the same for all users of a cell.

    `interval_s`: from the start of one poll to the start of the next. `wait_s`: how long a poll may be held (0: not
    at all). `reuse`: keep the connection for the next message. `method`: how SSE asks, `post` as fetch does, or `get`
    as EventSource does. `silence_s`: give a connection up when nothing came for so long (None: never).
    `model`: what an OpenAI-compatible endpoint is asked for, and `limit` the key that bounds its answer. `dialect`: in
    which form an SSE server is to answer, "" for its own. `trust`: whose certificates are good where the URL is https.
    """

    url: str
    auth_token: str | None = field(default=None, repr=False)
    recovery: Policy = field(default_factory=Policy)
    silence_s: float | None = None
    reuse: bool = True
    interval_s: float = 1.0
    wait_s: float = 0.0
    method: str = "post"
    model: str = ""
    limit: str = "max_tokens"
    dialect: str = ""
    trust: Trust = field(default_factory=Trust)

    def __post_init__(self) -> None:
        if not (self.auth_token or "").isascii() or not (self.auth_token or "").isprintable():
            raise InputError("auth token: takes printable ASCII characters, for it is sent in a header")

    @classmethod
    def of_variant(cls, variant: Mapping[str, object], **given: Any) -> ClientSettings:
        """Settings from a cell's variant; words for the server or for nobody (`heartbeat`, `copy`) are passed over.

        Raises InputError, which names the word and what it takes.
        """
        if "interval" in variant:
            given["interval_s"] = number("interval", variant["interval"], 0, MAX_WAIT_S, what="seconds", text=True)
        if "wait" in variant:
            given["wait_s"] = number("wait", variant["wait"], 0, MAX_WAIT_S, what="seconds", text=True)
        if "reuse" in variant:
            given["reuse"] = choice("reuse", str(variant["reuse"]).lower(), ("on", "off", "true", "false")) in (
                "on",
                "true",
            )
        if "method" in variant:
            given["method"] = choice("method", str(variant["method"]).lower(), ("post", "get"))
        given |= {word: str(variant[word]) for word in ("model", "limit", "dialect") if word in variant}
        return cls(**given)

    @property
    def policy(self) -> Policy:
        """What a user does after a drop; one that asks by GET stands for a browser's EventSource."""
        return EventSourcePolicy(**asdict(self.recovery)) if self.method == "get" else self.recovery
