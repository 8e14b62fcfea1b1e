"""How a client behaves: the words of a cell's variant, each with its default (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast, get_args

from clients.core.recovery import Backoff, EventSourcePolicy, Policy
from clients.core.tls import Trust
from servers.checks import check_number, choice
from servers.user_errors import InputError

MAX_WAIT_S = 3600  # between two polls, or in one
MAX_UNREAD_S = 86_400  # longer than any message may take: for ever
MAX_SHARE = 1000  # users of one HTTP/2 connection


@dataclass(frozen=True)
class ClientSettings:
    """A client's settings, the same for all users of a cell.

    `interval_s`: from the start of one poll to the start of the next. `wait_s`: how long a poll may be held (0: not
    at all). `reuse`: keep the connection for the next message. `method`: how SSE asks, `post` as fetch does, or `get`
    as EventSource does. `silence_s`: give a connection up when nothing came for so long (None: never);
    `token_silence_s`: when no token came for so long, since the request or the last one, whatever else did.
    `unread_s`: stop reading for so long at the first token of an answer (0: never). `others`: the transports that
    recovery `fallback` may go over to, in order, each with its URL.
    `model`: what an OpenAI-compatible endpoint is asked for, and `limit` the key that bounds its answer. `dialect`: in
    which form an SSE server is to answer, "" for its own. `trust`: whose certificates are good where the URL is https.
    `http`: 1 for HTTP/1.1, or 2; then `share` users have
    one connection together (clients.core.carrier).
    """

    url: str
    auth_token: str | None = field(default=None, repr=False)
    recovery: Policy = field(default_factory=Policy)
    silence_s: float | None = None
    token_silence_s: float | None = None
    reuse: bool = True
    interval_s: float = 1.0
    wait_s: float = 0.0
    method: str = "post"
    unread_s: float = 0.0
    others: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    limit: str = "max_tokens"
    dialect: str = ""
    trust: Trust = field(default_factory=Trust)
    http: int = 1
    share: int = 50

    def __post_init__(self) -> None:
        if not (self.auth_token or "").isascii() or not (self.auth_token or "").isprintable():
            raise InputError("auth token: takes printable ASCII characters, for it is sent in a header")

    @classmethod
    def of_variant(cls, variant: Mapping[str, object], **given: Any) -> ClientSettings:
        """Settings from a cell's variant; words for the server or for nobody (`heartbeat`, `copy`) are passed over.

        Raises InputError, which names the word and what it takes.
        """
        if "interval" in variant:
            given["interval_s"] = check_number(
                "interval", variant["interval"], 0, MAX_WAIT_S, what="seconds", text=True
            )
        if "wait" in variant:
            given["wait_s"] = check_number("wait", variant["wait"], 0, MAX_WAIT_S, what="seconds", text=True)
        if "reuse" in variant:
            given["reuse"] = choice("reuse", str(variant["reuse"]).lower(), ("on", "off", "true", "false")) in (
                "on",
                "true",
            )
        if "method" in variant:
            given["method"] = choice("method", str(variant["method"]).lower(), ("post", "get"))
        if "unread" in variant:
            given["unread_s"] = check_number("unread", variant["unread"], 0, MAX_UNREAD_S, what="seconds", text=True)
        if "backoff" in variant:
            backoff = choice("backoff", str(variant["backoff"]).lower(), get_args(Backoff))
            given["recovery"] = replace(given.get("recovery", Policy()), backoff=cast(Backoff, backoff))
        if "http" in variant:
            given["http"] = int(choice("http", str(variant["http"]), ("1", "2")))
        if "share" in variant:
            given["share"] = int(check_number("share", variant["share"], 1, MAX_SHARE, whole=True, text=True))
        given |= {word: str(variant[word]) for word in ("model", "limit", "dialect") if word in variant}
        return cls(**given)

    @property
    def policy(self) -> Policy:
        """What a user does after a drop; one that asks by GET stands for a browser's EventSource."""
        return EventSourcePolicy(**asdict(self.recovery)) if self.method == "get" else self.recovery
