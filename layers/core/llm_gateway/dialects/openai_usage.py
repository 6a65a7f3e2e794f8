"""OpenAI's `usage` object, with the fields by which compatible vendors spell the same counts.

Reasoning is part of `completion_tokens` at OpenAI. Gemini's endpoint and xAI count it beside them, in `total_tokens`
alone: what the total has more than prompt and completion was generated, and is billed as output.

Sources: https://platform.openai.com/docs/api-reference/chat/object (usage, prompt_tokens_details,
completion_tokens_details), https://api-docs.deepseek.com/api/create-chat-completion (prompt_cache_hit_tokens),
https://openrouter.ai/docs/use-cases/usage-accounting (cache_write_tokens, cost),
https://github.com/perplexityai/perplexity-py (UsageInfo: cost.total_cost)
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from llm_gateway.domain.usage import Usage

_MOST = 1 << 40


def read_usage(usage: Any) -> Usage | None:
    """The counts in an answer's or a chunk's `usage`; None without usage, or without counts that can be true."""
    if not isinstance(usage, dict):
        return None
    if any(_is_nonsense(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")):
        return None
    prompt = _count(usage, "prompt_tokens")
    completion = _count(usage, "completion_tokens")
    if prompt is None and completion is None:
        return None
    reasoning_apart = max(0, (_count(usage, "total_tokens") or 0) - (prompt or 0) - (completion or 0))
    into = usage.get("prompt_tokens_details")
    into = into if isinstance(into, dict) else {}
    out = usage.get("completion_tokens_details")
    out = out if isinstance(out, dict) else {}
    cached = _count(into, "cached_tokens")
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens")
    return Usage(
        input_tokens=prompt or 0,
        output_tokens=(completion or 0) + reasoning_apart,
        cached_tokens=cached or 0,
        cache_write_tokens=_count(into, "cache_write_tokens") or 0,
        reasoning_tokens=_count(out, "reasoning_tokens") or reasoning_apart,
        input_audio_tokens=_count(into, "audio_tokens") or 0,
        output_audio_tokens=_count(out, "audio_tokens") or 0,
        told_cost_usd=_told_cost(usage.get("cost")),
    )


def _told_cost(cost: Any) -> Decimal | None:
    return _money(cost.get("total_cost") if isinstance(cost, dict) else cost)


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
