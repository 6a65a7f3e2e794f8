"""OpenAI's `usage` object, with the fields by which compatible vendors spell the same counts.

Reasoning is part of `completion_tokens` at OpenAI. Gemini's endpoint and xAI count it beside them, in `total_tokens`
alone: what the total has more than prompt and completion was generated, and is billed as output. Perplexity counts
reasoning and citations beside them too, and not in the total either.

Sources: https://platform.openai.com/docs/api-reference/chat/object (usage, prompt_tokens_details,
completion_tokens_details), https://platform.openai.com/docs/api-reference/images/object (input_tokens, output_tokens),
https://api-docs.deepseek.com/api/create-chat-completion (prompt_cache_hit_tokens),
https://openrouter.ai/docs/use-cases/usage-accounting (cache_write_tokens, cost),
https://docs.x.ai/developers/cost-tracking (cost_in_usd_ticks),
https://docs.perplexity.ai/getting-started/pricing (citation tokens, search queries, request fee),
https://github.com/perplexityai/perplexity-py (UsageInfo: cost.total_cost)
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from llm_gateway.dialects.service_tier import named_tier
from llm_gateway.domain.usage import Usage

_MOST = 1 << 40
_CHAT = ("prompt_tokens", "completion_tokens")
_IMAGES = ("input_tokens", "output_tokens")
_NONE: Mapping[str, Any] = {}
_TICK_DIGITS = 10
"""xAI tells its cost in ticks of 10^-10 US dollars."""


def read_usage(usage: Any, service_tier: Any = None) -> Usage | None:
    """The counts in an answer's or a chunk's `usage`; None without usage, or without counts that can be true.

    `service_tier` is what stands beside `usage` in the answer.
    """
    if not isinstance(usage, dict):
        return None
    names = _IMAGES if "input_tokens" in usage and "prompt_tokens" not in usage else _CHAT
    if any(_is_nonsense(usage.get(name)) for name in names):
        return None
    prompt, completion = _count(usage, names[0]), _count(usage, names[1])
    if prompt is None and completion is None:
        return None
    into, out = _table(usage, f"{names[0]}_details"), _table(usage, f"{names[1]}_details")
    cached = _count(into, "cached_tokens")
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens")
    of_cached = _table(into, "cached_tokens_details")
    reasoning, citations, apart = _beside_completion(usage, prompt or 0, completion or 0)
    return Usage(
        input_tokens=prompt or 0,
        output_tokens=(completion or 0) + apart,
        cached_tokens=cached or 0,
        cache_write_tokens=_count(into, "cache_write_tokens") or 0,
        reasoning_tokens=_count(out, "reasoning_tokens") or reasoning,
        input_audio_tokens=_count(into, "audio_tokens") or 0,
        cached_audio_tokens=_count(of_cached, "audio_tokens") or 0,
        output_audio_tokens=_count(out, "audio_tokens") or 0,
        input_image_tokens=_count(into, "image_tokens") or 0,
        cached_image_tokens=_count(of_cached, "image_tokens") or 0,
        output_image_tokens=_count(out, "image_tokens") or 0,
        citation_tokens=citations,
        web_searches=_searches(usage),
        told_cost_usd=_told_cost(usage),
        told_request_fee_usd=_money(_table(usage, "cost").get("request_cost")),
        service_tier=named_tier(service_tier),
    )


def _beside_completion(usage: Mapping[str, Any], prompt: int, completion: int) -> tuple[int, int, int]:
    """Reasoning, citations, and how many tokens of output are not among the completion's."""
    apart = max(0, (_count(usage, "total_tokens") or 0) - prompt - completion)
    if "citation_tokens" not in usage and "num_search_queries" not in usage:
        return apart, 0, apart
    reasoning, citations = _count(usage, "reasoning_tokens") or 0, _count(usage, "citation_tokens") or 0
    return reasoning, citations, max(apart, reasoning + citations)


def _searches(usage: Mapping[str, Any]) -> int:
    """Perplexity's, or those of OpenRouter's server tools."""
    counted = _count(usage, "num_search_queries")
    if counted is None and "server_tool_use" in usage:
        counted = _count(_table(usage, "server_tool_use"), "web_search_requests")
    return counted or 0


def _told_cost(usage: Mapping[str, Any]) -> Decimal | None:
    ticks = _count(usage, "cost_in_usd_ticks")
    if ticks is not None:
        return Decimal(ticks).scaleb(-_TICK_DIGITS)
    cost = usage.get("cost")
    return _money(cost.get("total_cost") if isinstance(cost, dict) else cost)


def _table(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else _NONE


def _money(value: Any) -> Decimal | None:
    """An amount in JSON. A float's shortest text is what was written, unless somebody wrote more than 17 digits."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
        return None
    return Decimal(repr(value))


def _is_nonsense(value: Any) -> bool:
    """No count a provider can mean: better an estimate that says so than an exact cost of it."""
    return value is not None and (type(value) is not int or not 0 <= value < _MOST)


def _count(counts: Mapping[str, Any], name: str) -> int | None:
    value = counts.get(name)
    return None if value is None or _is_nonsense(value) else value
