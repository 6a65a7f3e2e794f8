"""`reasoning_effort` in the words of a model on Bedrock.

Claude thinks by a budget of tokens or, in newer models, adaptively by an effort; thinking excludes `temperature`,
`topP` below 0.95 and a forced tool. Nova 2 has an effort, and takes no `maxTokens`, `temperature`
or `topP` at the highest. A caller who says it natively (`thinking`, `reasoningConfig`) is left alone.
Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html,
https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.errors import InvalidRequest

_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
_SMALLEST_BUDGET = 1024
_SMALLEST_TOP_P = 0.95
_NATIVE = {"thinking", "reasoningConfig", "reasoning_config"}


def apply_reasoning(
    fields: Mapping[str, Any],
    facts: Mapping[str, Any],
    body: dict[str, Any],
    extra: dict[str, Any],
    warnings: list[str],
) -> None:
    """Edits `body` and `extra` (the model's own parameters). Raises `InvalidRequest` for a level nobody knows."""
    effort = fields.get("reasoning_effort")
    if effort is None:
        return
    if effort not in _LEVELS:
        raise InvalidRequest(f"`reasoning_effort` must be one of: {', '.join(_LEVELS)}.", param="reasoning_effort")
    style = facts.get("thinking")
    if _NATIVE & extra.keys():
        warnings.append("reasoning_effort was dropped: the request sets the model's own parameter")
    elif style is None:
        if effort != "none":
            warnings.append("reasoning_effort was dropped: this model has none, or has it under another name")
    elif effort == "none":
        if style == "effort":
            warnings.append("reasoning_effort was dropped: this model always reasons")
    elif style == "budget":
        _budget(effort, facts, body, extra, warnings)
    elif style == "adaptive":
        extra["thinking"] = {"type": "adaptive"}
        extra["output_config"] = {**extra.get("output_config", {}), "effort": _nearest(effort, facts["efforts"])}
        _without_sampling(body, warnings)
    elif style == "nova":
        level = _nearest(effort, facts["efforts"])
        extra["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
        if level == facts["efforts"][-1]:
            _without(body, ("maxTokens", "temperature", "topP"), warnings)
    else:
        extra["reasoning_effort"] = _nearest(effort, facts["efforts"])


def _budget(
    effort: str, facts: Mapping[str, Any], body: dict[str, Any], extra: dict[str, Any], warnings: list[str]
) -> None:
    if _calls_without_thoughts(body["messages"]):
        warnings.append("reasoning_effort was dropped: the last tool calls came back without their reasoning_details")
        return
    longest = body.get("inferenceConfig", {}).get("maxTokens") or facts["max_output"]
    if longest <= _SMALLEST_BUDGET:
        warnings.append("reasoning_effort was dropped: thinking takes at least 1024 tokens of max_tokens")
        return
    body.setdefault("inferenceConfig", {})["maxTokens"] = longest
    budget = max(_SMALLEST_BUDGET, min(_BUDGETS[effort], longest // 2))  # as much again is left for the answer
    extra["thinking"] = {"type": "enabled", "budget_tokens": budget}
    _without_sampling(body, warnings)


def _calls_without_thoughts(messages: list[dict[str, Any]]) -> bool:
    """Whether the turn in progress has tool calls without the thinking before them: Claude refuses to think on then."""
    for message in reversed(messages):
        if message["role"] == "assistant":
            return any("toolUse" in block for block in message["content"]) and not any(
                "reasoningContent" in block for block in message["content"]
            )
        if not any("toolResult" in block for block in message["content"]):
            return False
    return False


def _without_sampling(body: dict[str, Any], warnings: list[str]) -> None:
    inference = body.get("inferenceConfig", {})
    if inference.get("temperature") != 1:
        _without(body, ("temperature",), warnings)
    if inference.get("topP", 1) < _SMALLEST_TOP_P:
        _without(body, ("topP",), warnings)
    choice = body.get("toolConfig", {}).get("toolChoice")
    if choice and "auto" not in choice:
        raise InvalidRequest(
            "A model that thinks cannot be made to call a tool: leave out `reasoning_effort`, or let it choose.",
            param="tool_choice",
        )


def _without(body: dict[str, Any], names: tuple[str, ...], warnings: list[str]) -> None:
    inference = body.get("inferenceConfig", {})
    dropped = [name for name in names if inference.pop(name, None) is not None]
    warnings += [f"{name} was dropped: the model takes none while it reasons at this effort" for name in dropped]
    if not inference:
        body.pop("inferenceConfig", None)


def _nearest(effort: str, levels: list[str]) -> str:
    """The level itself, the next lower one there is, or the lowest."""
    if effort in levels:
        return effort
    lower = [level for level in levels if _LEVELS.index(level) < _LEVELS.index(effort)]
    return lower[-1] if lower else levels[0]
