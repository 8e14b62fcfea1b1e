"""Flask as people write it: `Response` over a generator. Run by gunicorn or by its development server.

gunicorn "servers.stacks.flask_app:create()"
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from servers import access
from servers.body import too_large, unpacked
from servers.chat import ChatRequest, RequestError, open_answer
from servers.chunked import wire as chunked_wire
from servers.connection import refusal_headers
from servers.generation import Generation
from servers.http import STREAM_HEADERS, read_since
from servers.messages import encode_error
from servers.service import MAX_REQUEST_BYTES
from servers.sse import wire as sse_wire
from servers.sse.opening import chat_from_query, is_over, opened
from servers.stacks import answer
from servers.stacks.worker import Worker


def create() -> Flask:
    """The application of one worker."""
    worker = Worker.from_environment()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its development server writes a line per request
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    app.register_error_handler(RequestError, _refuse)
    app.register_error_handler(HTTPException, _refuse_http)
    _add_probes(app, worker)
    add = {"sse": _add_sse, "chunked": _add_chunked}
    add[worker.settings.transport](app, worker)
    return app


def _add_probes(app: Flask, worker: Worker) -> None:
    @app.before_request
    def check_access() -> None:
        if request.path != "/healthz":
            writes = request.method not in ("GET", "HEAD")
            access.check(dict(request.headers), worker.auth_token, (), writes=writes)

    def probe(report: dict[str, object]) -> Response:
        return Response(msgspec.json.encode(report), headers=answer.PROBE_HEADERS, mimetype="application/json")

    @app.get("/healthz")
    def healthz() -> Response:
        return probe({"transport": worker.settings.transport})

    @app.get("/stats")
    def stats() -> Response:
        return probe(worker.stats_report(read_since(request.args.get("since", "0"))))

    @app.get("/clock")
    def clock() -> Response:
        return probe(worker.clock_report())


def _add_chunked(app: Flask, worker: Worker) -> None:
    def lines(generation: Generation, first: int) -> Iterator[bytes]:
        for message in worker.messages(generation, first):
            yield chunked_wire.encode_token(message.data)

    @app.post("/chat")
    def chat() -> Response:
        asked = _read_chat(worker)
        generation = open_answer(worker.answers, asked)
        return _stream(lines(generation, asked.first), chunked_wire.CONTENT_TYPE, generation)


def _add_sse(app: Flask, worker: Worker) -> None:
    def events(generation: Generation, first: int) -> Iterator[bytes]:
        yield sse_wire.encode_retry()
        for message in worker.messages(generation, first):
            yield answer.event(generation.stream_id, message)

    @app.post("/chat")
    def post() -> Response:
        generation, first = opened(worker.answers, _read_chat(worker), request.headers.get("Last-Event-ID"))
        return _stream(events(generation, first), sse_wire.CONTENT_TYPE, generation)

    @app.get("/chat")
    def get() -> Response:
        worker.counts.add("requests")
        seen = request.headers.get("Last-Event-ID")
        generation, first = opened(worker.answers, chat_from_query(request.args), seen)
        if is_over(generation, first, seen):
            return Response(status=204, headers={"Stream-Id": generation.stream_id})
        return _stream(events(generation, first), sse_wire.CONTENT_TYPE, generation)


def _stream(pieces: Iterator[bytes], content_type: str, generation: Generation) -> Response:
    headers = {"Stream-Id": generation.stream_id, **STREAM_HEADERS}
    return Response(pieces, content_type=content_type, headers=headers)


def _read_chat(worker: Worker) -> ChatRequest:
    worker.counts.add("requests")
    return ChatRequest.parse(unpacked(_read_body(), request.headers.get("Content-Encoding", "")))


def _read_body() -> bytes:
    """The body as it came. Raises RequestError where it or its framing breaks off, HTTPException if it is too large."""
    try:
        return request.get_data()
    except HTTPException:
        raise
    except Exception as error:  # each WSGI server has errors of its own for that
        raise RequestError(400, "bad_body", "the body is cut off, or not as its Transfer-Encoding says") from error


def _refuse(error: RequestError) -> Response:
    body = encode_error(error.code, error.message)
    return Response(body, error.status, refusal_headers(error), content_type="application/json")


def _refuse_http(error: HTTPException) -> Response:
    if error.code == 413:
        return _refuse(too_large())
    response = _refuse(RequestError(error.code or 500, error.name.lower().replace(" ", "_"), error.name))
    if allow := error.get_response().headers.get("Allow"):
        response.headers["Allow"] = allow
    return response
