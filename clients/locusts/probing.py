"""What a Locust process asks of a server beside its messages: its clock and its counters."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
from time import monotonic_ns

from clients.clock import Reading, offset_of

_TIMEOUT_S = 5.0
_QUESTIONS = 8


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A server that points elsewhere is none of ours, and elsewhere must not be sent our token."""

    def redirect_request(self, *_: object) -> None:
        """Never: the redirect is then an error like any other status."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def get_json(url: str, path: str, auth_token: str | None = None) -> dict[str, object]:
    """A small JSON answer. Raises OSError, ValueError."""
    headers = {"Authorization": f"Bearer {auth_token}"} if auth_token else {}
    request = urllib.request.Request(url.rstrip("/") + path, headers=headers)  # noqa: S310  # options check the scheme
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S) as response:
            answer = json.load(response)
    except HTTPException as error:
        raise ValueError(f"{path}: {type(error).__name__}") from error
    if not isinstance(answer, dict):
        raise ValueError(f"{path}: takes a JSON object")
    return answer


def clock_offset_ns(url: str, auth_token: str | None) -> tuple[int, str]:
    """The server's monotonic clock minus ours, and a note if there is something to say of it."""
    try:
        readings = [_read(url, auth_token) for _ in range(_QUESTIONS)]
    except (OSError, ValueError) as error:
        return 0, f"the clock at {url} could not be read ({type(error).__name__}: {error}): taken to be ours"
    offset_ns = offset_of(readings)
    return offset_ns, f"the clock at {url} is {offset_ns / 1e6:.3f} ms ahead of ours" if offset_ns else ""


def _read(url: str, auth_token: str | None) -> Reading:
    asked_ns = monotonic_ns()
    server_ns = get_json(url, "/clock", auth_token).get("monotonic_ns")
    if type(server_ns) is not int:
        raise ValueError("/clock: monotonic_ns takes an integer")
    return Reading(asked_ns, server_ns, monotonic_ns())
