"""The routes that call models: Chat Completions, embeddings and moderations, on OpenAI's paths and on Azure's."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.api.body import read_body
from llm_gateway.api.documentation import CHAT, EMBEDDINGS, MODERATIONS
from llm_gateway.api.envelope import REQUEST_ID, STARTED
from llm_gateway.api.exchange_response import ExchangeResponse
from llm_gateway.api.headers import caller_headers
from llm_gateway.api.wishes import deadline_of, recovery_of
from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.errors import InvalidRequest
from llm_gateway.observability.logs import RequestLog
from llm_gateway.pipeline.call import Call
from llm_gateway.pipeline.gateway import Gateway
from llm_gateway.schemas.openai_chat import check_model_name

PREFIXES = ("/v1", "", "/openai/v1")
_PATHS: dict[Endpoint, str] = {
    "chat.completions": "/chat/completions",
    "embeddings": "/embeddings",
    "moderations": "/moderations",
}
_DOCUMENTED = {"chat.completions": CHAT, "embeddings": EMBEDDINGS, "moderations": MODERATIONS}
_AZURE_DEPLOYMENTS = frozenset[Endpoint]({"chat.completions", "embeddings"})
"""What Azure's clients send to `/openai/deployments/{model}/…`; moderations is not among it."""


@dataclass(frozen=True, slots=True)
class DataPlane:
    """Makes an exchange of a request."""

    gateway: Gateway
    log: RequestLog

    async def respond(self, request: Request, endpoint: Endpoint, path_model: str | None = None) -> Response:
        call = await self.call_of(request, endpoint, path_model)
        return ExchangeResponse(self.gateway.exchange(call), self.log)

    async def call_of(self, request: Request, endpoint: Endpoint, path_model: str | None = None) -> Call:
        """Raises `GatewayError` for what is wrong with its headers or its size."""
        scope = request.scope
        headers, token = caller_headers(scope["headers"], scope["path"])
        if (coding := headers.get(b"content-encoding")) not in (None, "", "identity"):
            raise InvalidRequest(f"Request bodies with Content-Encoding `{coding}` are not supported.", status=415)
        if path_model is not None:
            check_model_name(path_model)
        body = await read_body(request.receive, headers.get(b"content-length"))
        return Call(
            request_id=scope[REQUEST_ID],
            endpoint=endpoint,
            body=body,
            token=token,
            started=scope[STARTED],
            path_model=path_model,
            idempotency_key=headers.get(b"idempotency-key"),
            tags=headers.tags(),
            deadline=deadline_of(headers, scope),
            recovery=recovery_of(headers),
            trace=headers.get(b"x-amzn-trace-id"),
            body_object=(headers.get(b"x-gateway-body") or "").lower() != "off",
        )


def add_data_plane(app: FastAPI, gateway: Gateway, log: RequestLog) -> None:
    plane = DataPlane(gateway, log)
    for endpoint, path in _PATHS.items():
        documented = _DOCUMENTED[endpoint]
        for prefix in PREFIXES:
            if app.openapi_url is None or prefix != "/v1":
                # Nothing of FastAPI's is used here but its documentation: a plain route saves its dependency solving.
                app.router.add_route(prefix + path, _plain(plane, endpoint), methods=["POST"])
                continue
            app.add_api_route(
                prefix + path,
                _plain(plane, endpoint),
                methods=["POST"],
                openapi_extra=documented,
                response_class=Response,
                summary=documented["summary"],
            )
        if endpoint in _AZURE_DEPLOYMENTS:
            app.router.add_route(
                "/openai/deployments/{model:path}" + path, _of_deployment(plane, endpoint), methods=["POST"]
            )


def _plain(plane: DataPlane, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        return await plane.respond(request, endpoint)

    return respond


def _of_deployment(plane: DataPlane, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        return await plane.respond(request, endpoint, request.path_params["model"])

    return respond
