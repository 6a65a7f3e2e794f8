"""What routing is told of a request: the same when it is sent and when it is explained."""

from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any

from llm_gateway.domain.identity import VirtualKey
from llm_gateway.metering.estimate import estimate_request_tokens
from llm_gateway.pipeline.call import Call
from llm_gateway.routing.features import Features
from llm_gateway.schemas.openai_chat import ModelRequest


def read_features(
    call: Call, key: VirtualKey, request: ModelRequest, requested: str, budget_used: Decimal | None = None
) -> Features:
    """`requested` is the name of the model. What the key says of itself wins over what its caller says.

    The input is counted only where something on the route asks.
    """
    return Features(
        request_id=call.request_id,
        endpoint=call.endpoint,
        requested=requested,
        key=key.name,
        team=key.team,
        user=key.user or request.user,
        tags={**call.tags, **key.tags} if call.tags else key.tags,
        metadata=_metadata(request.fields, key),
        count_input_tokens=partial(estimate_request_tokens, request.fields),
        max_output_tokens=_most_output(call, request.fields),
        stream=request.stream,
        budget_used=budget_used,
    )


def _most_output(call: Call, fields: Mapping[str, Any]) -> int | None:
    """Of chats, whose numbers were checked."""
    if call.endpoint != "chat.completions":
        return None
    return fields.get("max_completion_tokens") or fields.get("max_tokens") or None


def _metadata(fields: Mapping[str, Any], key: VirtualKey) -> Mapping[str, str]:
    """The body's `metadata` is the provider's to check: what is no text there matches no rule."""
    given = fields.get("metadata")
    if not isinstance(given, dict):
        return key.metadata
    return {**{name: value for name, value in given.items() if isinstance(value, str)}, **key.metadata}
