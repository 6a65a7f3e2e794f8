"""What an answer says of the way it came: its headers, and the `x_gateway` object of a buffered body."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import orjson

from llm_gateway.domain.strategies import Strategy
from llm_gateway.pipeline.leg import Leg, code_of
from llm_gateway.pipeline.outcome import in_order
from llm_gateway.schemas.json_splice import add_member, set_member

_LONGEST_ROUTE: Final = 1024
_LONGEST_CODE: Final = 64
_LONGEST_WARNING: Final = 1024
"""Characters of all warnings together: an answer whose headers are too long for the platform is lost, and was paid."""
_MORE: Final = "and {} more"
STREAM_HEADERS: Mapping[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def leg_headers(legs: Sequence[Leg], strategy: Strategy, overhead_s: float) -> dict[str, str]:
    """Who answered, after which tries, and what was lost on the way to it. `legs` ends with the one that answered."""
    leg = legs[-1]
    headers = {
        "x-gateway-provider": leg.provider.name,
        "x-gateway-model": _header_text(leg.deployment.model),
        "x-gateway-route": route_taken(legs, strategy),
        "x-gateway-overhead-ms": f"{overhead_s * 1000:.2f}",
    }
    if len(legs) > 1:
        headers["x-gateway-attempts"] = str(len(legs))
    if leg.warnings:
        headers["x-gateway-warning"] = _as_one(leg.warnings)
    return headers


def route_taken(legs: Sequence[Leg], strategy: Strategy) -> str:
    """The way a request took: `weighted; corp:small-1=503; openai:gpt-4.1-mini`.

    Each call to a deployment in order, with what came of it: the provider's status, or else a code such as
    `upstream_timeout`; `given_up` for one that another overtook; nothing for the one that answered. Of a way that is
    too long for a header the middle is left out.
    """
    parts = [strategy, *(_header_text(leg.deployment.name) + _what_came(leg) for leg in in_order(legs))]
    told = "; ".join(parts)
    while len(told) > _LONGEST_ROUTE and len(parts) > 3:
        del parts[len(parts) // 2]
        told = "; ".join((*parts[: len(parts) // 2], "...", *parts[len(parts) // 2 :]))
    return told


def _what_came(leg: Leg) -> str:
    if leg.given_up:
        return "=given_up"
    if leg.error is None:
        return ""
    refused = leg.attempts[-1].status if leg.status is None and leg.attempts else None
    if refused is not None:
        return f"={refused}"
    code = code_of(leg.error) or "error"  # perhaps a provider's own word, in a stream that had begun
    return "=" + _header_text(code[:_LONGEST_CODE]).replace(";", "%3B")


def with_details(body: bytes, provider: str, latency_ms: int, cost: str | None) -> bytes:
    """The body with its `x_gateway` object. `cost` is exact, in US dollars; None where no price is known."""
    told = {"provider": provider, "latency_ms": latency_ms, "cost_usd": cost}
    put = set_member if b'"x_gateway"' in body else add_member
    return put(body, "x_gateway", orjson.dumps(told))


def _as_one(warnings: Sequence[str]) -> str:
    """All of them, or those that there is room for and how many more there are."""
    told = "; ".join(warnings)
    if len(told) <= _LONGEST_WARNING:
        return told
    kept = 0
    room = _LONGEST_WARNING - len(_MORE.format(len(warnings)))
    while kept < len(warnings) and len(warnings[kept]) + 2 <= room:
        room -= len(warnings[kept]) + 2
        kept += 1
    return "; ".join([*warnings[:kept], _MORE.format(len(warnings) - kept)])


def _header_text(name: str) -> str:
    """A name as a header value: what is not visible ASCII is percent-encoded."""
    return name if name.isascii() and name.isprintable() else quote(name, safe="/:@+#= ")
