"""What the library answers: the provider's answer in one shape, with what it came to."""

import sys
from array import array
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llm_gateway.domain.usage import RequestRecord, Usage


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. `arguments` is JSON as the model wrote it; of a custom tool, its text."""

    id: str | None
    name: str
    arguments: str
    type: str = "function"


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the call number `index`: `id` and `name` come once, `arguments` in pieces to be joined."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What every answer says of its call. `cost_usd` is exact; None where no price is known, which is not free."""

    request_id: str
    """The id of its ledger entry."""
    provider: str
    model: str
    """As it was called at the provider."""
    answered_model: str | None
    """What the provider says that it was."""
    usage: Usage
    cost_usd: Decimal | None
    raw: Mapping[str, Any] = field(repr=False)
    """The whole answer in OpenAI's wire, unknown members included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletion(Answered):
    """The first choice; all of them are in `raw`."""

    content: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    refusal: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatChunk:
    """A piece of the first choice; others are in `raw`."""

    content: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings(Answered):
    """`vectors` are in the order of the inputs."""

    vectors: tuple[Sequence[float], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ModerationResult:
    """The verdict on one input, by category. A category that the provider does not judge is not there."""

    flagged: bool
    categories: Mapping[str, bool]
    category_scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moderation(Answered):
    """`results` are in the order of the inputs."""

    results: tuple[ModerationResult, ...]

    @property
    def flagged(self) -> bool:
        """Whether any input is."""
        return any(result.flagged for result in self.results)


def read_completion(raw: Mapping[str, Any], record: RequestRecord) -> ChatCompletion:
    choice = first_choice(raw)
    message = _mapping(choice.get("message"))
    return ChatCompletion(
        **_told(raw, record),
        content=message.get("content"),
        tool_calls=tuple(_tool_call(call) for call in _mappings(message.get("tool_calls"))),
        finish_reason=choice.get("finish_reason"),
        refusal=message.get("refusal"),
        reasoning=message.get("reasoning_content"),
    )


def read_chunk(raw: Mapping[str, Any]) -> ChatChunk:
    choice = first_choice(raw)
    delta = _mapping(choice.get("delta"))
    return ChatChunk(
        content=delta.get("content"),
        tool_calls=tuple(_tool_delta(call) for call in _mappings(delta.get("tool_calls"))),
        finish_reason=choice.get("finish_reason"),
        refusal=delta.get("refusal"),
        reasoning=delta.get("reasoning_content"),
        raw=raw,
    )


def read_embeddings(raw: Mapping[str, Any], record: RequestRecord) -> Embeddings:
    return Embeddings(**_told(raw, record), vectors=tuple(_vector(each.get("embedding")) for each in raw["data"]))


def read_moderation(raw: Mapping[str, Any], record: RequestRecord) -> Moderation:
    results = tuple(
        ModerationResult(each["flagged"], each.get("categories") or {}, each.get("category_scores") or {})
        for each in raw["results"]
    )
    return Moderation(**_told(raw, record), results=results)


def _told(raw: Mapping[str, Any], record: RequestRecord) -> dict[str, Any]:
    return {
        "request_id": record.request_id,
        "provider": record.provider,
        "model": record.routed_model,
        "answered_model": record.answered_model,
        "usage": record.usage,
        "cost_usd": record.cost_usd,
        "raw": raw,
    }


def first_choice(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((each for each in _mappings(raw.get("choices")) if each.get("index", 0) == 0), {})


def _mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    return [_mapping(each) for each in value] if isinstance(value, list) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    kind = call.get("type") or "function"
    what = _mapping(call.get(kind))
    return ToolCall(call.get("id"), what.get("name") or "", what.get("arguments") or what.get("input") or "", kind)


def _tool_delta(call: Mapping[str, Any]) -> ToolCallDelta:
    function = _mapping(call.get("function"))
    return ToolCallDelta(call.get("index") or 0, call.get("id"), function.get("name"), function.get("arguments") or "")


def _vector(embedding: Any) -> Sequence[float]:
    """Numbers as they are; base64 (`encoding_format`) is little-endian 32-bit floats."""
    if not isinstance(embedding, str):
        return tuple(embedding or ())
    numbers = array("f")
    numbers.frombytes(b64decode(embedding))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
