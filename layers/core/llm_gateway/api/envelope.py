"""The outermost layer: a request id on every answer, and every error in the one envelope."""

import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_gateway.api.exchange_response import send_error
from llm_gateway.errors import (
    GatewayError,
    InternalFailure,
    InvalidRequest,
    MethodNotAllowed,
    RouteNotFound,
)
from llm_gateway.observability.logs import RequestLog

REQUEST_ID = "llm_gateway.request_id"
STARTED = "llm_gateway.started"


def new_request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


class RequestIdentity:
    """Gives each request its id and start, adds `x-request-id`, and turns a defect before the first byte into a 500."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = new_request_id()
        scope[STARTED] = time.perf_counter()
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            self._log.crashed(request_id, error)
            if begun:
                raise
            await send_error(send_with_id, InternalFailure("The gateway failed on this request."))


class ErrorResponse(Response):
    """A `GatewayError` as a response."""

    def __init__(self, error: GatewayError) -> None:
        self.error = error
        self.background = None
        self.status_code = error.http_status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_error(send, self.error)


async def render_gateway_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return ErrorResponse(error)


async def render_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals."""
    assert isinstance(error, HTTPException)
    told = f"{request.method} {request.url.path}"
    headers = MutableHeaders(error.headers)
    if error.status_code == 404:
        return ErrorResponse(RouteNotFound(f"Unknown request URL: {told}. Please check the URL for typos."))
    if error.status_code == 405:
        return ErrorResponse(MethodNotAllowed(f"Not allowed method: {told}.", headers=dict(headers)))
    return ErrorResponse(InvalidRequest(str(error.detail), status=error.status_code, headers=dict(headers)))


