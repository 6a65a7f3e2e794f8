"""Records for tests: one as an ordinary request leaves it, and any that may be."""

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from llm_gateway.adapters.attributes import Item
from llm_gateway.domain.usage import Attempt, RequestRecord, Usage


def plain_record(request_id: str = "req_01JD2M8Q4W6ZK3V9T5X7Y1B2C3", **more: Any) -> RequestRecord:
    """A settled request with everything an ordinary one has; `more` replaces fields."""
    fields: dict[str, Any] = {
        "request_id": request_id,
        "at_ms": 1_770_000_000_123,
        "endpoint": "/v1/chat/completions",
        "key": "search-prod",
        "key_id": "0123456789abcdef01234567",
        "team": "search",
        "user": None,
        "requested_model": "fast",
        "provider": "openai",
        "routed_model": "gpt-4.1-mini",
        "stream": True,
        "status": "settled",
        "expires_at": 1_770_000_900,
        "answered_model": "gpt-4.1-mini-2025-04-14",
        "finish_reason": "stop",
        "http_status": 200,
        "usage": Usage(input_tokens=1523, output_tokens=412, cached_tokens=1024),
        "cost_usd": Decimal("0.00096160"),
        "price_version": "2026-02-01",
        "latency_ms": 4312,
        "ttft_ms": 412,
        "attempts": (Attempt("openai", "gpt-4.1-mini", 200, None, 4301),),
    }
    return RequestRecord(**{**fields, **more})


def open_record(request_id: str, **more: Any) -> RequestRecord:
    """The same request when it has just been opened."""
    nothing_yet: dict[str, Any] = {
        "status": "open",
        "answered_model": None,
        "finish_reason": None,
        "http_status": None,
        "usage": Usage(),
        "cost_usd": None,
        "latency_ms": None,
        "ttft_ms": None,
        "attempts": (),
        "reserved_usd": Decimal("0.5"),
    }
    return plain_record(request_id, **{**nothing_yet, **more})


def item_size(item: Item) -> int:
    """Bytes as DynamoDB counts them: names, UTF-8 text, digits in pairs, and the overhead of maps and lists.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _value_size(attribute) for name, attribute in item.items())


def _value_size(attribute: dict[str, Any]) -> int:
    ((kind, value),) = attribute.items()
    if kind == "S":
        return len(value.encode())
    if kind == "N":
        return 2 + (len(value.replace(".", "").strip("0")) + 1) // 2
    if kind == "M":
        return 3 + sum(len(name.encode()) + _value_size(inner) + 1 for name, inner in value.items())
    if kind == "L":
        return 3 + sum(_value_size(inner) + 1 for inner in value)
    return 1


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_maybe_text = st.none() | _text
_count = st.integers(0, 10**12)
_money = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(0, 10**28 - 1), st.integers(-40, 10)
)
_attempts = st.builds(
    Attempt,
    provider=_text,
    model=_text,
    status=st.none() | st.integers(100, 599),
    error=_maybe_text,
    latency_ms=_count,
)
_usages = st.builds(
    Usage,
    input_tokens=_count,
    output_tokens=_count,
    cached_tokens=_count,
    cache_write_tokens=_count,
    cache_write_1h_tokens=_count,
    reasoning_tokens=_count,
    input_audio_tokens=_count,
    cached_audio_tokens=_count,
    output_audio_tokens=_count,
    input_image_tokens=_count,
    cached_image_tokens=_count,
    output_image_tokens=_count,
    input_video_tokens=_count,
    output_video_tokens=_count,
    citation_tokens=_count,
    web_searches=_count,
    service_tier=_maybe_text,
    inference_geo=_maybe_text,
    estimated=st.booleans(),
)


def records() -> st.SearchStrategy[RequestRecord]:
    """Any settled or failed record, every field of it."""
    return st.builds(
        RequestRecord,
        request_id=st.uuids().map(str),
        at_ms=st.integers(0, 4_000_000_000_000),
        endpoint=_text,
        key=_maybe_text,
        key_id=_maybe_text,
        team=_maybe_text,
        user=_maybe_text,
        requested_model=_text,
        provider=_text,
        routed_model=_text,
        stream=st.booleans(),
        status=st.sampled_from(["settled", "failed"]),
        expires_at=st.integers(0, 4_000_000_000),
        tags=st.dictionaries(_text, _text, max_size=3),
        answered_model=_maybe_text,
        finish_reason=_maybe_text,
        http_status=st.none() | st.integers(100, 599),
        error_code=_maybe_text,
        usage=_usages,
        cost_usd=st.none() | _money,
        provider_cost_usd=st.none() | _money,
        reserved_usd=st.none() | _money,
        scopes=st.lists(_text, max_size=3).map(tuple),
        holds=st.lists(_text, max_size=3).map(tuple),
        over_limits=st.lists(_text, max_size=3).map(tuple),
        price_version=_maybe_text,
        latency_ms=st.none() | _count,
        ttft_ms=st.none() | _count,
        attempts=st.lists(_attempts, max_size=3).map(tuple),
    )
