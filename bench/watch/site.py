"""The race page's own server: the page, what it is told, and its levers (another intermediary, a heartbeat, a cut)."""

from __future__ import annotations

import asyncio
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web

from bench.proxy.profile import Profile, load_profile
from bench.proxy.profile import names as names_of_all
from bench.watch.race_track import RaceTrack
from servers import access, page
from servers.chat import RequestError
from servers.connection import error_response
from servers.http import Handler, json_response
from servers.messages import NOT_JSON
from servers.transport import TRANSPORTS

MAX_BODY_BYTES = 1024
_Body = TypeVar("_Body")


class _Choice(msgspec.Struct, frozen=True):
    profile: str


class _Heartbeat(msgspec.Struct, frozen=True):
    seconds: Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Site:
    """The page of one race track. `profile` is what stands in between now; all times of profiles are divided.

    origin: where the page is, http://127.0.0.1:PORT
    """

    def __init__(self, origin: str, track: RaceTrack, profile: Profile, time_scale: float) -> None:
        self._origin = origin
        self._track = track
        self._own = profile  # may be a file of the user's
        self._profile = profile
        self._time_scale = time_scale
        self._heartbeat_s = 0.0  # as chosen, not divided
        self._changing = asyncio.Lock()

    def application(self) -> web.Application:
        """What listens at the page's address. The lanes have to have their addresses already."""
        app = web.Application(middlewares=[self._check], client_max_size=MAX_BODY_BYTES)
        page.add_routes(app, self._race, [lane.url for lane in self._track.lanes])
        app.router.add_post("/race/cut", self._cut)
        app.router.add_post("/race/intermediary", self._change)
        app.router.add_post("/race/heartbeat", self._beat)
        return app

    async def put(self, profile: Profile) -> None:
        """What stands in between from now on."""
        async with self._changing:
            await self._put(profile)

    async def _put(self, profile: Profile) -> None:
        await self._track.put(profile.scaled(self._time_scale))
        self._profile = profile

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse the pages of others, also those that make a name of their own mean this address."""
        try:
            if request.host != self._origin.removeprefix("http://"):
                raise RequestError(403, "foreign_origin", f"the page is at {self._origin}")
            access.check_origin(request.headers, ())
            return await handler(request)
        except RequestError as error:
            return error_response(error)

    def _race(self) -> page.PageRace:
        columns = (
            page.PageColumn(
                lane.transport, TRANSPORTS[lane.transport].title, TRANSPORTS[lane.transport].colour, lane.url
            )
            for lane in self._track.lanes
        )
        known = [self._own.name, *(name for name in names_of_all() if name != self._own.name)]
        at_chat = tuple(msgspec.structs.replace(column, url=f"{column.url}/chat") for column in columns)
        return page.PageRace(
            at_chat,
            intermediaries=tuple(known),
            intermediary=self._profile.name,
            heartbeat_s=self._heartbeat_s,
            time_scale=self._time_scale,
        )

    async def _cut(self, _: web.Request) -> web.Response:
        return json_response({"cut": self._track.cut()})

    async def _change(self, request: web.Request) -> web.Response:
        name = (await _read(request, _Choice)).profile
        if name != self._own.name and name not in names_of_all():  # no path: a page must not make us read files
            raise RequestError(400, "bad_request", "profile: takes one of the listed names")
        profile = self._own if name == self._own.name else load_profile(name)
        await self.put(profile)
        return json_response({"intermediary": profile.name})

    async def _beat(self, request: web.Request) -> web.Response:
        """Servers take their heartbeat when they start: others take the place of those that run."""
        seconds = (await _read(request, _Heartbeat)).seconds
        async with self._changing:
            await self._track.start_servers(seconds / self._time_scale)
            await self._put(self._profile)
        self._heartbeat_s = seconds
        return json_response({"seconds": seconds})


async def _read(request: web.Request, kind: type[_Body]) -> _Body:
    """The request's body. Raises RequestError."""
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except NOT_JSON as error:
        raise RequestError(400, "bad_request", f"the request is wrong: {error}") from None
