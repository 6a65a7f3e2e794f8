"""What `/docs` says of routes whose bodies pass through: the members the gateway reads; others are forwarded."""

from typing import Any, get_args

from llm_gateway.domain.catalog import Recovery
from llm_gateway.pipeline.waiting import LONGEST_S
from llm_gateway.schemas.openai_chat import MOST_MODELS
from llm_gateway.schemas.simple_chat import LONGEST_SESSION_ID

_ENVELOPE = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ERRORS = {
    status: {"description": text, "content": {"application/json": {"schema": _ENVELOPE}}}
    for status, text in (
        ("400", "The request is not valid"),
        ("401", "No key, or a wrong one"),
        ("403", "The key may not do this"),
        ("404", "No such model"),
        (
            "409",
            "A request with this Idempotency-Key, or a turn of this session, is running; or the answer was too large",
        ),
        ("413", "The body is too large"),
        ("422", "This Idempotency-Key was used for a different request"),
        ("429", "A limit was reached; see Retry-After"),
        ("502", "The provider failed"),
        ("503", "The provider, or a part of the gateway, is not available"),
        ("504", "The provider took too long"),
    )
}

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Makes retries safe: one request under one key is made once, its answer kept for a day.",
}

_TAG = {
    "name": "x-gateway-tag-{name}",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
    "description": "Up to 16 tags of your own, recorded with the request: `x-gateway-tag-feature: autocomplete`.",
}

_TIMEOUT = {
    "name": "x-gateway-timeout",
    "in": "header",
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Seconds that the whole request may take, all attempts together.",
}

_RECOVERY = {
    "name": "x-gateway-stream-recovery",
    "in": "header",
    "schema": {"enum": list(get_args(Recovery))},
    "description": "What becomes of a stream that its provider cuts off.",
}

_QUEUE = {
    "name": "x-gateway-queue",
    "in": "header",
    "schema": {"type": "number", "minimum": 0, "maximum": LONGEST_S},
    "description": "Seconds to wait in line where a limit by the minute, or of parallel requests, has no room.",
}

_MODELS = {
    "type": ["array", "null"],
    "maxItems": MOST_MODELS,
    "items": {"type": "string"},
    "description": "Tried in this order after `model`, instead of the configured fallbacks.",
}

KEY: list[dict[str, list[str]]] = [{"key": []}]
SECURITY_SCHEMES = {"key": {"type": "http", "scheme": "bearer", "description": "A key of the gateway: `sk-…`"}}


def reading(
    summary: str, path_parameter: str | None = None, *, statuses: tuple[str, ...] = ("401", "404")
) -> dict[str, Any]:
    """What is said of a route that only reads."""
    told: dict[str, Any] = {"summary": summary, "security": KEY, "responses": _errors(*statuses)}
    if path_parameter:
        told["parameters"] = [{"name": path_parameter, "in": "path", "required": True, "schema": {"type": "string"}}]
    return told


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: _ERRORS[status] for status in statuses}


def _operation(summary: str, description: str, required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties, "additionalProperties": True}
    return {
        "summary": summary,
        "description": description,
        "parameters": [_IDEMPOTENCY_KEY, _TAG, _TIMEOUT, _RECOVERY, _QUEUE],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _ERRORS,
        "security": KEY,
    }


CHAT = _operation(
    "Create a chat completion",
    "OpenAI's Chat Completions. Members that are not listed here are forwarded to the provider as they are.",
    ["messages"],
    {
        "model": {"type": "string", "description": "An alias, `provider:model`, or a model of the default provider."},
        "models": _MODELS,
        "messages": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role"]}},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"], "properties": {"include_usage": {"type": ["boolean", "null"]}}},
        "tools": {"type": ["array", "null"], "items": {"type": "object"}},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
        "max_tokens": {"type": ["integer", "null"]},
        "user": {"type": ["string", "null"]},
    },
)
EMBEDDINGS = _operation(
    "Create embeddings",
    "OpenAI's embeddings. Members that are not listed here are forwarded to the provider as they are.",
    ["input"],
    {
        "model": {"type": "string", "description": "An alias, `provider:model`, or a model of the default provider."},
        "models": _MODELS,
        "input": {"oneOf": [{"type": "string"}, {"type": "array", "minItems": 1}]},
        "user": {"type": ["string", "null"]},
    },
)
MODERATIONS = _operation(
    "Classify content",
    "OpenAI's moderations, by any provider that has them. Another provider's verdicts come in OpenAI's shape.",
    ["input"],
    {
        "model": {"type": "string", "description": "`provider:model`; the default is a provider's that moderates."},
        "input": {"oneOf": [{"type": "string"}, {"type": "array", "minItems": 1}]},
    },
)


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": description, "content": {"application/json": {"schema": schema}}}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return _object(object={"const": "list"}, data={"type": "array", "items": items})


_TEXT = {"type": "string"}
_MODEL = _object(id=_TEXT, object={"const": "model"}, created={"type": "integer"}, owned_by=_TEXT)
_DEPLOYMENT = _object(provider=_TEXT, model=_TEXT, region={"type": ["string", "null"]})
_AVAILABLE = _object(
    id=_TEXT,
    object={"const": "model"},
    alias={"type": "boolean"},
    deployments={"type": "array", "minItems": 1, "items": _DEPLOYMENT},
)
_CHECKS = {"type": "object", "additionalProperties": {"enum": ["ok", "unreachable", "unusable"]}}

MODELS = reading("The models that this key can call", statuses=("401", "503"))
MODELS["responses"].update(_answer("OpenAI's model objects", _list(_MODEL)))
MODEL = reading("One of them", "model", statuses=("400", "401", "404", "503"))
# With nothing behind `models/` it is the list.
MODEL["responses"].update(_answer("OpenAI's model object", {"anyOf": [_MODEL, _list(_MODEL)]}))
AVAILABLE = reading("What this key may use now, and who would serve it", statuses=("401", "503"))
AVAILABLE["responses"].update(_answer("Aliases first", _list(_AVAILABLE)))
HEALTH: dict[str, Any] = {
    "summary": "Whether the process lives",
    "responses": _answer("It does", _object(status={"const": "ok"})),
}
READY: dict[str, Any] = {
    "summary": "Whether registry, ledger and secrets can be reached, and the configuration can be used",
    "responses": {
        **_answer("They can", _object(status={"const": "ready"}, checks=_CHECKS)),
        "503": {
            "description": "Not all is well: the error names what is not",
            "content": {
                "application/json": {
                    "schema": {"allOf": [_ENVELOPE, _object(status={"const": "not ready"}, checks=_CHECKS)]}
                }
            },
        },
    },
}
EXPLAIN = {
    **CHAT,
    "summary": "Explain where a chat completion would go",
    "description": "Every deployment that the request may come to, in the order in which they would be tried, why, "
    "and by which numbers; those that are left out, and why; and its limits as they are now. Nothing is called, "
    "written or held.",
    "parameters": [
        _TAG,
        _QUEUE,
        {
            "name": "request_id",
            "in": "query",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "description": "The id of a request whose draws are to be told again.",
        },
    ],
    "responses": {
        "200": {"description": "The plan", "content": {"application/json": {"schema": {"type": "object"}}}},
        **_errors("400", "401", "403", "404", "413", "503"),
    },
}

_NULLABLE = {"type": ["string", "null"]}
SIMPLE_CHAT: dict[str, Any] = {
    "summary": "Say something, get a reply",
    "description": "The one-line API. Sessions remember what was said for a day, for the key that said it.",
    "parameters": [
        {**_IDEMPOTENCY_KEY, "description": "As elsewhere, but not together with `session_id`."},
        _TAG,
        _TIMEOUT,
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["message"],
                    "properties": {
                        "message": {"type": "string", "minLength": 1},
                        "system": {**_NULLABLE, "description": "What the model is told before all else."},
                        "model": {**_NULLABLE, "description": "As in Chat Completions; by default `default_model`."},
                        "session_id": {"type": ["string", "null"], "minLength": 1, "maxLength": LONGEST_SESSION_ID},
                    },
                    "additionalProperties": False,
                }
            }
        },
    },
    "responses": {
        **_ERRORS,
        **_answer(
            "The reply",
            {
                **_object(reply=_TEXT, model=_NULLABLE, finish_reason=_NULLABLE, usage={"type": ["object", "null"]}),
                "additionalProperties": _TEXT,
                "description": "`session_id` as it was given; `warning` where the session forgets the turn.",
            },
        ),
    },
    "security": KEY,
}
FRONT_PAGE: dict[str, Any] = {
    "summary": "What this is",
    "responses": _answer(
        "A page for who accepts text/html, JSON for others",
        _object(name=_TEXT, description=_TEXT, base_url=_TEXT, links={"type": "object"}),
    ),
}
