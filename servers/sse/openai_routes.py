"""`POST /v1/chat/completions` and `GET /v1/models`: the answers of `/chat`, in the words of OpenAI's API."""

from __future__ import annotations

import time

from aiohttp import web

from servers.chat import ChatRequest, RequestError, open_answer, read_json
from servers.generation import Generation
from servers.http import (
    SERVICE,
    Encode,
    Handler,
    HttpStream,
    json_response,
    read_body,
    stream_answer,
    until_begun,
    until_ended,
)
from servers.messages import decode_error
from servers.sse import openai_wire, wire
from servers.sse.openai_wire import Completion, CompletionRequest
from servers.stream import PROFILES

_PREFIX = "/v1/"
_ROUTES = "there is no such route here: POST /v1/chat/completions, GET /v1/models"
_CODES = {401: "invalid_api_key"}  # where OpenAI has a word of its own for what a status means here


def add_openai_routes(app: web.Application) -> None:
    """Give `app` the routes, and errors in OpenAI's form."""
    app.middlewares.insert(0, _errors)
    app.router.add_post("/v1/chat/completions", _complete)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/health", _health)
    app.router.add_get("/v1/models/{name}", _model)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all other checks: what they refuse is said in OpenAI's form."""
    response = await handler(request)
    if request.path.startswith(_PREFIX) and isinstance(response, web.Response) and response.status >= 400:
        error = decode_error(response.body if isinstance(response.body, bytes) else b"")
        if error is not None:
            code = _CODES.get(response.status, error.code)
            is_route = request.match_info.http_exception is None
            message = error.message if is_route or response.status != 404 else _ROUTES
            response.body = openai_wire.encode_openai_error(response.status, code, message)
    return response


def _names(request: web.Request) -> tuple[str, ...]:
    """The models there are: the profiles, or the one source."""
    source = request.app[SERVICE].generations.source
    return tuple(PROFILES) if source is None else (source.name,)


async def _models(request: web.Request) -> web.Response:
    return json_response(openai_wire.models(_names(request)))


async def _health(_: web.Request) -> web.Response:
    """As vLLM has it: guidellm asks for it before all else."""
    return json_response({})


async def _model(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    _check_model(request, name)
    return json_response(openai_wire.model(name))


def _check_model(request: web.Request, name: str) -> None:
    known = _names(request)
    if name not in known:
        raise RequestError(404, "model_not_found", f"model: there is no {name[:64]!r}, but {', '.join(known)}")


async def _complete(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    asked = _parsed(await read_body(request))
    _check_model(request, asked.model)
    chat = ChatRequest(asked.text, asked.seed_of_answer(), asked.stream_table())
    generation = open_answer(service.generations, chat, asked.limit)
    completion = Completion(
        generation.stream_id,
        int(time.time()),
        asked.model,
        openai_wire.system_fingerprint(PROFILES.get(asked.model, asked.model)),
        len(asked.text.split()),
        asked.limit,
        asked.wants_usage,
    )
    if asked.stream:
        return await _stream(request, generation, completion)
    await until_ended(service, generation)
    return await _document(request, generation, completion)


def _parsed(body: bytes) -> CompletionRequest:
    try:
        return CompletionRequest.parse(read_json(body, "the request"))
    except ValueError as error:
        raise RequestError(400, "invalid_value", str(error)) from None


async def _stream(request: web.Request, generation: Generation, completion: Completion) -> web.StreamResponse:
    def encode(first: int, messages: list[bytes], end: bytes | None) -> bytes:
        chunks = [completion.token(generation.json_text(first + k)) for k in range(len(messages))]
        if first == 0:
            chunks.insert(0, completion.role())
        if end is not None:
            failure = generation.failure
            chunks.append(
                completion.end(generation.n) if failure is None else openai_wire.encode_openai_failure(*failure[:3])
            )
        return b"".join(chunks)

    await until_begun(request.app[SERVICE], generation, 0)
    return await _pushed(request, generation, wire.CONTENT_TYPE, encode, wire.HEARTBEAT)


async def _document(request: web.Request, generation: Generation, completion: Completion) -> web.StreamResponse:
    """One JSON document, but never whole in memory: a reader that takes nothing costs no more than elsewhere."""

    def encode(first: int, messages: list[bytes], end: bytes | None) -> bytes:
        parts = [generation.json_text(first + k)[1:-1] for k in range(len(messages))]
        if first == 0:
            parts.insert(0, completion.document_head())
        if end is not None:
            parts.append(completion.document_tail(generation.n))
        return b"".join(parts)

    return await _pushed(request, generation, "application/json", encode, b"")


async def _pushed(
    request: web.Request, generation: Generation, content_type: str, encode: Encode, heartbeat: bytes
) -> web.StreamResponse:
    service = request.app[SERVICE]
    return await stream_answer(
        request,
        generation.stream_id,
        content_type,
        lambda writer: service.push(generation, 0, HttpStream(request, writer, encode, heartbeat)),
    )
