"""Converse's `usage` as ours, and as OpenAI's `usage` object.

`inputTokens` leaves out what was read from and written to the prompt cache; `cacheDetails` splits the writes by life.
Reasoning is part of `outputTokens` and not told apart.
Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ServiceTier.html
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.dialects.service_tier import named_tier
from llm_gateway.domain.usage import Usage


def read_converse_usage(usage: Any, service_tier: Any = None) -> Usage | None:
    """None where the provider counted nothing. `service_tier` is the `serviceTier` that stands beside it."""
    if not isinstance(usage, dict) or not {"inputTokens", "outputTokens"} & usage.keys():
        return None
    read, written = _count(usage, "cacheReadInputTokens"), _count(usage, "cacheWriteInputTokens")
    details = usage.get("cacheDetails")
    hour = sum(
        _count(detail, "inputTokens")
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and detail.get("ttl") == "1h"
    )
    return Usage(
        input_tokens=_count(usage, "inputTokens") + read + written,
        output_tokens=_count(usage, "outputTokens"),
        cached_tokens=read,
        cache_write_tokens=max(0, written - hour),
        cache_write_1h_tokens=min(hour, written),
        service_tier=named_tier(service_tier.get("type")) if isinstance(service_tier, dict) else None,
    )


def openai_usage(usage: Usage) -> dict[str, Any]:
    """`cache_write_tokens` counts every write, whatever its life."""
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


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
