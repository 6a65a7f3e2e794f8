"""`POST /v1/routing/explain`: where a chat request would go, and why. What does it is imported at the first call."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.api.data_plane import DataPlane
from llm_gateway.api.documentation import EXPLAIN
from llm_gateway.errors import InvalidRequest
from llm_gateway.metering.cost import format_usd
from llm_gateway.observability.logs import RequestLog
from llm_gateway.pipeline.call import Call
from llm_gateway.pipeline.gateway import Gateway

if TYPE_CHECKING:
    from llm_gateway.pipeline.explain import Explanation, LimitNow

PATH: Final = "/routing/explain"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def add_routing_explain(app: FastAPI, gateway: Gateway, log: RequestLog) -> None:
    plane = DataPlane(gateway, log)

    async def respond(request: Request) -> Response:
        from llm_gateway.pipeline.explain import Explainer  # noqa: PLC0415 - only those who ask pay for it

        call = _in_place_of(request.query_params.get("request_id"), await plane.call_of(request, "chat.completions"))
        explained = await Explainer(gateway).explain(call)
        return Response(
            orjson.dumps(_rendered(explained)), media_type="application/json", headers={"cache-control": "no-store"}
        )

    app.router.add_route(PATH, respond, methods=["POST"])
    if app.openapi_url is None:
        app.router.add_route(f"/v1{PATH}", respond, methods=["POST"])
        return
    app.add_api_route(f"/v1{PATH}", respond, methods=["POST"], openapi_extra=EXPLAIN, summary=EXPLAIN["summary"])


def _in_place_of(request_id: str | None, call: Call) -> Call:
    """The call with the id, and so the draws, of another request. Raises `InvalidRequest`."""
    if request_id is None:
        return call
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest("`request_id` must be the id of a request, such as `req_…`.", param="request_id")
    return replace(call, request_id=request_id)


def _rendered(explained: "Explanation") -> dict[str, Any]:
    plan, of = explained.plan, explained.features
    return {
        "object": "routing.explanation",
        "request_id": explained.request_id,
        "requested": explained.route.requested,
        "strategy": plan.strategy,
        "rule": plan.rule,
        "request": {
            "input_tokens": of.input_tokens,
            "max_output_tokens": of.max_output_tokens,
            "stream": of.stream,
            "user": of.user,
            "tags": dict(of.tags),
            "budget_used": None if of.budget_used is None else f"{of.budget_used:.4f}",
        },
        "candidates": [
            {
                "deployment": planned.deployment.name,
                "group": planned.candidate.group.name,
                "position": position,
                "reason": planned.reason,
                "numbers": dict(planned.numbers),
                "circuit": state.state,
            }
            for position, (planned, state) in enumerate(explained.candidates, 1)
        ],
        "dropped": [
            *(
                {"deployment": each.deployment.name, "group": each.group, "reason": each.reason}
                for each in plan.dropped
            ),
            *(
                {"deployment": each.deployment.name, "group": each.group, "reason": "unfit", "message": each.message}
                for each in explained.unfit
            ),
        ],
        "shadow": None if plan.shadow is None else plan.shadow.deployment.name,
        "limits": [_limit(each) for each in explained.limits],
        "queue_s": explained.queue_s,
    }


def _limit(limit: "LimitNow") -> dict[str, Any]:
    """Money as exact decimal text, counts as integers."""
    number = format_usd if limit.metric == "budget" else int
    return {
        "scope": limit.scope.id,
        "metric": limit.metric,
        **({} if limit.period is None else {"period": limit.period}),
        "limit": number(limit.limit),
        "used": None if limit.used is None else number(limit.used),
        "asked": number(limit.asked),
        "fits": limit.fits,
        "enforced": limit.enforced,
        "frees_in_s": None if limit.frees_in_s is None else round(limit.frees_in_s, 3),
    }
