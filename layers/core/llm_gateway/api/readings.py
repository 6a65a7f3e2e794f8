"""The routes that only read: models, health. Those of usage are in `usage_routes`."""

from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.api.data_plane import PREFIXES
from llm_gateway.api.documentation import reading
from llm_gateway.api.headers import caller_headers
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.pipeline.auth import Identification
from llm_gateway.pipeline.models import ModelList


def add_readings(app: FastAPI, auth: Identification, models: ModelList) -> None:
    async def identify(request: Request) -> VirtualKey:
        _, token = caller_headers(request.scope["headers"], request.scope["path"])
        return await auth.identify(token)

    async def list_models(request: Request) -> Response:
        return _json({"object": "list", "data": await models.all(await identify(request))})

    async def retrieve_model(request: Request) -> Response:
        key = await identify(request)
        name = request.path_params["model"]
        return _json(await models.one(name, key) if name else {"object": "list", "data": await models.all(key)})

    async def health() -> Response:
        return _json({"status": "ok"})

    for prefix in (*PREFIXES, "/openai"):
        shown = prefix == "/v1"
        told = reading("The models that this key can call")
        app.add_api_route(f"{prefix}/models", list_models, methods=["GET"], include_in_schema=shown, openapi_extra=told)
        told = reading("One of them", "model")
        app.add_api_route(
            f"{prefix}/models/{{model:path}}",
            retrieve_model,
            methods=["GET"],
            include_in_schema=shown,
            openapi_extra=told,
        )
    app.add_api_route("/health", health, methods=["GET"])
    # Apart, since OpenAPI wants a name of its own for each method.
    app.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
