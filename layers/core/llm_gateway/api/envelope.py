"""The outermost layer: a request id on every answer, and every error in the one envelope."""

import time

import orjson
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_gateway.errors import (
    GatewayError,
    InternalFailure,
    InvalidRequest,
    MethodNotAllowed,
    RouteNotFound,
)
from llm_gateway.observability.logs import RequestLog
from llm_gateway.pipeline.call import new_request_id

REQUEST_ID = "llm_gateway.request_id"
STARTED = "llm_gateway.started"


class RequestIdentity:
    """Gives each request its id and start, adds `x-request-id`, and logs a defect under that id."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = new_request_id()
        scope[STARTED] = time.perf_counter()
        whole = False

        async def send_with_id(message: Message) -> None:
            nonlocal whole
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            elif not message.get("more_body", False):
                whole = True
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            # `render_crash` has answered already where it could; a response that broke off must not look complete.
            self._log.crashed(request_id, error)
            if not whole:
                raise


def error_response(error: GatewayError) -> Response:
    """A `GatewayError` as a response."""
    return Response(
        orjson.dumps(error.envelope()), error.http_status, error.response_headers(), media_type="application/json"
    )


async def render_gateway_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return error_response(error)


async def render_crash(_: Request, __: Exception) -> Response:
    """A defect of ours: the traceback goes to the log, never to the caller."""
    return error_response(InternalFailure("The gateway failed on this request. Its log has the reason."))


async def render_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals."""
    assert isinstance(error, HTTPException)
    told = f"{request.method} {request.url.path}"
    headers = MutableHeaders(error.headers)
    if error.status_code == 404:
        return error_response(RouteNotFound(f"Unknown request URL: {told}. Please check the URL for typos."))
    if error.status_code == 405:
        return error_response(MethodNotAllowed(f"Not allowed method: {told}.", headers=dict(headers)))
    return error_response(InvalidRequest(str(error.detail), status=error.status_code, headers=dict(headers)))
