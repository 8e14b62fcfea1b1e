"""HTTP/2 connections that users share, as browsers' tabs do (pure).

    users' sessions ── Place ──▶ Carrier ──▶ its own Session ──▶ a driver moves the bytes
                   ◀── told ───

A carrier is a session of its own, whose script opens the connection and then tells each user what has come for it,
within the read that brought it. A user keeps its place until it hangs up. A new carrier is opened when all have as many
users as the settings' `share` says, or take no more requests; it is closed when the last user has gone.
"""

from __future__ import annotations

from collections.abc import Mapping

from clients.core.errors import ClientFailure, OwnFault, StreamReset
from clients.core.http1 import Request
from clients.core.http2 import Http2Connection, Http2Response
from clients.core.response import Response
from clients.core.session import NEVER_NS, Script, Session
from clients.core.settings import ClientSettings
from clients.core.tls import HTTP_2


class Carrier:
    """One connection and those who share it."""

    def __init__(self, settings: ClientSettings) -> None:
        self.session = Session(settings)
        self.connection = Http2Connection()
        self.places: dict[Place, None] = {}  # in the order in which they were taken
        self.asked: dict[Http2Response, Place] = {}  # who waits for what
        self.is_open = False
        self.is_given_up = False  # somebody has waited for too long, and nothing at all came
        self._is_telling = False

    def carry(self) -> Script[None]:
        """Its session's script: open the connection, tell users of what comes, until it is over or all are gone."""
        try:
            yield from self.session.open(self.connection, HTTP_2)
            self.connection.begin()
            self.is_open = True
        except ClientFailure as failure:
            self.connection.end(failure)
        except Exception as error:
            self.connection.end(OwnFault(error))
        self._tell(list(self.places))
        while self.connection.failure is None and self.places:
            yield NEVER_NS
            while news := self.connection.take_news():
                self._tell([self.asked[response] for response in news if response in self.asked])
        self.connection.say_goodbye()
        self.session.hang_up()
        self.connection.let_go()

    def _tell(self, places: list[Place]) -> None:
        self._is_telling = True
        for place in places:
            if place in self.places:  # still
                place.user.told(self.session.now_ns)
        self._is_telling = False

    def flush(self, now_ns: int) -> None:
        """A user has something to send."""
        if self._is_telling or not self.session.is_busy:  # it goes when all are told; or it is over
            return
        self.session.now_ns = now_ns
        self.session.flush()
        if self.connection.failure is not None:  # found by what was to be sent: the others are told in a moment
            self.session.wake_ns = now_ns
        self.session.obey()

    def leave(self, place: Place, now_ns: int) -> None:
        """A user goes; the last one closes the connection."""
        self.places.pop(place, None)
        if self.places:
            self.flush(now_ns)
        elif not self._is_telling:
            self.connection.say_goodbye()
            self.session.stop(now_ns)
            self.connection.let_go()
            self.session.obey()

    def gives_nothing(self, silence_s: float, now_ns: int) -> bool:
        """Whether no byte at all has come for so long."""
        return now_ns - self.session.heard_ns >= silence_s * 1e9


class Place:
    """A user's part of a shared connection; to a transport's script it is a connection like any other."""

    failure: ClientFailure | None = None  # between two requests nothing that happens is one

    def __init__(self, carrier: Carrier, user: Session) -> None:
        self.carrier, self.user = carrier, user
        self.response: Http2Response | None = None
        carrier.places[self] = None

    @property
    def is_fit(self) -> bool:
        """Whether another request may go now."""
        return self.carrier.is_open and not self.carrier.is_given_up and self.carrier.connection.is_fit

    def ask(self, session: Session, request: Request, headers: Mapping[str, str]) -> Response:
        """Send a request; its response, which is still to come. Raises StreamReset."""
        if not self.is_fit:
            raise StreamReset("the server allows no more streams", "refused_stream", is_unprocessed=True)
        self.response = response = self.carrier.connection.ask(request, session.endpoint, headers)
        self.carrier.asked[response] = self
        self.carrier.flush(session.now_ns)
        return response

    def finish(self) -> None:
        """Nobody waits for the response any more."""
        response, self.response = self.response, None
        if response is not None:
            del self.carrier.asked[response]
            self.carrier.connection.finish(response)

    def leave(self) -> None:
        """The user hangs up. Who was answered by silence leaves word for those who look for a place."""
        silence_s = self.user.settings.silence_s
        if silence_s is not None and (self.response is not None or not self.carrier.is_open):
            self.carrier.is_given_up |= self.carrier.gives_nothing(silence_s, self.user.now_ns)
        self.finish()
        self.carrier.leave(self, self.user.now_ns)

    def receive(self, data: bytes) -> None:
        """See clients.core.session.Connection; its carrier has the bytes."""

    def end(self, failure: ClientFailure | None) -> None:
        """See clients.core.session.Connection; its carrier has the connection."""

    def data_to_send(self) -> list[bytes]:
        """See clients.core.session.Connection; its carrier sends."""
        return []

    def say_goodbye(self) -> bool:
        """See clients.core.session.Connection."""
        return False


class Pool:
    """The connections of all users of a load process. A driver's own says how to `start` one."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._users = settings.share if settings.reuse else 1  # of a connection
        self.carriers: list[Carrier] = []

    def start(self, carrier: Carrier) -> None:
        """Run the carrier's script over a connection of its own."""
        raise NotImplementedError

    def join(self, user: Session) -> Script[Place]:
        """A place for `user`, on a new connection where the others are full. Raises ClientFailure."""
        user.hang_up()
        self.carriers = [c for c in self.carriers if c.connection.failure is None and c.places]
        carrier = next(filter(self._has_room, self.carriers), None)
        place = Place(carrier or Carrier(self._settings), user)
        if carrier is None:
            self.carriers.append(place.carrier)
            self.start(place.carrier)
        user.asks()
        try:
            yield from _until_open(place)
        except BaseException as error:
            place.leave()
            if isinstance(error, ClientFailure):
                error.is_unprocessed = True  # it waited for a connection, and has asked nothing
            raise
        finally:
            if carrier is None:
                user.setup.add(place.carrier.session.setup)
        user.connection = place
        return place

    def _has_room(self, carrier: Carrier) -> bool:
        """What one connection was told of streams at once will hold for one that is still being opened."""
        users = min(self._users, *(other.connection.max_streams for other in self.carriers))
        return carrier.connection.is_fit and not carrier.is_given_up and len(carrier.places) < users


def _until_open(place: Place) -> Script[None]:
    while not place.carrier.is_open:
        if place.carrier.connection.failure is not None:
            raise place.carrier.connection.failure
        yield from place.user.wait_for_news()
