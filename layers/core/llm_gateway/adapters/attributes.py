"""DynamoDB's typed JSON for what the gateway keeps.

Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html and, for the range of
numbers, https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
"""

from collections.abc import Mapping
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from llm_gateway.domain.usage import Attempt, RequestRecord, Usage

AttributeValue = dict[str, Any]
"""`{"S": "text"}`, `{"N": "1.5"}`, `{"BOOL": true}`, `{"M": {…}}`, `{"L": […]}`, `{"NULL": true}`."""
Item = dict[str, AttributeValue]

_DIGITS: Final = 38
_LARGEST: Final = 125
_SMALLEST: Final = -130

# Attribute name in the item -> field of the record. Names count in an item's size, and 1,024 bytes are one write unit.
_TEXT: Final = {
    "status": "status",
    "endpoint": "endpoint",
    "model": "requested_model",
    "provider": "provider",
    "routed": "routed_model",
    "key": "key",
    "key_id": "key_id",
    "team": "team",
    "user": "user",
    "answered": "answered_model",
    "finish": "finish_reason",
    "error": "error_code",
    "prices": "price_version",
}
_INTEGERS: Final = {
    "at": "at_ms",
    "expires": "expires_at",
    "http": "http_status",
    "latency": "latency_ms",
    "ttft": "ttft_ms",
}
_MONEY: Final = {"cost": "cost_usd", "provider_cost": "provider_cost_usd", "reserved": "reserved_usd"}
_TOKENS: Final = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cached_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "reasoning": "reasoning_tokens",
    "input_audio": "input_audio_tokens",
    "cached_audio": "cached_audio_tokens",
    "output_audio": "output_audio_tokens",
    "input_image": "input_image_tokens",
    "cached_image": "cached_image_tokens",
    "output_image": "output_image_tokens",
    "input_video": "input_video_tokens",
    "output_video": "output_video_tokens",
    "citation": "citation_tokens",
    "searches": "web_searches",
}
_LISTS: Final = {"scopes": "scopes", "holds": "holds", "over": "over_limits"}
RECORD_ATTRIBUTES: Final = (*_TEXT, *_INTEGERS, *_MONEY, *_LISTS, "stream", "tags", "usage", "attempts")
"""Every attribute of a request item that the record owns; whatever else is on the item belongs to others."""

_texts = attrgetter(*_TEXT.values())
_integers = attrgetter(*_INTEGERS.values())
_lists = attrgetter(*_LISTS.values())
_moneys = attrgetter(*_MONEY.values())
_tokens = attrgetter(*_TOKENS.values())


def number(value: Decimal) -> str:
    """`value` as DynamoDB takes it, without an exponent. Raises `ValueError` where it could not be kept exactly."""
    if not value:
        if value.is_nan():
            raise ValueError("NaN is no DynamoDB number")
        return "0"
    if not value.is_finite():
        raise ValueError(f"{value} is no DynamoDB number")
    text = format(value, "f")
    if len(text) > _DIGITS:
        significant = "".join(map(str, value.as_tuple().digits)).strip("0")
        if len(significant) > _DIGITS or not _SMALLEST <= value.adjusted() <= _LARGEST:
            raise ValueError(f"{value} does not fit DynamoDB's 38 digits")
    return text


def encode(value: object) -> AttributeValue:
    """Any JSON-shaped value with `Decimal` for fractions. Raises `TypeError` for a float: money never is one."""
    match value:
        case None:
            attribute: AttributeValue = {"NULL": True}
        case str():
            attribute = {"S": value}
        case bool():  # before int, which it is one of
            attribute = {"BOOL": value}
        case int():
            attribute = {"N": str(value)}
        case Decimal():
            attribute = {"N": number(value)}
        case Mapping():
            attribute = {"M": {str(name): encode(inner) for name, inner in value.items()}}
        case list() | tuple():
            attribute = {"L": [encode(inner) for inner in value]}
        case _:
            raise TypeError(f"{type(value).__name__} is not stored in DynamoDB")
    return attribute


def decode(attribute: AttributeValue) -> Any:
    """What `encode` was given; every number comes back as a `Decimal`, every sequence as a list."""
    ((kind, value),) = attribute.items()
    if kind == "N":
        return Decimal(value)
    if kind == "M":
        return {name: decode(inner) for name, inner in value.items()}
    if kind == "L":
        return [decode(inner) for inner in value]
    if kind == "NULL":
        return None
    if kind in ("S", "BOOL"):
        return value
    raise TypeError(f"the gateway stores no attribute of type {kind}")


def request_key(request_id: str) -> Item:
    return {"pk": {"S": f"req#{request_id}"}}


def encode_record(record: RequestRecord) -> Item:
    """The request's item, keys included. What is None, empty or a zero count is left out."""
    item: Item = {"pk": {"S": f"req#{record.request_id}"}, "stream": {"BOOL": record.stream}}
    for name, text in zip(_TEXT, _texts(record), strict=True):
        if text is not None:
            item[name] = {"S": text}
    for name, integer in zip(_INTEGERS, _integers(record), strict=True):
        if integer is not None:
            item[name] = {"N": str(integer)}
    for name, money in zip(_MONEY, _moneys(record), strict=True):
        if money is not None:
            item[name] = {"N": number(money)}
    for name, texts in zip(_LISTS, _lists(record), strict=True):
        if texts:
            item[name] = {"L": [{"S": each} for each in texts]}
    if record.tags:
        # A list of pairs and not a map: a map's names cannot be empty, and tags are other people's words.
        item["tags"] = {"L": [{"S": part} for pair in record.tags.items() for part in pair]}
    usage = _encode_usage(record.usage)
    if usage:
        item["usage"] = {"M": usage}
    if record.attempts:
        item["attempts"] = {"L": [{"M": _encode_attempt(attempt)} for attempt in record.attempts]}
    return item


def decode_record(item: Item) -> RequestRecord:
    """The record in a request's item; attributes that are not the record's are passed over."""
    fields: dict[str, Any] = {
        "request_id": item["pk"]["S"].removeprefix("req#"),
        "stream": item["stream"]["BOOL"],
        "usage": _decode_usage(item["usage"]["M"]) if "usage" in item else Usage(),
    }
    for name, field in _TEXT.items():
        fields[field] = item[name]["S"] if name in item else None
    for name, field in _INTEGERS.items():
        fields[field] = int(Decimal(item[name]["N"])) if name in item else None
    for name, field in _MONEY.items():
        fields[field] = Decimal(item[name]["N"]) if name in item else None
    for name, field in _LISTS.items():
        if name in item:
            fields[field] = tuple(each["S"] for each in item[name]["L"])
    if "tags" in item:
        parts = [part["S"] for part in item["tags"]["L"]]
        fields["tags"] = dict(zip(parts[::2], parts[1::2], strict=True))
    if "attempts" in item:
        fields["attempts"] = tuple(_decode_attempt(attempt["M"]) for attempt in item["attempts"]["L"])
    return RequestRecord(**fields)


def _encode_usage(usage: Usage) -> Item:
    encoded: Item = {name: {"N": str(count)} for name, count in zip(_TOKENS, _tokens(usage), strict=True) if count}
    if usage.estimated:
        encoded["estimated"] = {"BOOL": True}
    if usage.service_tier is not None:
        encoded["tier"] = {"S": usage.service_tier}
    if usage.inference_geo is not None:
        encoded["geo"] = {"S": usage.inference_geo}
    return encoded


def _decode_usage(encoded: Item) -> Usage:
    counts: dict[str, Any] = {
        field: int(Decimal(encoded[name]["N"])) for name, field in _TOKENS.items() if name in encoded
    }
    return Usage(
        **counts,
        estimated="estimated" in encoded,
        service_tier=encoded["tier"]["S"] if "tier" in encoded else None,
        inference_geo=encoded["geo"]["S"] if "geo" in encoded else None,
    )


def _encode_attempt(attempt: Attempt) -> Item:
    encoded: Item = {
        "provider": {"S": attempt.provider},
        "model": {"S": attempt.model},
        "ms": {"N": str(attempt.latency_ms)},
    }
    if attempt.status is not None:
        encoded["status"] = {"N": str(attempt.status)}
    if attempt.error is not None:
        encoded["error"] = {"S": attempt.error}
    if attempt.key_source is not None:
        encoded["key_source"] = {"S": attempt.key_source}
    if attempt.key_name is not None:
        encoded["key"] = {"S": attempt.key_name}
    if attempt.input_tokens:
        encoded["in"] = {"N": str(attempt.input_tokens)}
    if attempt.output_tokens:
        encoded["out"] = {"N": str(attempt.output_tokens)}
    if attempt.cost_usd is not None:
        encoded["usd"] = {"N": number(attempt.cost_usd)}
    return encoded


def _decode_attempt(encoded: Item) -> Attempt:
    return Attempt(
        provider=encoded["provider"]["S"],
        model=encoded["model"]["S"],
        status=int(Decimal(encoded["status"]["N"])) if "status" in encoded else None,
        error=encoded["error"]["S"] if "error" in encoded else None,
        latency_ms=int(Decimal(encoded["ms"]["N"])),
        key_source=encoded["key_source"]["S"] if "key_source" in encoded else None,
        key_name=encoded["key"]["S"] if "key" in encoded else None,
        input_tokens=int(Decimal(encoded["in"]["N"])) if "in" in encoded else 0,
        output_tokens=int(Decimal(encoded["out"]["N"])) if "out" in encoded else 0,
        cost_usd=Decimal(encoded["usd"]["N"]) if "usd" in encoded else None,
    )
