"""The routes that only read: models, health. Those of usage are in `usage_routes`."""

from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.api.data_plane import PREFIXES
from llm_gateway.api.documentation import AVAILABLE, HEALTH, MODEL, MODELS, READY
from llm_gateway.api.headers import caller_headers
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.pipeline.auth import Identification
from llm_gateway.pipeline.models import ModelList
from llm_gateway.pipeline.readiness import Readiness


def add_readings(app: FastAPI, auth: Identification, models: ModelList, readiness: Readiness) -> None:
    async def identify(request: Request) -> VirtualKey:
        _, token = caller_headers(request.scope["headers"], request.scope["path"])
        return await auth.identify(token)

    async def list_models(request: Request) -> Response:
        return _json({"object": "list", "data": await models.all(await identify(request))})

    async def retrieve_model(request: Request) -> Response:
        key = await identify(request)
        name = request.path_params["model"]
        return _json(await models.one(name, key) if name else {"object": "list", "data": await models.all(key)})

    async def available_models(request: Request) -> Response:
        return _json({"object": "list", "data": await models.available(await identify(request))})

    async def health() -> Response:
        return _json({"status": "ok"})

    async def ready() -> Response:
        finding = await readiness.find()
        if (error := finding.error) is None:
            return _json({"status": "ready", "checks": finding.checks})
        body = {**error.envelope(), "status": "not ready", "checks": finding.checks}
        return Response(orjson.dumps(body), error.http_status, error.response_headers(), media_type="application/json")

    # Before `/models/{model}`; and not under `/v1`, where it would hide a model of that name from OpenAI's clients.
    app.add_api_route(
        "/models/available", available_models, methods=["GET"], openapi_extra=AVAILABLE, summary=AVAILABLE["summary"]
    )
    for prefix in (*PREFIXES, "/openai"):
        shown = prefix == "/v1"
        app.add_api_route(
            f"{prefix}/models", list_models, methods=["GET"], include_in_schema=shown, openapi_extra=MODELS
        )
        app.add_api_route(
            f"{prefix}/models/{{model:path}}",
            retrieve_model,
            methods=["GET"],
            include_in_schema=shown,
            openapi_extra=MODEL,
        )
    for path, respond, told in (("/health", health, HEALTH), ("/health/ready", ready, READY)):
        app.add_api_route(path, respond, methods=["GET"], openapi_extra=told, summary=told["summary"])
        # Apart, since OpenAPI wants a name of its own for each method.
        app.add_api_route(path, respond, methods=["HEAD"], include_in_schema=False)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
