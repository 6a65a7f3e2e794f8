"""The control plane's OpenAPI, made of the route table and the models of `wire`."""

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from llm_gateway.admin.listing import DEFAULT, MOST
from llm_gateway.admin.route_table import ROUTES, Route

_REFERENCE: Final = "#/components/schemas/{model}"
_ERRORS: Final = {
    "400": "The request is not valid: `param` says where",
    "401": "No key, or a wrong one",
    "403": "The key may not do this",
    "404": "It is not there, or not to be seen with this key",
    "409": "It is there already, in use, or its Idempotency-Key is busy",
    "412": "It has been changed since it was read",
    "413": "The body is too large",
    "415": "The body is compressed",
    "422": "This Idempotency-Key was used for a different request, or a provider refused the key",
    "428": "A change that needs If-Match came without",
    "500": "A defect of the gateway",
    "502": "The provider failed",
    "503": "A part of the gateway is not available",
}
_OF_READING: Final = ("400", "401", "403", "404", "500", "503")
_ENVELOPE: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ETAG: Final = {"ETag": {"description": "Of what is there now, for `If-Match`.", "schema": {"type": "string"}}}


def components() -> dict[str, Any]:
    """The schemas that the operations refer to."""
    bodies = {route.body for route in ROUTES if route.body is not None}
    answers = {route.answer for route in ROUTES if route.answer is not None}
    models = sorted(bodies | answers, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    return {**schemas["$defs"], "Error": _ENVELOPE}


def operation(route: Route) -> dict[str, Any]:
    """What OpenAPI says of a route."""
    told: dict[str, Any] = {
        "tags": [route.group],
        "summary": route.summary,
        "description": _who(route),
        "security": [{"key": []}],
        "parameters": [*_path(route), *_query(route), *_headers(route)],
        "responses": _responses(route),
    }
    if route.body is not None:
        content = {"application/json": {"schema": _reference(route.body.__name__)}}
        told["requestBody"] = {"required": route.body_required, "content": content}
    return told


def _who(route: Route) -> str:
    return "For admins, and for a team's admin within its team." if route.access == "team" else "For admins."


def _path(route: Route) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in route.shown_path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]


def _query(route: Route) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "query", "schema": {"type": "string", "minLength": 1, "maxLength": 1024}}
        for name in route.filters
    ]
    if route.paged:
        limit = {"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT}
        found += [
            {"name": "limit", "in": "query", "schema": limit},
            {"name": "next", "in": "query", "schema": {"type": "string"}},
        ]
    return found


def _headers(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if route.if_match or route.method == "PATCH":
        found.append({"name": "If-Match", "in": "header", "required": route.if_match, "schema": {"type": "string"}})
    if route.idempotent:
        schema = {"type": "string", "minLength": 1, "maxLength": 255}
        found.append({"name": "Idempotency-Key", "in": "header", "schema": schema})
    return found


def _responses(route: Route) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done" if route.mutates else "As it is now"}
    if route.answer is not None:
        good["content"] = {"application/json": {"schema": _reference(route.answer.__name__)}}
        good["headers"] = _ETAG
    statuses = _ERRORS if route.method != "GET" else {status: _ERRORS[status] for status in _OF_READING}
    content = {"application/json": {"schema": _reference("Error")}}
    return {
        str(route.status): good,
        **{status: {"description": text, "content": content} for status, text in statuses.items()},
    }


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}
