"""What an answer says of the way it came: its headers, and the `x_gateway` object of a buffered body."""

from collections.abc import Mapping
from urllib.parse import quote

import orjson

from llm_gateway.pipeline.leg import Leg
from llm_gateway.schemas.json_splice import add_member, set_member

STREAM_HEADERS: Mapping[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def leg_headers(leg: Leg, legs: int, overhead_s: float) -> dict[str, str]:
    """Who answered, after how many tries, and what was lost on the way to it."""
    headers = {
        "x-gateway-provider": leg.provider.name,
        "x-gateway-model": _header_text(leg.deployment.model),
        "x-gateway-overhead-ms": f"{overhead_s * 1000:.2f}",
    }
    if legs > 1:
        headers["x-gateway-attempts"] = str(legs)
    if leg.warnings:
        headers["x-gateway-warning"] = "; ".join(leg.warnings)
    return headers


def with_details(body: bytes, provider: str, latency_ms: int, cost: str | None) -> bytes:
    """The body with its `x_gateway` object. `cost` is exact, in US dollars; None where no price is known."""
    told = {"provider": provider, "latency_ms": latency_ms, "cost_usd": cost}
    put = set_member if b'"x_gateway"' in body else add_member
    return put(body, "x_gateway", orjson.dumps(told))


def _header_text(name: str) -> str:
    """A model's name as a header value: what is not visible ASCII is percent-encoded."""
    return name if name.isascii() and name.isprintable() else quote(name, safe="/:@+ ")
