"""`GET /providers/status`. What it does is imported when it is first called."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.api.documentation import reading
from llm_gateway.api.headers import caller_headers
from llm_gateway.pipeline.auth import Identification

if TYPE_CHECKING:
    from llm_gateway.pipeline.provider_status import DeploymentHealth, ProviderHealth, ProviderStatus

PATH = "/providers/status"


def add_provider_status(app: FastAPI, auth: Identification, status: "Callable[[], ProviderStatus]") -> None:
    """`status` is asked for each request: there are few."""

    async def respond(request: Request) -> Response:
        _, token = caller_headers(request.scope["headers"], request.scope["path"])
        found = await status().of(await auth.identify(token))
        return Response(
            orjson.dumps({"object": "list", "data": [_provider(each) for each in found]}),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    app.router.add_route(f"/v1{PATH}", respond, methods=["GET"])
    if app.openapi_url is None:
        app.router.add_route(PATH, respond, methods=["GET"])
        return
    told = reading("The health of the providers that this key can reach", statuses=("401", "503"))
    app.add_api_route(PATH, respond, methods=["GET"], openapi_extra=told, summary=told["summary"])


def _provider(health: "ProviderHealth") -> dict[str, Any]:
    return {
        "provider": health.name,
        "display_name": health.display_name,
        "status": health.status,
        "deployments": [_deployment(each) for each in health.deployments],
    }


def _deployment(health: "DeploymentHealth") -> dict[str, Any]:
    state = health.state
    return {
        "deployment": health.deployment.name,
        "model": health.deployment.model,
        "region": health.deployment.region,
        "state": state.state,
        "since": _moment(health.since),
        "retry_at": _moment(health.retry_at),
        "last_error": state.last_error,
        "failures": state.failures,
        "error_rate": round(state.error_rate, 3),
        "latency_ms": _milliseconds(state.latency_s),
        "ttft_ms": _milliseconds(state.ttft_s),
        "tokens_per_s": None if state.tokens_per_s is None else round(state.tokens_per_s, 1),
        "in_flight": state.in_flight,
    }


def _moment(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
