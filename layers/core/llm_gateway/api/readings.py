"""The routes that only read: models, a request's ledger entry, health."""

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.api.data_plane import PREFIXES
from llm_gateway.api.documentation import reading
from llm_gateway.api.headers import caller_headers
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Ledger
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import NotFound
from llm_gateway.metering.cost import format_usd
from llm_gateway.pipeline.auth import Identification
from llm_gateway.pipeline.models import ModelList


def add_readings(app: FastAPI, auth: Identification, models: ModelList, ledger: Ledger) -> None:
    async def identify(request: Request) -> VirtualKey:
        _, token = caller_headers(request.scope["headers"], request.scope["path"])
        return await auth.identify(token)

    async def list_models(request: Request) -> Response:
        return _json({"object": "list", "data": await models.all(await identify(request))})

    async def retrieve_model(request: Request) -> Response:
        key = await identify(request)
        name = request.path_params["model"]
        return _json(await models.one(name, key) if name else {"object": "list", "data": await models.all(key)})

    async def read_request(request: Request) -> Response:
        """A key sees its own requests, an admin all; what one may not see is not there."""
        key = await identify(request)
        record = await ledger.get(request.path_params["request_id"])
        if record is None or (key.role != "admin" and record.key != key.name):
            raise NotFound(f"There is no request `{request.path_params['request_id']}`.")
        return _json(render_record(record, with_provider_cost=key.role == "admin"))

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
    told = reading("A request's ledger entry", "request_id")
    app.add_api_route("/usage/requests/{request_id}", read_request, methods=["GET"], openapi_extra=told)
    app.add_api_route("/health", health, methods=["GET", "HEAD"])


def render_record(record: RequestRecord, *, with_provider_cost: bool = False) -> dict[str, Any]:
    """The public shape of a ledger entry.

    `cost_usd` is an exact decimal string; where no price is known it is null, and `unpriced` is true. What the provider
    bills beneath a team's markup is for the operator alone: `with_provider_cost`.
    """
    usage = record.usage
    shown: dict[str, Any] = {
        "request_id": record.request_id,
        "at": datetime.fromtimestamp(record.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "endpoint": record.endpoint,
        "team": record.team,
        "key": record.key,
        "user": record.user,
        "tags": record.tags,
        "requested_model": record.requested_model,
        "provider": record.provider,
        "routed_model": record.routed_model,
        "answered_model": record.answered_model,
        "stream": record.stream,
        "status": record.status,
        "finish_reason": record.finish_reason,
        "http_status": record.http_status,
        "error_code": record.error_code,
        "usage": {name: count for name in _COUNTS if (count := getattr(usage, name)) or name in _ALWAYS_SHOWN},
        "service_tier": usage.service_tier,
        "estimated": usage.estimated,
        "cost_usd": None if record.cost_usd is None else format_usd(record.cost_usd),
        "unpriced": record.status in ("settled", "failed") and record.cost_usd is None,
        "price_version": record.price_version,
        "latency_ms": record.latency_ms,
        "ttft_ms": record.ttft_ms,
        "attempts": [
            {
                "provider": attempt.provider,
                "model": attempt.model,
                "status": attempt.status,
                "error": attempt.error,
                "latency_ms": attempt.latency_ms,
                "key_source": attempt.key_source,
                "key_name": attempt.key_name,
            }
            for attempt in record.attempts
        ],
    }
    if usage.inference_geo is not None:
        shown["inference_geo"] = usage.inference_geo
    if with_provider_cost and record.provider_cost_usd is not None:
        shown["provider_cost_usd"] = format_usd(record.provider_cost_usd)
    if record.status == "open" and record.reserved_usd is not None:
        shown["reserved_usd"] = format_usd(record.reserved_usd)
    return shown


_ALWAYS_SHOWN = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
_COUNTS = (
    *_ALWAYS_SHOWN,
    "cached_audio_tokens",
    "input_image_tokens",
    "cached_image_tokens",
    "output_image_tokens",
    "input_video_tokens",
    "output_video_tokens",
    "citation_tokens",
    "web_searches",
)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
