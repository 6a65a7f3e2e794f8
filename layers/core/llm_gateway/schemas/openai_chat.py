"""What a caller may send to the routes that call models: only what the gateway itself reads is checked.

Everything else is the provider's business and passes unread, nulls included.
`models` is OpenRouter's: names to try after `model`, in order. The gateway follows it itself, so no provider gets it.
Source: https://platform.openai.com/docs/api-reference/chat/create, https://platform.openai.com/docs/api-reference/embeddings/create,
https://platform.openai.com/docs/api-reference/moderations/create, https://openrouter.ai/docs/guides/routing/model-fallbacks
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.json_splice import remove_member

_NUMBERS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_INTEGERS = ("n", "max_tokens", "max_completion_tokens", "top_logprobs")
_MAXIMUM_N = 128
_LONGEST_MODEL = 512
"""Long enough for an ARN of an inference profile."""
MOST_MODELS = 8


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request that names a model. `body` is what the caller sent, `fields` a parsed copy to read from."""

    body: bytes
    fields: Mapping[str, Any]
    model: str | None
    stream: bool = False
    include_usage: bool = False
    """Whether the caller asked for the usage chunk of a stream."""
    user: str | None = None
    models: tuple[str, ...] = ()
    """The names to try after `model`, in order; neither `body` nor `fields` has the member any more."""


def read_chat_request(body: bytes) -> ModelRequest:
    """Raises `InvalidRequest` with the `param` at fault."""
    fields = read_object(body)
    stream = _typed(fields, "stream", bool, "a boolean") or False
    options = _typed(fields, "stream_options", dict, "an object") or {}
    if options and not stream:
        raise InvalidRequest("`stream_options` is only allowed when `stream` is true.", param="stream_options")
    include_usage = _typed(options, "include_usage", bool, "a boolean", "stream_options.") or False
    _check_messages(fields.get("messages"))
    _check_numbers(fields)
    _typed(fields, "tools", list, "an array")
    body, model, models = _models(body, fields)
    return ModelRequest(body, fields, model, stream, include_usage, _user(fields), models)


def read_embeddings_request(body: bytes) -> ModelRequest:
    """Raises `InvalidRequest` with the `param` at fault."""
    fields = read_object(body)
    given = fields.get("input")
    if not isinstance(given, str | list) or not given:
        raise InvalidRequest("`input` must be a non-empty string or array.", param="input")
    dimensions = fields.get("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1):
        raise InvalidRequest("`dimensions` must be a positive integer.", param="dimensions")
    body, model, models = _models(body, fields)
    return ModelRequest(body, fields, model, user=_user(fields), models=models)


def read_moderation_request(body: bytes) -> ModelRequest:
    """Raises `InvalidRequest` with the `param` at fault."""
    fields = read_object(body)
    given = fields.get("input")
    if not isinstance(given, str | list) or given == []:
        raise InvalidRequest("`input` must be a string or a non-empty array.", param="input")
    return ModelRequest(body, fields, _model(fields), user=_user(fields))


def read_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body of the request is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(parsed, dict):
        raise InvalidRequest("The body of the request must be a JSON object.", code="invalid_json")
    return parsed


def _typed(fields: Mapping[str, Any], name: str, kind: type, what: str, prefix: str = "") -> Any:
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidRequest(f"`{prefix}{name}` must be {what}.", param=prefix + name)
    return value


def _model(fields: Mapping[str, Any]) -> str | None:
    model: str | None = _typed(fields, "model", str, "a string")
    if model is not None:
        check_model_name(model)
    return model


def _models(body: bytes, fields: dict[str, Any]) -> tuple[bytes, str | None, tuple[str, ...]]:
    """The body without `models`, the name to try first, and those after it. `fields` loses the member too."""
    model = _model(fields)
    if "models" not in fields:
        return body, model, ()
    given = fields.pop("models")
    body = remove_member(body, "models")
    if given is None:
        return body, model, ()
    if not isinstance(given, list) or len(given) > MOST_MODELS:
        raise InvalidRequest(f"`models` must be an array of at most {MOST_MODELS} names.", param="models")
    for index, name in enumerate(given):
        if not isinstance(name, str):
            raise InvalidRequest(f"`models[{index}]` must be a string.", param=f"models[{index}]")
        check_model_name(name, f"models[{index}]")
    names = dict.fromkeys([model, *given] if model else given)
    return body, next(iter(names), None), tuple(names)[1:]


def check_model_name(model: str, param: str = "model") -> None:
    """Raises `InvalidRequest` for what can be no model's name, and would do harm in headers and logs."""
    if not model.strip():
        raise InvalidRequest(f"`{param}` must not be empty.", param=param)
    if len(model) > _LONGEST_MODEL or not model.isprintable():
        raise InvalidRequest(
            f"`{param}` must be at most {_LONGEST_MODEL} characters, without control characters.", param=param
        )


def _user(fields: Mapping[str, Any]) -> str | None:
    user: str | None = _typed(fields, "user", str, "a string")
    return user


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("`messages` must be a non-empty array.", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest(f"`messages[{index}]` must be an object.", param=f"messages[{index}]")
        if not isinstance(message.get("role"), str):
            raise InvalidRequest(f"`messages[{index}].role` must be a string.", param=f"messages[{index}].role")


def _check_numbers(fields: Mapping[str, Any]) -> None:
    for name in _NUMBERS:
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InvalidRequest(f"`{name}` must be a number.", param=name)
    for name in _INTEGERS:
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise InvalidRequest(f"`{name}` must be a non-negative integer.", param=name)
    n = fields.get("n")
    if n is not None and not 1 <= n <= _MAXIMUM_N:
        raise InvalidRequest(f"`n` must be between 1 and {_MAXIMUM_N}.", param="n")
