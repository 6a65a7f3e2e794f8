"""The data plane as one ASGI app."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from llm_gateway.api.cors import Cors
from llm_gateway.api.data_plane import DataPlane, add_data_plane
from llm_gateway.api.documentation import SECURITY_SCHEMES
from llm_gateway.api.envelope import RequestIdentity, render_crash, render_gateway_error, render_http_exception
from llm_gateway.api.front_page import add_front_page
from llm_gateway.api.no_telemetry import NO_TELEMETRY
from llm_gateway.api.provider_status import add_provider_status
from llm_gateway.api.readings import add_readings
from llm_gateway.api.routing_explain import add_routing_explain
from llm_gateway.api.simple_chat import OpenTurn, add_simple_chat
from llm_gateway.api.usage_routes import UsageRoutes, add_usage
from llm_gateway.errors import GatewayError
from llm_gateway.observability.logs import RequestLog
from llm_gateway.pipeline.gateway import Gateway
from llm_gateway.pipeline.models import ModelList
from llm_gateway.pipeline.readiness import Readiness

if TYPE_CHECKING:
    from llm_gateway.pipeline.provider_status import ProviderStatus


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """`docs` serves OpenAPI at `/docs`; `cors_origins` are allowed besides the catalog's."""

    docs: bool = False
    cors_origins: tuple[str, ...] = ()


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    gateway: Gateway,
    models: ModelList,
    usage: UsageRoutes,
    readiness: Readiness,
    status: "Callable[[], ProviderStatus]",
    turn: OpenTurn,
    log: RequestLog,
    options: ApiOptions,
    lifespan: Lifespan,
) -> ASGIApp:
    """`lifespan` is left when the process ends, which is when connections are closed."""
    app = FastAPI(
        lifespan=lifespan,
        title="llm-gateway",
        description="An OpenAI-compatible gateway to any language model.",
        docs_url="/docs" if options.docs else None,
        openapi_url="/openapi.json" if options.docs else None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        document.setdefault("components", {})["securitySchemes"] = SECURITY_SCHEMES
        return document

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation extends it
    add_data_plane(app, gateway, log)
    add_simple_chat(app, DataPlane(gateway, log), turn)
    add_front_page(app)
    add_readings(app, gateway.auth, models, readiness)
    add_usage(app, usage)
    add_routing_explain(app, gateway, log)
    add_provider_status(app, gateway.auth, status)
    app.add_exception_handler(GatewayError, render_gateway_error)
    app.add_exception_handler(HTTPException, render_http_exception)
    app.add_exception_handler(Exception, render_crash)

    async def origins() -> tuple[str, ...]:
        return options.cors_origins + (await gateway.catalog.current()).cors_origins

    return RequestIdentity(Cors(app, origins), log)
