"""Anthropic's `usage`, read into ours and written as OpenAI's.

`input_tokens` there counts only what came after the last cache breakpoint: reads and writes of the cache are beside it.
`message_delta` holds running totals, perhaps of some counts only, over what `message_start` said. What compacting the
context took is in `iterations` alone; the other entries there are in the totals, or are not billed (declined attempts).
Sources: https://platform.claude.com/docs/en/build-with-claude/prompt-caching (three input counts, `cache_creation`),
https://platform.claude.com/docs/en/build-with-claude/streaming (usage in deltas is cumulative),
https://platform.claude.com/docs/en/build-with-claude/thinking (`output_tokens_details.thinking_tokens`),
https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool (`server_tool_use.web_search_requests`),
https://platform.claude.com/docs/en/build-with-claude/fast-mode (`speed`),
https://platform.claude.com/docs/en/build-with-claude/data-residency (`inference_geo`),
https://platform.claude.com/docs/en/build-with-claude/compaction (`iterations` and the totals)
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.dialects.service_tier import named_tier
from llm_gateway.domain.usage import Usage

_SERVICE_TIERS = {"standard": "default"}
_ANYWHERE = ("", "global", "not_available")
"""Words of `inference_geo` that stand for no place."""


def read_usage(counts: Any) -> Usage | None:
    """The counts of a message's `usage`; None where it holds none."""
    if not isinstance(counts, dict):
        return None
    samplings = [counts, *_compactions(counts.get("iterations"))]
    if all(_count(each, name) is None for each in samplings for name in ("input_tokens", "output_tokens")):
        return None
    fresh, cached, created, for_an_hour, written = map(sum, zip(*map(_tokens, samplings), strict=True))
    details = counts.get("output_tokens_details")
    reasoning = _count(details, "thinking_tokens") if isinstance(details, dict) else None
    tools, geo = counts.get("server_tool_use"), counts.get("inference_geo")
    searches = _count(tools, "web_search_requests") if isinstance(tools, dict) else None
    return Usage(
        input_tokens=fresh + cached + created,
        output_tokens=written,
        cached_tokens=cached,
        cache_write_tokens=created - for_an_hour,
        cache_write_1h_tokens=for_an_hour,
        reasoning_tokens=reasoning or 0,
        web_searches=searches or 0,
        service_tier="fast" if counts.get("speed") == "fast" else named_tier(counts.get("service_tier")),
        inference_geo=geo if isinstance(geo, str) and geo not in _ANYWHERE else None,
    )


def merge_counts(before: Mapping[str, Any], later: Any) -> dict[str, Any]:
    """What holds after a `message_delta`: its counts over those before, where it has them."""
    if not isinstance(later, dict):
        return dict(before)
    return {**before, **{name: value for name, value in later.items() if value is not None}}


def openai_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object of a chat completion.

    Source: https://platform.openai.com/docs/api-reference/chat/object, with `cache_write_tokens` as OpenRouter has it
    (https://openrouter.ai/docs/use-cases/usage-accounting).
    """
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def service_tier(counts: Any) -> str | None:
    """The tier that served, in OpenAI's word where it has one: `standard` is `default`.

    Source: https://platform.claude.com/docs/en/api/service-tiers
    """
    tier = counts.get("service_tier") if isinstance(counts, dict) else None
    return _SERVICE_TIERS.get(tier, tier) if isinstance(tier, str) else None


def _compactions(iterations: Any) -> list[dict[str, Any]]:
    listed = iterations if isinstance(iterations, list) else []
    return [each for each in listed if isinstance(each, dict) and each.get("type") == "compaction"]


def _tokens(counts: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """Input: fresh, read from the cache, written to it, of that for an hour; and output."""
    created = _count(counts, "cache_creation_input_tokens") or 0
    lives = counts.get("cache_creation")
    for_an_hour = min(created, _count(lives, "ephemeral_1h_input_tokens") or 0) if isinstance(lives, dict) else 0
    return (
        _count(counts, "input_tokens") or 0,
        _count(counts, "cache_read_input_tokens") or 0,
        created,
        for_an_hour,
        _count(counts, "output_tokens") or 0,
    )


def _count(counts: Mapping[str, Any], name: str) -> int | None:
    value = counts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
