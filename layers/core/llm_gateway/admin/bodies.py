"""Bodies of requests: one JSON object, its secrets taken out before anything can show them."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import ValidationError

from llm_gateway.admin import wire
from llm_gateway.admin.route_table import Route
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.duplicates import refuse_duplicates

_BY_THEIR_MODEL: Final = (wire.SecretBody, wire.TestBody, wire.RotationBody, wire.RotateBody)
"""Bodies that are no table of a file, and so are checked by their own model."""


def read_object(body: bytes, route: Route) -> dict[str, Any]:
    """Raises `InvalidRequest` for what is no JSON object, or has a member twice."""
    if not body.strip():
        if route.body is None or not route.body_required:
            return {}
        raise InvalidRequest("The body of the request is missing: it must be a JSON object.", code="invalid_json")
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body of the request is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(parsed, dict):
        raise InvalidRequest("The body of the request must be a JSON object.", code="invalid_json")
    refuse_duplicates(body)
    return parsed


def take_secrets(body: Mapping[str, Any], route: Route) -> tuple[dict[str, Any], dict[str, str]]:
    """The body without its secrets, and those, by member. Raises `InvalidRequest`, which quotes none."""
    left, secrets = dict(body), {}
    if route.body is wire.SecretBody and "value" in left:
        secrets["value"] = _text(left.pop("value"), "value")
    if route.group == "providers" and left.get("api_key") is not None:
        holder = left.pop("api_key")
        if not isinstance(holder, Mapping):
            raise InvalidRequest('`api_key` must be an object: {"value": "…"}.', param="api_key")
        for member in holder:
            if member != "value" and member not in wire.KeyState.model_fields:
                raise InvalidRequest(
                    f"`api_key.{member}` is not known here: there is value.", param=f"api_key.{member}"[:256]
                )
        if "configured" in holder and "value" not in holder:
            return left, secrets  # what a GET gave: it says that there is one, and nothing of it
        if "value" not in holder:
            raise InvalidRequest("`api_key.value` is required: the provider's key.", param="api_key.value")
        secrets["api_key"] = _text(holder["value"], "api_key.value")
    return left, secrets


def _text(value: Any, member: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > wire.LONGEST_SECRET:
        raise InvalidRequest(
            f"`{member}` must be a string, not empty, of {wire.LONGEST_SECRET} characters at most.", param=member
        )
    return value


def checked(body: Mapping[str, Any], secrets: Mapping[str, str], route: Route) -> dict[str, Any]:
    """Raises `InvalidRequest`, with the member at fault as `param`, where the body's own model says so."""
    if route.body is None and body:
        raise InvalidRequest("This takes no body.")
    if route.body not in _BY_THEIR_MODEL:
        return dict(body)
    try:
        model = route.body.model_validate({**body, **secrets})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        member = ".".join(str(step) for step in fault["loc"])[:256]
        told = "is not known here" if fault["type"] == "extra_forbidden" else str(fault["msg"])
    else:
        return model.model_dump(exclude={"value"})
    raise InvalidRequest(f"`{member}`: {told}.", param=member)
