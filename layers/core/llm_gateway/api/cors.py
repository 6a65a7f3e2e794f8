"""CORS with the origins that the catalog and the settings name. Starlette's middleware does the protocol."""

from collections.abc import Awaitable, Callable, Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from llm_gateway.api.envelope import error_response
from llm_gateway.errors import GatewayError, PermissionDenied

EXPOSED = (
    "x-request-id",
    "x-gateway-provider",
    "x-gateway-model",
    "x-gateway-attempts",
    "x-gateway-route",
    "x-gateway-queued-ms",
    "x-gateway-cost-usd",
    "x-gateway-max-tokens",
    "x-gateway-warning",
    "x-gateway-overhead-ms",
    "x-gateway-idempotent-replay",
    "x-gateway-original-request-id",
    "retry-after",
    "x-should-retry",
)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _Cors(CORSMiddleware):
    """Mirrors the headers a browser asks for: `*` would not cover Authorization. Cookies are never allowed."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=_METHODS, allow_headers=("*",), expose_headers=EXPOSED
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        return error_response(
            PermissionDenied("This origin or method is not allowed by the gateway's CORS configuration.", status=400)
        )


class Cors:
    """Wraps an app. `origins` gives what is allowed now; requests without an Origin pass untouched."""

    def __init__(self, app: ASGIApp, origins: Callable[[], Awaitable[tuple[str, ...]]]) -> None:
        self._app = app
        self._origins = origins
        self._current: tuple[tuple[str, ...], _Cors] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(name == b"origin" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        try:
            origins = await self._origins()
        except GatewayError:
            origins = ()  # the store is away: the answer says so itself, and no origin is allowed meanwhile
        if self._current is None or self._current[0] != origins:
            self._current = (origins, _Cors(self._app, origins))
        await self._current[1](scope, receive, send)
