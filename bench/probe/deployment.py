"""What is probed: a URL for each transport, the token, and whose certificates are good."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from bench.running.addresses import AddressError, NoAddressError, server_url
from clients.core.endpoint import Endpoint
from clients.core.errors import ClientFailure
from clients.core.message_script import fetch
from clients.core.settings import ClientSettings
from clients.core.tls import Trust
from clients.drivers.aio import AioClient
from servers.checks import suggestion
from servers.foreign_text import in_one_line, page_title
from servers.messages import NOT_JSON
from servers.transport import TRANSPORTS
from servers.user_errors import InputError, UserError

MAX_CONNECTIONS = 96  # open at once, however many questions are asked; the control's come on top
SMALL_ANSWER_S = 10.0  # for a small answer
_NO_NAME = "[Errno -"  # getaddrinfo's numbers are below 0
_HUNG_UP = frozenset({"fin", "rst"})  # so do most who are asked for HTTP and speak TLS
_WANTED = "takes the URL of one of Tokenderby's own servers (tokenderby serve sse)"


class _Health(msgspec.Struct, frozen=True):
    transport: str


@dataclass(frozen=True)
class Deployment:
    """Servers behind whatever is in front of them. `urls`: transport → URL, http or https."""

    urls: Mapping[str, str]
    token: str | None = field(default=None, repr=False)
    trust: Trust = field(default_factory=Trust)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONNECTIONS), compare=False)

    @property
    def transports(self) -> tuple[str, ...]:
        """Those that it has, in the registry's order."""
        return tuple(name for name in TRANSPORTS if name in self.urls)

    def endpoint(self, transport: str) -> Endpoint:
        """Where a transport's server is."""
        return Endpoint.parse(self.urls[transport])

    def client(self, transport: str) -> AioClient:
        """A client without a connection; who uses it opens one at a time."""
        return AioClient(transport, ClientSettings(self.urls[transport], self.token, trust=self.trust))

    async def fetch(self, transport: str, path: str, limit_s: float = SMALL_ANSWER_S) -> tuple[int, bytes]:
        """A small answer to a GET, over a connection of its own: status and body. Raises ClientFailure."""
        return await _fetched(self.client(transport), path, limit_s)


async def find_deployment(arguments: Sequence[str], token: str | None, trust: Trust) -> Deployment:
    """The deployment that a command line names: `sse=https://…`, or URLs whose `/healthz` tells the transport.

    Behind a URL without a transport there may also be paths, one a transport (`https://chat.example.com/sse`).

    Raises InputError for what is no address, UserError where nobody answers.
    """
    urls: dict[str, str] = {}
    for argument in arguments:
        name, equals, url = argument.partition("=")
        if equals and name.isalpha() and name not in TRANSPORTS:
            raise InputError(f"URL {_shown(argument)}: no transport {name[:20]!r}; {suggestion(name, TRANSPORTS)}")
        if equals and name in TRANSPORTS:
            found = {name: _address(argument, url)}
            await _check(name, found[name], token, trust)
        else:
            found = await _transports_behind(_address(argument, argument), token, trust)
        if twice := found.keys() & urls.keys():
            raise InputError(
                f"URL {_shown(argument)}: {', '.join(sorted(twice))} has a URL already; takes one for each"
            )
        urls |= found
    deployment = Deployment(urls, token, trust)
    await asyncio.gather(*(_check_silence(deployment, transport) for transport in urls))
    return deployment


class _Stats(msgspec.Struct, frozen=True):
    heartbeat_s: float = 0.0


async def _check_silence(deployment: Deployment, transport: str) -> None:
    """Raise UserError where the server does not let us ask, or is never silent."""
    url = deployment.urls[transport]
    try:
        status, body = await deployment.fetch(transport, "/stats")
        stats = msgspec.json.decode(body, type=_Stats) if status == 200 else _Stats()
    except ClientFailure as failure:
        raise UserError(f"{url}/stats: {_in_words(failure)}") from None
    except NOT_JSON:
        return  # somebody's stack; its answers are what counts
    if status in (401, 403):
        raise UserError(f"{url}/stats: status {status}; the server wants its token (--token)")
    if stats.heartbeat_s:
        raise UserError(f"{url}: sends heartbeats, which hide every limit on silence; serve it without --heartbeat")


def _address(argument: str, url: str) -> str:
    try:
        return server_url(url, option="--token")
    except AddressError as error:
        why = "no address" if isinstance(error, NoAddressError) else str(error)
        raise InputError(f"URL {_shown(argument)}: {why}; takes https://HOST, or TRANSPORT=https://HOST") from None


def _shown(argument: str) -> str:
    """An argument in a message: without what stands before an @, which may be a password."""
    _, at, rest = argument.rpartition("@")
    return repr(f"…@{rest}"[:200] if at else argument[:200])


async def _check(transport: str, url: str, token: str | None, trust: Trust) -> None:
    told = await _told(url, token, trust)
    if isinstance(told, str):
        raise UserError(f"{transport}={url}: {told}")
    if told.transport != transport:
        raise InputError(f"{transport}={url}: its /healthz says that it serves {in_one_line(told.transport)}")


async def _transports_behind(url: str, token: str | None, trust: Trust) -> dict[str, str]:
    """What a URL, and the paths below it, say they serve. Raises UserError if nobody says anything."""
    places = [url, *(f"{url}/{name}" for name in TRANSPORTS)]
    answers = await asyncio.gather(*(_told(place, token, trust) for place in places))
    found: dict[str, str] = {}
    for place, told in zip(places, answers, strict=True):
        if isinstance(told, _Health) and told.transport in TRANSPORTS:
            found.setdefault(told.transport, place)
    if not found:
        raise UserError(f"{url}: {_why_not(answers[0])}")
    return found


def _why_not(told: _Health | str) -> str:
    """Why what `/healthz` says is of no use."""
    if isinstance(told, str):
        return told
    return f"its /healthz says that it serves {in_one_line(told.transport)!r}, which is none of our transports"


async def _told(url: str, token: str | None, trust: Trust) -> _Health | str:
    """What `/healthz` says, or why it says nothing that we know."""
    settings = ClientSettings(url, token, trust=trust)
    try:
        status, body = await _fetched(AioClient("blocking", settings), "/healthz", SMALL_ANSWER_S)
    except ClientFailure as failure:
        asks_tls = "; is it an https:// address?" if url.startswith("http:") and failure.how in _HUNG_UP else ""
        return _in_words(failure) + asks_tls
    if status != 200:
        title = page_title(body)
        return f"/healthz answers {status}{f' (“{title}”)' if title else ''}{_of_status(status)}; {_WANTED}"
    try:
        return msgspec.json.decode(body, type=_Health)
    except NOT_JSON:
        return f"/healthz answers 200, but not as one of our servers does (a page for people?); {_WANTED}"


def _of_status(status: int) -> str:
    """What a status that is not 200 means as a rule."""
    if 300 <= status < 400:
        return ", a redirect (to a login page?)"
    if status in (401, 403):
        return ", which our servers never say there: somebody before them wants to know who asks"
    if status == 429:
        return ", too many requests: somebody before the server limits their rate"
    return ", so that no server is reached, or not yet" if status in (502, 503, 504) else ""


def _in_words(failure: ClientFailure) -> str:
    """Why nothing came, for people."""
    detail = " ".join(str(failure.args[0]).split())
    is_name = detail.startswith(_NO_NAME)
    detail = re.sub(r"^\[Errno -?\d+\] ", "", detail)
    if is_name:
        return in_one_line(f"nobody knows this name ({detail})")
    words = {
        "timeout": f"no whole answer within {SMALL_ANSWER_S:g} s",
        "format": f"the answer is no HTTP, or too large ({detail})",
        "refused": f"nobody takes connections there ({detail})",
    }.get(failure.how, detail or failure.how)
    return in_one_line(words)


async def _fetched(client: AioClient, path: str, limit_s: float) -> tuple[int, bytes]:
    try:
        return await client.run(fetch(client.session, path, limit_s))
    finally:
        await client.close()
