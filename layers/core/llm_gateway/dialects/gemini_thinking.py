"""How hard a Gemini model is to think: `reasoning_effort` as a level or a budget, which exclude each other.

The efforts' budgets are those that Google's own OpenAI endpoint gives them. Thoughts come back only if asked for, and
they are, unless the caller says `reasoning.exclude`. `maxOutputTokens` counts thoughts and answer together, so a budget
takes at most four fifths of it.
Sources: https://ai.google.dev/gemini-api/docs/openai#thinking, https://ai.google.dev/gemini-api/docs/generate-content/thinking,
https://openrouter.ai/docs/use-cases/reasoning-tokens (`reasoning`)
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.errors import InvalidRequest

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768}
_MOST_OF_LIMIT = 80
"""Percent."""
_NATIVE = {
    "thinking_budget": "thinkingBudget",
    "thinkingBudget": "thinkingBudget",
    "thinking_level": "thinkingLevel",
    "thinkingLevel": "thinkingLevel",
    "include_thoughts": "includeThoughts",
    "includeThoughts": "includeThoughts",
}


def thinking_config(
    fields: Mapping[str, Any],
    google: Mapping[str, Any],
    facts: Mapping[str, Any],
    limit: int | None,
    warnings: list[str],
) -> dict[str, Any]:
    """`thinkingConfig`, or nothing. `limit` is what the caller allows the whole answer, in tokens."""
    own = google.get("thinking_config") or google.get("thinkingConfig")
    if isinstance(own, Mapping):
        return {_NATIVE[name]: value for name, value in own.items() if name in _NATIVE and value is not None}
    effort, budget, shown = _wanted(fields)
    if effort is None and budget is None:
        return {"includeThoughts": True} if shown and facts.get("thinking") != "none" else {}
    if facts.get("thinking") == "none":
        if effort != "none":
            warnings.append("reasoning_effort was dropped: this model does not think")
        return {}
    if facts.get("thinking") == "budget":
        tokens = _budget(effort, budget, facts, limit, warnings)
        return {"thinkingBudget": tokens, **({"includeThoughts": shown} if tokens else {})}
    if effort is None:
        warnings.append("reasoning.max_tokens was told as a level: this model takes a level of thinking")
        effort = _effort_of(budget or 0)
    level = _level(effort, facts.get("levels") or ("low", "medium", "high"), warnings)
    return {"thinkingLevel": level.upper(), "includeThoughts": shown and effort != "none"}


def _wanted(fields: Mapping[str, Any]) -> tuple[str | None, int | None, bool]:
    """Effort, budget, and whether thoughts are to be seen: OpenAI's `reasoning_effort`, OpenRouter's `reasoning`."""
    reasoning = fields.get("reasoning")
    reasoning = reasoning if isinstance(reasoning, Mapping) else {}
    effort = fields.get("reasoning_effort") or reasoning.get("effort")
    budget = reasoning.get("max_tokens")
    if reasoning.get("enabled") is False:
        effort = "none"
    if effort is not None and effort not in _EFFORTS:
        raise InvalidRequest(f"`reasoning_effort` must be one of {', '.join(_EFFORTS)}.", param="reasoning_effort")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or budget < 0):
        raise InvalidRequest("`reasoning.max_tokens` must be a non-negative integer.", param="reasoning.max_tokens")
    asked = bool(reasoning) or effort is not None
    return effort, budget, asked and not reasoning.get("exclude")


def _budget(
    effort: str | None, given: int | None, facts: Mapping[str, Any], limit: int | None, warnings: list[str]
) -> int:
    """Within what the model takes and, if it goes that low, with room left for an answer in the caller's limit."""
    least: int = facts["budget_min"]
    wanted = given if given is not None else _BUDGETS.get(effort or "", 0)
    if wanted == 0 and facts["thinking_off"]:
        return 0
    if wanted == 0:
        warnings.append(f"reasoning_effort none: this model cannot stop thinking, and gets its least budget, {least}")
    most: int = facts["budget_max"]
    budget = max(least, min(wanted, most))
    room = budget if limit is None else limit * _MOST_OF_LIMIT // 100
    if room >= least:
        return min(budget, room)
    if facts["thinking_off"]:
        warnings.append(f"reasoning_effort was dropped: within {limit} max_tokens thinking would leave no answer")
        return 0
    warnings.append(f"this model cannot stop thinking: its least budget, {least}, may leave no answer in max_tokens")
    return least


def _effort_of(budget: int) -> str:
    return "low" if budget <= 1024 else "medium" if budget <= 8192 else "high"


def _level(effort: str, levels: tuple[str, ...] | list[str], warnings: list[str]) -> str:
    """The level of that name, or the next higher one; above all, and for none, the nearest there is."""
    if effort == "none":
        warnings.append(f"reasoning_effort none: this model cannot stop thinking, and gets the level {levels[0]}")
        return levels[0]
    rank = _EFFORTS.index(effort)
    return next((level for level in levels if _EFFORTS.index(level) >= rank), levels[-1])
