"""Scripted answers: what a server says byte by byte, and what a client has to make of it, whichever way they come.

`answers[k]` is the response to request k of a connection; a WebSocket's first answers the handshake (`%ACCEPT%` stands
for the key's answer). Behind the last one the connection ends as `ending` says, or stays open ("hold").
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Literal

from support.asking import question
from support.feeding import encoded, encoded_end, schedule_of
from support.scripted import chunk, close_frame, frame, response
from support.transports.blocking import whole
from support.transports.polling import ACCEPTED, page

from clients.core.exchange import Question
from clients.core.record import Outcome
from servers import messages
from servers.chunked import wire as chunked
from servers.sse import wire as sse
from servers.transport import ENDPOINTS

Ending = Literal["fin", "rst", "hold"]
ANSWER = schedule_of("Hi", " é")
BUSY = messages.encode_error("busy", "later")
OK, TRUNCATED, DROPPED = Outcome.OK, Outcome.TRUNCATED, Outcome.DROPPED
REFUSED, BROKEN, ALTERED = Outcome.HTTP_ERROR, Outcome.PROTOCOL_ERROR, Outcome.ALTERED
LOST, TWICE, REORDERED = Outcome.LOST, Outcome.DUPLICATED, Outcome.REORDERED
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %ACCEPT%\r\n\r\n"
)


@dataclass(frozen=True)
class Case:
    """A scripted answer, and what it is: the outcome, how the failure showed (if it is one), the tokens that count."""

    transport: str
    name: str
    answers: tuple[bytes, ...]
    ending: Ending
    outcome: Outcome
    how: str = ""
    tokens: int = 2

    def __str__(self) -> str:
        return f"{self.transport}: {self.name}"

    def question(self) -> Question:
        """What is asked; the limit is for a machine that stands still."""
        return question(ANSWER, is_told=self.transport in ENDPOINTS, timeout_s=60)


def every_case() -> list[Case]:
    """All of them."""
    return [
        *_of_a_stream("sse", sse.CONTENT_TYPE, [*_sse_tokens()], sse.encode_end(encoded_end(ANSWER)), b": hm\n"),
        *_of_a_stream("chunked", chunked.CONTENT_TYPE, [*_lines()], _line(encoded_end(ANSWER)), b"\n"),
        *_of_sse_alone(),
        *_of_blocking(),
        *_of_polling(),
        *_of_websocket(),
        *_of_openai(),
    ]


def _line(message: bytes) -> bytes:
    return message + b"\n"


def _lines() -> list[bytes]:
    return [_line(token) for token in encoded(ANSWER)]


def _sse_tokens() -> list[bytes]:
    return [sse.encode_token(b"s", i, token) for i, token in enumerate(encoded(ANSWER))]


def _head(content_type: str, more: str = "Transfer-Encoding: chunked\r\n", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{more}\r\n".encode()


def _of_a_stream(transport: str, content_type: str, tokens: list[bytes], end: bytes, beat: bytes) -> list[Case]:
    head, last = _head(content_type), chunk(b"")
    one, two, over = chunk(tokens[0]), chunk(tokens[1]), chunk(end)
    body = b"".join([*tokens, end])
    good = head + one + two + over + last
    spoiled = b"data: nonsense\n\n" if transport == "sse" else b"nonsense\n"
    other = tokens[1].replace(b"\\u00e9", b"\\u00ea")
    not_gzip = response(BUSY, status="503 No", more="Content-Encoding: gzip\r\n")

    def case(name: str, answer: bytes, ending: Ending, outcome: Outcome, how: str = "", tokens: int = 2) -> Case:
        return Case(transport, name, (answer,), ending, outcome, how, tokens)

    def packed(coding: str, data: bytes) -> bytes:
        return _head(content_type, f"Transfer-Encoding: chunked\r\nContent-Encoding: {coding}\r\n") + chunk(data) + last

    return [
        case("whole", good, "hold", OK),
        case("whole, then FIN", good, "fin", OK),
        case("whole, then RST", good, "rst", OK),
        case("of known length", _head(content_type, f"Content-Length: {len(body)}\r\n") + body, "hold", OK),
        case("to the end of the connection", _head(content_type, "Connection: close\r\n") + body, "fin", OK),
        case("HTTP/1.0", _head(content_type, "").replace(b"1.1", b"1.0") + body, "fin", OK),
        case(
            "a parameter of the media type", good.replace(b"\r\nTransfer", b"; charset=utf-8\r\nTransfer"), "hold", OK
        ),
        case("behind 100", b"HTTP/1.1 100 Continue\r\n\r\n" + good, "hold", OK),
        case("behind two 103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + good, "hold", OK),
        case("all in one chunk", head + chunk(body) + last, "hold", OK),
        case("heartbeats between", head + chunk(beat) + one + chunk(beat * 3) + two + over + last, "hold", OK),
        case("chunk extensions and trailers", good.replace(b"\r\n" + tokens[0], b";a=b\r\n" + tokens[0]), "hold", OK),
        case("trailers", head + one + two + over + b"0\r\nX: y\r\n\r\n", "hold", OK),
        case("gzip", packed("gzip", gzip.compress(body, mtime=0)), "hold", OK),
        case("deflate", packed("deflate", zlib.compress(body)), "hold", OK),
        case("deflate without zlib's wrapper", packed("deflate", zlib.compress(body, wbits=-15)), "hold", OK),
        case("identity", packed("identity", body), "hold", OK),
        case("a second response behind it", good + good, "hold", OK),
        case("nonsense behind it", good + b"nonsense", "hold", OK),
        case("the end message, then a broken chunk", head + one + two + over + b"zz\r\n", "hold", OK),
        case("the end message, then FIN", head + one + two + over, "fin", OK),
        case("the end message, then RST", head + one + two + over, "rst", OK),
        case("the end message, then a token again", head + one + two + over + one + last, "hold", TWICE),
        case("the end message, then nonsense", head + one + two + over + chunk(spoiled) + last, "hold", OK),
        case("not gzip", packed("gzip", body), "hold", BROKEN, "format", 0),
        case("an unknown coding", packed("br", body), "hold", BROKEN, "format", 0),
        case("another media type", _head("text/html") + one + two + over + last, "hold", BROKEN, "format", 0),
        case("no media type", good.replace(b"Content-Type", b"X"), "hold", BROKEN, "format", 0),
        case("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "hold", BROKEN, "format", 0),
        case("two lengths", good.replace(b"\r\nTransfer", b"\r\nContent-Length: 5\r\nTransfer"), "hold", BROKEN, "", 0),
        case("a length that is none", _head(content_type, "Content-Length: x\r\n"), "hold", BROKEN, "format", 0),
        case("a broken chunk", head + one + b"zz\r\n", "hold", BROKEN, "format", 1),
        case("a message that is none", head + one + chunk(spoiled) + two + over + last, "hold", BROKEN, "format", 1),
        case("a refusal", response(BUSY, status="503 No", more="Retry-After: 1\r\n"), "hold", REFUSED, "status 503", 0),
        case("a refusal in plain words", response(b"no", "text/plain", "418 No"), "hold", REFUSED, "status 418", 0),
        case("a refusal that is cut", response(BUSY, status="503 No")[:-4], "fin", REFUSED, "status 503", 0),
        case("a refusal that is reset", response(BUSY, status="503 No")[:-4], "rst", REFUSED, "status 503", 0),
        case("a refusal that is not gzip", not_gzip, "hold", REFUSED, "status 503", 0),
        case(
            "a redirect", response(b"", status="302 Found", more="Location: /b\r\n"), "hold", REFUSED, "status 302", 0
        ),
        case("an unasked 101", SWITCHING, "hold", REFUSED, "status 101", 0),
        case("202", response(b"{}", status="202 Accepted"), "hold", REFUSED, "status 202", 0),
        case("nothing, then FIN", b"", "fin", TRUNCATED, "fin", 0),
        case("nothing, then RST", b"", "rst", DROPPED, "rst", 0),
        case("half a head", head[:-9], "fin", TRUNCATED, "fin", 0),
        case("cut behind the head", head, "fin", TRUNCATED, "fin", 0),
        case("cut inside a token", head + one[:-7], "fin", TRUNCATED, "fin", 0),
        case("reset behind a token", head + one, "rst", DROPPED, "rst", 1),
        case("too short for its length", _head(content_type, "Content-Length: 999\r\n") + body, "fin", OK),
        case("cut before the end message", head + one + two, "fin", TRUNCATED, "fin"),
        case("no end message", head + one + two + last, "hold", TRUNCATED, "end"),
        case("a token is missing", head + one + over + last, "hold", LOST, "", 1),
        case("a token twice", head + one + one + two + over + last, "hold", TWICE),
        case("the wrong order", head + two + one + over + last, "hold", REORDERED),
        case("another text", head + one + chunk(other) + over + last, "hold", ALTERED),
    ]


def _of_sse_alone() -> list[Case]:
    head, last = _head(sse.CONTENT_TYPE), chunk(b"")
    body = b"".join([*_sse_tokens(), sse.encode_end(encoded_end(ANSWER))])

    def case(name: str, data: bytes, outcome: Outcome = OK, how: str = "", tokens: int = 2) -> Case:
        return Case("sse", name, (head + chunk(data) + last,), "hold", outcome, how, tokens)

    return [
        case("CRLF", body.replace(b"\n", b"\r\n")),
        case("CR", body.replace(b"\n", b"\r")),
        case("a byte-order mark", b"\xef\xbb\xbf" + body),
        case("unknown fields and events", b"event: other\nx: y\ndata: z\n\n" + body),
        case("the end in two data lines", body.replace(b'"n"', b'\ndata: "n"')),
        case("an event that no empty line ends", body.partition(b"\n\nevent: end")[0], TRUNCATED, "end", 1),
        Case("sse", "204", (b"HTTP/1.1 204 No Content\r\n\r\n",), "hold", LOST, "", 0),
    ]


def _of_openai() -> list[Case]:
    """Chunks of chat completions, as OpenAI sends them and as others do."""

    def chunk_of(delta: str, finish: str = "null", index: int = 0) -> bytes:
        fields = (index, delta.encode(), finish.encode())
        return b'{"choices":[{"index":%d,"delta":%b,"finish_reason":%b}]}' % fields

    def events(*data: bytes, field: bytes = b"data: ", end: bytes = b"\n\n") -> bytes:
        return b"".join(field + each + end for each in data)

    role, one, two = (
        chunk_of('{"role":"assistant","content":""}'),
        chunk_of('{"content":"Hi"}'),
        chunk_of('{"content":" é"}'),
    )
    text, finish, done = (role, one, two), chunk_of("{}", '"stop"'), b"[DONE]"
    usage = b'{"choices":[],"usage":{"completion_tokens":2}}'
    thought = chunk_of('{"reasoning_content":"hm","content":null}')
    error = b'{"error":{"message":"no","code":"overloaded"}}'
    error_object = (
        b'{"object":"error","message":"no","type":"BadRequestError","code":400}'  # vLLM's and FastChat's older ones
    )
    error_code = b'{"text":"**NETWORK ERROR**","error_code":50002}'  # FastChat's
    other = [chunk_of('{"content":"no"}', index=1)] * 2 + [chunk_of("{}", '"stop"', index=1)]
    parts = chunk_of('{"content":[{"type":"thinking","thinking":[]},{"type":"text","text":" é"}]}')  # Mistral's
    head, last = _head(sse.CONTENT_TYPE), chunk(b"")

    def case(name: str, body: bytes, outcome: Outcome = OK, how: str = "", tokens: int = 2) -> Case:
        return Case("openai", name, (head + chunk(body) + last,), "hold", outcome, how, tokens)

    def cut(name: str, body: bytes, ending: Ending, outcome: Outcome, how: str, tokens: int = 2) -> Case:
        return Case("openai", name, (head + chunk(body),), ending, outcome, how, tokens)

    def refusal(name: str, answer: bytes, outcome: Outcome, how: str) -> Case:
        return Case("openai", name, (answer,), "hold", outcome, how, 0)

    def hollow(data: bytes) -> bytes:
        return data.replace(b'"finish_reason":null', b'"finish_reason":""')

    limited = response(error, status="429 Too Many", more="Retry-After: 1\r\n")
    return [
        case("whole", events(*text, finish, usage, done)),
        case("without a space", events(*text, finish, done, field=b"data:")),
        case("CRLF", events(*text, finish, done, end=b"\r\n\r\n")),
        case("a byte-order mark", b"\xef\xbb\xbf" + events(*text, finish, done)),
        case("comments", b": hm\n\n" + events(*text) + b":\n\n" + events(finish, done)),
        case("no sentinel", events(*text, finish, usage)),
        case("the sentinel alone", events(*text, done)),
        case("a chunk without choices first", events(b'{"choices":[]}', *text, finish, done)),
        case("an empty chunk between", events(role, one, chunk_of('{"content":""}'), two, finish, done)),
        case("reasoning before the text", events(role, thought, one, two, finish, done)),
        case("the end with text", events(role, one, chunk_of('{"content":" é"}', '"length"'), done)),
        case("a refusal of the model", events(role, one, chunk_of('{"refusal":" é"}'), finish, done)),
        case("a second choice in chunks of its own", events(role, one, *other, two, finish, done)),
        case("a second choice in the same chunks", events(*map(_doubled, text), finish, done)),
        case("an empty reason in every chunk", events(*(hollow(each) for each in text), finish, done)),
        case("an empty reason, and no end", events(*(hollow(each) for each in text)), TRUNCATED, "end"),
        case("text in parts", events(role, one, parts, finish, done)),
        case("text behind the end", events(*text, finish, one, done)),
        case("an error behind the end", events(*text, finish, error)),
        case("the end, and no more", events(*text, finish)),
        cut("the end, then FIN", events(*text, finish), "fin", OK, ""),
        cut("the end, then RST", events(*text, finish), "rst", OK, ""),
        case("neither end nor sentinel", events(*text), TRUNCATED, "end"),
        cut("cut before the end", events(*text), "fin", TRUNCATED, "fin"),
        cut("cut inside a chunk", events(role, one) + b"data: {", "fin", TRUNCATED, "fin", 1),
        cut("reset", events(role, one), "rst", DROPPED, "rst", 1),
        case("an error in mid-stream", events(role, one, error), REFUSED, "error overloaded", 1),
        case("an error event", events(role, one) + b"event: error\ndata: {}\n\n", REFUSED, "error endpoint", 1),
        *(
            case(f"an end for {why}", events(role, one, chunk_of("{}", f'"{why}"'), done), REFUSED, f"error {why}", 1)
            for why in ("error", "abort", "insufficient_system_resource")
        ),
        case("an object that is an error", events(role, one, error_object, done), REFUSED, "error 400", 1),
        case("an error by its code alone", events(role, one, error_code, done), REFUSED, "error 50002", 1),
        case("no JSON", events(role, one, b"<html>"), BROKEN, "format", 1),
        case("no object", events(role, one, b"[1]"), BROKEN, "format", 1),
        case("another choice's form", events(role, one, b'{"choices":5}', two, finish, done)),
        case("reasoning alone", events(role, thought, chunk_of("{}", '"length"'), done), REFUSED, "error no_text", 0),
        refusal("too many requests", limited, REFUSED, "status 429"),
        refusal("JSON where a stream belongs", response(b"{}"), BROKEN, "format"),
        refusal("a redirect", response(b"", status="302 F", more="Location: /b\r\n"), REFUSED, "status 302"),
    ]


def _doubled(data: bytes) -> bytes:
    """The chunk with a second choice in front of its own."""
    second = {"index": 1, "delta": {"content": "no"}, "finish_reason": None}
    return json.dumps({"choices": [second, *json.loads(data)["choices"]]}).encode()


def _of_blocking() -> list[Case]:
    good = whole(ANSWER)

    def case(name: str, answer: bytes, ending: Ending, outcome: Outcome, how: str = "", tokens: int = 0) -> Case:
        return Case("blocking", name, (answer,), ending, outcome, how, tokens)

    return [
        case("whole", good, "hold", OK, "", 2),
        case("whole, then FIN", good, "fin", OK, "", 2),
        case("to the end of the connection", good.replace(b"Content-Length", b"X-Length"), "fin", OK, "", 2),
        case("behind 100", b"HTTP/1.1 100 Continue\r\n\r\n" + good, "hold", OK, "", 2),
        case("a second response behind it", good + good, "hold", OK, "", 2),
        case("gzip", _packed(good), "hold", OK, "", 2),
        case("cut", good[:-1], "fin", TRUNCATED, "fin"),
        case("reset", good[:-1], "rst", DROPPED, "rst"),
        case("nothing", b"", "fin", TRUNCATED, "fin"),
        case("no JSON", response(b"[]"), "hold", BROKEN, "format"),
        case("not done", good.replace(b'"done": true', b'"done":false'), "hold", BROKEN, "format"),
        case("a refusal", response(BUSY, status="503 No"), "hold", REFUSED, "status 503"),
        case("a redirect", response(b"", status="301 Moved", more="Location: /b\r\n"), "hold", REFUSED, "status 301"),
        case("an unasked 101", SWITCHING, "hold", REFUSED, "status 101"),
        case("another text", good.replace(b'"Hi"', b'"Ho"'), "hold", ALTERED, "", 2),
    ]


def _packed(whole_response: bytes) -> bytes:
    body = gzip.compress(whole_response.partition(b"\r\n\r\n")[2], mtime=0)
    return response(body, more="Content-Encoding: gzip\r\n")


def _of_polling() -> list[Case]:
    first, rest, everything = page(ANSWER, 0, 1), page(ANSWER, 1, 2), page(ANSWER, 0, 2)

    def case(name: str, answers: list[bytes], ending: Ending, outcome: Outcome, how: str = "", tokens: int = 0) -> Case:
        return Case("polling", name, tuple(answers), ending, outcome, how, tokens)

    gone = response(messages.encode_error("unknown_stream", "gone"), status="404 Not Found")
    return [
        case("one page", [ACCEPTED, everything], "hold", OK, "", 2),
        case("two pages", [ACCEPTED, first, rest], "hold", OK, "", 2),
        case("an empty page", [ACCEPTED, page(ANSWER, 0, 0), everything], "fin", OK, "", 2),
        case("gzip", [ACCEPTED, _packed(everything)], "hold", OK, "", 2),
        case("the same page twice", [ACCEPTED, first, everything], "hold", TWICE, "", 2),
        case(
            "103 before each",
            [b"HTTP/1.1 103 Hm\r\n\r\n" + ACCEPTED, b"HTTP/1.1 103 Hm\r\n\r\n" + everything],
            "hold",
            OK,
            "",
            2,
        ),
        case("no 202", [response(b"{}")], "hold", REFUSED, "status 200"),
        case("202 with something else", [response(b"{}", status="202 A")], "hold", BROKEN, "format"),
        case(
            "another host", [response(b'{"stream_id": "s", "poll": "//x/"}', status="202 A")], "hold", BROKEN, "format"
        ),
        case(
            "a path with a line end",
            [response(b'{"stream_id": "s", "poll": "/\\r\\nX: y"}', status="202 A")],
            "hold",
            BROKEN,
            "format",
        ),
        case("the question cut", [ACCEPTED[:-1]], "fin", TRUNCATED, "fin"),
        case("no page", [ACCEPTED, response(b"[]")], "hold", BROKEN, "format"),
        case(
            "the last page without its end",
            [ACCEPTED, rest.replace(b'"sha256"', b'"sha257"')],
            "hold",
            BROKEN,
            "format",
        ),
        case("a page cut", [ACCEPTED, first, rest[:-1]], "fin", TRUNCATED, "fin", 1),
        case("a page reset", [ACCEPTED, first[:40]], "rst", DROPPED, "rst"),
        case("gone", [ACCEPTED, first, gone], "hold", REFUSED, "status 404", 1),
        case(
            "a poll redirected",
            [ACCEPTED, response(b"", status="307 T", more="Location: /c\r\n")],
            "hold",
            REFUSED,
            "status 307",
        ),
        case("another text", [ACCEPTED, everything.replace(b'"Hi"', b'"Ho"')], "hold", ALTERED, "", 2),
    ]


def _of_websocket() -> list[Case]:
    one, two = map(frame, encoded(ANSWER))
    end = frame(encoded_end(ANSWER))
    half, other_half = encoded(ANSWER)[0][:9], encoded(ANSWER)[0][9:]

    def case(name: str, answer: bytes, ending: Ending, outcome: Outcome, how: str = "", tokens: int = 0) -> Case:
        return Case("websocket", name, (SWITCHING, answer), ending, outcome, how, tokens)

    def opening(name: str, answer: bytes, ending: Ending, outcome: Outcome, how: str) -> Case:
        return Case("websocket", name, (answer,), ending, outcome, how, 0)

    return [
        case("whole", one + two + end, "hold", OK, "", 2),
        case("whole, then Close", one + two + end + close_frame(1000), "fin", OK, "", 2),
        case("whole, then FIN", one + two + end, "fin", OK, "", 2),
        case("whole, then a token again", one + two + end + one, "hold", OK, "", 2),
        case("whole, then nonsense", one + two + end + frame(b"nonsense"), "hold", OK, "", 2),
        case("binary frames", frame(encoded(ANSWER)[0], 2) + two + end, "hold", OK, "", 2),
        case("a ping and a pong between", one + frame(b"p", 9) + two + frame(b"", 10) + end, "hold", OK, "", 2),
        case(
            "fragments, a ping within",
            frame(half, fin=False) + frame(b"p", 9) + frame(other_half, 0) + two + end,
            "hold",
            OK,
            "",
            2,
        ),
        Case("websocket", "behind 100", (b"HTTP/1.1 100 Continue\r\n\r\n" + SWITCHING, one + two + end), "hold", OK),
        Case("websocket", "unasked frames first", (SWITCHING + frame(b"hello"), one + two + end), "hold", OK),
        Case(
            "websocket",
            "an unasked message that ends within the answer",
            (SWITCHING + frame(b"x", fin=False), frame(b"y", 0) + one + two + end),
            "hold",
            BROKEN,
            "format",
            0,
        ),
        case("cut", one + two, "fin", TRUNCATED, "fin", 2),
        case("cut inside a frame", one[:-3], "fin", TRUNCATED, "fin"),
        case("reset", one, "rst", DROPPED, "rst", 1),
        case("going away", one + close_frame(1001), "fin", TRUNCATED, "close 1001", 1),
        case("no code", one + frame(b"", 8), "fin", TRUNCATED, "close 1005", 1),
        case("an error", one + close_frame(1011, "oops"), "fin", DROPPED, "close 1011", 1),
        case("a refusal", frame(BUSY) + close_frame(1008), "fin", REFUSED, "error busy"),
        case(
            "a refusal behind a token, then the rest", one + frame(BUSY) + two + end, "hold", REFUSED, "error busy", 1
        ),
        case("a message that is none", one + frame(b"nonsense") + two + end, "hold", BROKEN, "format", 1),
        case("no opcode of RFC 6455", one + b"\x83\x00", "hold", BROKEN, "format", 1),
        case("a masked frame", one + b"\x81\x82aaaa{}", "hold", BROKEN, "format", 1),
        case("a reserved bit", one + b"\xc1\x02{}", "hold", BROKEN, "format", 1),
        case("a continuation of nothing", one + frame(b"x", 0), "hold", BROKEN, "format", 1),
        case("a token is missing", one + end, "hold", LOST, "", 1),
        case("a token twice", one + one + two + end, "hold", TWICE, "", 2),
        case("another text", one.replace(b'"Hi"', b'"Ho"') + two + end, "hold", ALTERED, "", 2),
        opening("200", response(b"hi", "text/html"), "hold", REFUSED, "status 200"),
        opening("a refusal of the upgrade", response(BUSY, status="503 No"), "hold", REFUSED, "status 503"),
        opening("a refusal that is cut", response(BUSY, status="503 No")[:-4], "fin", REFUSED, "status 503"),
        opening(
            "a redirect", response(b"", status="302 Found", more="Location: /b\r\n"), "hold", REFUSED, "status 302"
        ),
        opening("the wrong key", SWITCHING.replace(b"%ACCEPT%", b"x"), "hold", BROKEN, "format"),
        opening("no Upgrade", SWITCHING.replace(b"Upgrade: websocket\r\n", b""), "hold", BROKEN, "format"),
        opening(
            "an extension that nobody offered",
            SWITCHING.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x\r\n\r\n"),
            "hold",
            BROKEN,
            "format",
        ),
        opening("nothing", b"", "fin", TRUNCATED, "fin"),
        opening("half a head", SWITCHING[:40], "fin", TRUNCATED, "fin"),
        opening("no HTTP", b"SSH-2.0\r\n\r\n", "hold", BROKEN, "format"),
    ]
