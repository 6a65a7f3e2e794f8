"""`echo`, the built-in provider: OpenAI's wire without network or account, for smoke tests, demos and this test suite.

Serves POST …/chat/completions (buffered and streamed), POST …/embeddings, GET …/models and …/models/{id} under any
base URL of the scheme `echo`, such as `echo://local/v1`. What it answers is told in `echo_chat` and `echo_embeddings`.
Any model name will do; some behave in a way of their own (a prefix such as `vendor/` before them is fine):

| model             | what happens                                                                                     |
|-------------------|--------------------------------------------------------------------------------------------------|
| `slow`            | 50 ms before each word                                                                           |
| `no-usage`        | says no usage, asked or not                                                                      |
| `error-400` …     | answers with that status (400 to 599) and an OpenAI error; 429 and 503 with `retry-after: 1`     |
| `error-in-stream` | the stream breaks off after its first half with an error event; buffered it is a 500             |
| `cut`             | the body breaks off after its first half, as a lost connection does (`UpstreamCut`)              |
| `stall`           | the body falls silent after its first half (`UpstreamTimeout` after `idle_s`)                    |
| `no-answer`       | nothing comes (`UpstreamTimeout` after `first_byte_s`)                                           |
| `unreachable`     | no connection (`UpstreamUnreachable`)                                                            |
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable
from llm_gateway.upstream import echo_chat
from llm_gateway.upstream.echo_chat import Answer, Envelope, Refused
from llm_gateway.upstream.echo_embeddings import embeddings
from llm_gateway.upstream.endable import EndablePieces

MODELS = (
    "echo",
    "slow",
    "no-usage",
    "error-429",
    "error-500",
    "error-in-stream",
    "cut",
    "stall",
    "no-answer",
    "unreachable",
)
PAUSE_S = 0.05
_CREATED = 1_767_225_600
_ERROR = re.compile(r"error-([45]\d\d)")
_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ERROR_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class EchoResponse:
    """Implements `domain.ports.HttpResponse` over a generator of pieces."""

    def __init__(self, status: int, headers: Mapping[str, str], pieces: AsyncGenerator[bytes, None]) -> None:
        self.status = status
        self.headers = headers
        self._pieces = EndablePieces(pieces)

    def chunks(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def read(self, limit: int) -> bytes:
        body = bytearray()
        async for piece in self._pieces:
            body += piece
            if len(body) > limit:
                await self.close()
                raise UpstreamMalformed(f"echo sent more than {limit} bytes")
        return bytes(body)

    def end(self, error: UpstreamError) -> None:
        self._pieces.end(error)

    async def close(self) -> None:
        await self._pieces.close()


class EchoClient:
    """Implements `domain.ports.HttpClient` for the scheme `echo`. `clock` gives Unix seconds, `new_id` a fresh word."""

    def __init__(
        self, *, clock: Callable[[], float] = time.time, new_id: Callable[[], str] = lambda: secrets.token_hex(12)
    ) -> None:
        self._clock = clock
        self._new_id = new_id

    async def send(self, request: HttpRequest) -> EchoResponse:
        """Raises what the model's name asks for: `UpstreamUnreachable`, `UpstreamTimeout`."""
        path = urlsplit(request.url).path
        if path.endswith("/models"):
            return self._listing() if request.method == "GET" else self._wrong_method(request)
        head, found, name = path.rpartition("/models/")
        if found and name and not head.endswith("/chat"):
            return self._model(unquote(name))
        for ending, serve in (("/chat/completions", self._chat), ("/embeddings", self._embed)):
            if path.endswith(ending):
                return await self._serve(request, serve) if request.method == "POST" else self._wrong_method(request)
        return self._error(404, f"Invalid URL ({request.method} {path})", code="unknown_url")

    async def close(self) -> None:
        """Nothing is open."""

    async def _serve(
        self, request: HttpRequest, serve: Callable[[HttpRequest, dict[str, Any]], EchoResponse]
    ) -> EchoResponse:
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return self._error(400, "We could not parse the JSON body of your request.")
        if not isinstance(body, dict):
            return self._error(400, "Invalid body: expected a JSON object.")
        if not isinstance(body.get("model"), str) or not body["model"]:
            return self._error(400, "you must provide a model parameter", param="model")
        behaviour = behaviour_of(body["model"])
        if behaviour == "unreachable":
            raise UpstreamUnreachable("no connection to echo: the model's name asks for it")
        if request.on_sent is not None:
            request.on_sent()
        if behaviour == "no-answer":
            await asyncio.sleep(request.first_byte_s)
            raise UpstreamTimeout(f"echo did not answer within {request.first_byte_s:g} s")
        failing = _ERROR.fullmatch(behaviour)
        if failing:
            return self._failure(int(failing[1]), body["model"])
        try:
            return serve(request, body)
        except Refused as refusal:
            return self._error(400, refusal.message, param=refusal.param)

    def _chat(self, request: HttpRequest, body: dict[str, Any]) -> EchoResponse:
        said = echo_chat.answer(body)
        envelope = Envelope(f"chatcmpl-{self._new_id()}", int(self._clock()), body["model"])
        behaviour = behaviour_of(body["model"])
        if body.get("stream"):
            options = body.get("stream_options")
            asked = isinstance(options, dict) and options.get("include_usage") is True
            events = [
                b"data: " + orjson.dumps(chunk) + b"\n\n"
                for chunk in echo_chat.chunks(said, envelope, with_usage=asked and behaviour != "no-usage")
            ]
            events.append(b"data: [DONE]\n\n")
            return self._respond(200, _pieces(events, behaviour, request.idle_s), "text/event-stream; charset=utf-8")
        if behaviour == "error-in-stream":
            return self._failure(500, body["model"])
        answer = orjson.dumps(echo_chat.completion(said, envelope, with_usage=behaviour != "no-usage"))
        return self._respond(200, _buffered(answer, said, behaviour, request.idle_s))

    def _embed(self, request: HttpRequest, body: dict[str, Any]) -> EchoResponse:
        answer = orjson.dumps(embeddings(body))
        return self._respond(200, _pieces([answer], "", request.idle_s))

    def _listing(self) -> EchoResponse:
        data = [_describe(name) for name in MODELS]
        return self._json(200, {"object": "list", "data": data})

    def _model(self, name: str) -> EchoResponse:
        return self._json(200, _describe(name))

    def _failure(self, status: int, model: str) -> EchoResponse:
        headers = {"retry-after": "1"} if status in (429, 503) else {}
        message = f"The model '{model}' always fails with status {status}."
        code = _ERROR_CODES.get(status)
        fallback = "invalid_request_error" if status < 500 else "server_error"
        return self._error(status, message, code=code, kind=_ERROR_TYPES.get(status, fallback), headers=headers)

    def _wrong_method(self, request: HttpRequest) -> EchoResponse:
        return self._error(405, f"Not allowed to {request.method} here.", code="method_not_allowed")

    def _error(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> EchoResponse:
        return self._json(status, _error_body(message, kind, param, code), headers)

    def _json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> EchoResponse:
        return self._respond(status, _pieces([orjson.dumps(body)], "", 0.0), headers=headers)

    def _respond(
        self,
        status: int,
        pieces: AsyncGenerator[bytes, None],
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> EchoResponse:
        own = {"content-type": content_type, "x-request-id": f"req_{self._new_id()}"}
        return EchoResponse(status, own | dict(headers or {}), pieces)


def behaviour_of(model: str) -> str:
    """The part of the name that may ask for a behaviour: what stands after a prefix."""
    return re.split(r"[/:]", model)[-1]


async def _pieces(events: list[bytes], behaviour: str, idle_s: float) -> AsyncGenerator[bytes, None]:
    """Events one at a time, as a network would bring them, with what the model's name asks for in their middle."""
    half = (len(events) + 1) // 2
    for index, event in enumerate(events):
        if index == half and behaviour == "error-in-stream":
            error = _error_body("The server had an error while processing your request.", "server_error", None, None)
            yield b"data: " + orjson.dumps(error) + b"\n\n"
            return
        if index == half and behaviour in ("cut", "stall"):
            await _break_off(behaviour, idle_s)
        await asyncio.sleep(PAUSE_S if behaviour == "slow" else 0)
        yield event


async def _buffered(body: bytes, said: Answer, behaviour: str, idle_s: float) -> AsyncGenerator[bytes, None]:
    if behaviour == "slow":
        await asyncio.sleep(PAUSE_S * len(said.words))
    if behaviour in ("cut", "stall"):
        yield body[: len(body) // 2]
        await _break_off(behaviour, idle_s)
    yield body


async def _break_off(behaviour: str, idle_s: float) -> None:
    if behaviour == "stall":
        await asyncio.sleep(idle_s)
        raise UpstreamTimeout(f"echo sent nothing for {idle_s:g} s")
    raise UpstreamCut("echo closed the connection in the middle of its answer")


def _describe(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "llm-gateway"}


def _error_body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
