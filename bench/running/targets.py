"""What runs already, servers, endpoints, a Redis: whether it is what it is said to be, and still the same process."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import msgspec
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from bench.running.addresses import base_path
from bench.running.processes import PartDied
from clients.core.tls_words import failed_handshake
from servers.foreign_text import page_title
from servers.messages import NOT_JSON, Count
from servers.redis_server import KEY_PREFIX
from servers.user_errors import reason

RETURN_S = 10.0  # whoever died and is started again by somebody answers by then
_ASK_AGAIN_S = 0.5
_MOST_BYTES = 65_536  # of an answer to a probe
_MOST_SHOWN = 100  # characters of what Redis says
_ONE_CLOCK_NS = (
    1_000_000_000  # CLOCK_MONOTONIC of one machine's processes agrees far better, of two machines hardly ever
)
T = TypeVar("T")


class NoAnswer(PartDied):
    """Nothing answers there, or not yet."""


class NotNow(NoAnswer):
    """An endpoint answers, but not this request, or not yet (5xx)."""


class Patience:
    """Gives parts that are not ours time to answer; one that stayed silent for all of it is only asked once after that.

    A part that is gone for good thus costs a run `patience_s` and not that much per cell; one that comes back is taken.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._silent: set[str] = set()

    async def wait(self, url: str, ask: Callable[[], Awaitable[T]]) -> T:
        """The first answer of `ask`, which asks what is at `url`. Raises NoAnswer."""
        deadline = time.monotonic() + (0.0 if url in self._silent else self._patience_s)
        while True:
            try:
                answer = await ask()
            except NoAnswer:
                if time.monotonic() >= deadline:
                    self._silent.add(url)
                    raise
                await asyncio.sleep(_ASK_AGAIN_S)
            else:
                self._silent.discard(url)
                return answer


def bearer(token: str | None) -> dict[str, str]:
    """The header that shows `token`, if there is one."""
    return {"Authorization": f"Bearer {token}"} if token else {}


async def check_server(http: aiohttp.ClientSession, transport: str, url: str) -> None:
    """Raise PartDied if the server at `url` is not one of `transport`, NoAnswer if none answers (yet)."""
    try:
        async with http.get(f"{url}/healthz") as response:
            status, body = response.status, await beginning(response)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise _unanswered("server", url, error) from error
    wanted = f'GET /healthz has to answer 200 with {{"transport": "{transport}"}} (docs/wire-format.md)'
    if status >= 500:  # what stands before a server that still starts says so
        raise NoAnswer(f"the server at {url} answers {status}; {wanted}")
    if status != 200:
        title = page_title(body)
        raise PartDied(f"the server at {url} answers {status}{f' (“{title}”)' if title else ''}; {wanted}")
    found = _transport_in(body)
    if found is None:
        raise PartDied(f'the server at {url} answers 200, but no JSON object with "transport"; {wanted}')
    if found != transport:
        raise PartDied(f"the server at {url} says that it is {found}, not {transport}")


async def check_endpoint(http: aiohttp.ClientSession, url: str, key: str | None) -> None:
    """Raise PartDied if what is at `url` does not take `key`, NoAnswer if nothing answers there (NotNow: not yet).

    It is asked for its models, which costs nothing; that it has no such list (404, say) is no fault.
    """
    models = f"{url}{'' if base_path(url) else '/v1'}/models"
    try:
        async with http.get(models, headers=bearer(key), allow_redirects=False) as response:
            status = response.status
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise _unanswered("endpoint", url, error) from error
    if status >= 500 and status != 501:  # a gateway that has no such list may say so by 501
        raise NotNow(f"the endpoint at {url} answers {status} when it is asked for its models")
    if status in (401, 403):
        does = "does not take this key" if key else "asks for a key"
        raise PartDied(f"the endpoint at {url} {does}: give it by OPENAI_API_KEY")


async def beginning(response: aiohttp.ClientResponse) -> bytes:
    """The body, in however many pieces it comes, as far as anybody needs it."""
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MOST_BYTES:
            break
    return body[:_MOST_BYTES]


def _unanswered(what: str, url: str, error: Exception) -> PartDied:
    """What it means that nothing came: where TLS does not come about, it will not do so by waiting."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return PartDied(f"{url}: {failed_handshake(cause)}")
    hint = "; is it an https:// address?" if url.startswith("http:") and _is_hung_up(error) else ""
    return NoAnswer(f"no {what} answers at {url} ({_why(error)}){hint}")


def _is_hung_up(error: Exception) -> bool:
    """Whether an open connection ended without an answer, as by most who are asked for HTTP and speak TLS."""
    opened = not isinstance(error, aiohttp.ClientConnectorError)
    return opened and isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took the connection and stays silent"
    return reason(error)


def _transport_in(body: bytes) -> str | None:
    try:
        told = msgspec.json.decode(body)
    except NOT_JSON:
        return None
    return str(told["transport"])[:64] if isinstance(told, dict) and "transport" in told else None


async def check_target_token(http: aiohttp.ClientSession, url: str, token: str | None) -> None:
    """Raise PartDied if the server at `url` asks for another token than `token`."""
    try:
        async with http.get(f"{url}/stats", headers=bearer(token)) as response:
            status = response.status
    except (aiohttp.ClientError, TimeoutError):  # it need not have /stats
        return
    if status in (401, 403):
        does = "does not take this token" if token else "asks for a token"
        raise PartDied(f"the server at {url} {does}: give it by --target-token or TOKENDERBY_TARGET_TOKEN")


class _Clock(msgspec.Struct, frozen=True):
    """What a server's `/clock` says."""

    monotonic_ns: Count


async def is_on_this_machine(http: aiohttp.ClientSession, url: str, token: str | None = None) -> bool:
    """Whether the server at `url` has the same monotonic clock as this process."""
    try:
        async with http.get(f"{url}/clock", headers=bearer(token)) as response:
            there_ns = msgspec.json.decode(await beginning(response), type=_Clock).monotonic_ns
    except (aiohttp.ClientError, TimeoutError, *NOT_JSON):
        return False
    return abs(there_ns - time.monotonic_ns()) < _ONE_CLOCK_NS


@dataclass(frozen=True)
class RedisReading:
    """What a Redis that is not ours says of itself; None where it does not answer."""

    cpu_s: float | None = None
    run_id: str | None = None

    @classmethod
    async def take(cls, redis: Redis) -> RedisReading:
        """Ask now."""
        try:
            info: Mapping[str, float | str] = await redis.info("everything")
        except (RedisError, OSError):
            return cls()
        return cls(float(info["used_cpu_sys"]) + float(info["used_cpu_user"]), str(info["run_id"]))


async def check_redis(redis: Redis, name: str) -> None:
    """Raise NoAnswer if a Redis, called `name`, does not answer, PartDied if it lets nobody in, or takes nothing."""
    try:
        await redis.set(f"{KEY_PREFIX}check", "", ex=1)  # some answer, but take nothing: a replica, or a full one
    except (AuthenticationError, ResponseError) as error:
        raise PartDied(f"{name} refuses: {str(error)[:_MOST_SHOWN]}") from error
    except (RedisError, OSError) as error:
        raise NoAnswer(f"{name} does not answer ({reason(error.__context__ or error)})") from error
