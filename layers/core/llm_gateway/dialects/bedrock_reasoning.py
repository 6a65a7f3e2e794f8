"""`reasoning_effort` in the words of a model on Bedrock.

Claude is asked as on its own API (`anthropic_reasoning`), in `additionalModelRequestFields`. Nova 2 has an effort, and
takes no `maxTokens`, `temperature` or `topP` at the highest. A caller who says it natively (`thinking`,
`reasoningConfig`) is left alone.
Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html,
https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.dialects.anthropic_reasoning import Reasoning
from llm_gateway.dialects.anthropic_tools import refuse_forcing
from llm_gateway.dialects.anthropic_unbilled import refuse_compaction
from llm_gateway.errors import InvalidRequest

_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_NATIVE = {"thinking", "reasoningConfig", "reasoning_config"}
_CALLERS_NAMES = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p"}


def apply_claude_reasoning(
    fields: Mapping[str, Any],
    facts: Mapping[str, Any],
    body: dict[str, Any],
    extra: dict[str, Any],
    warnings: list[str],
) -> None:
    """Edits `body` and `extra` (the model's own parameters). `facts` are Claude's own. Raises `InvalidRequest`."""
    refuse_compaction(extra)
    choice = body.get("toolConfig", {}).get("toolChoice", {})
    forced = bool({"any", "tool"} & choice.keys())
    if forced:
        refuse_forcing(facts)
    inference = body.get("inferenceConfig", {})
    message: dict[str, Any] = {"max_tokens": inference.get("maxTokens", facts["max_output_tokens"])}
    own = extra.get("output_config")
    if own is not None and not isinstance(own, dict):
        raise InvalidRequest("`output_config` must be an object.", param="output_config")
    if own:
        message["output_config"] = dict(own)
    reasoning = Reasoning({**fields, "thinking": extra.get("thinking")}, facts, forced=forced, warnings=warnings)
    reasoning.apply(message, unsigned_tool_use=_calls_without_thoughts(body["messages"]))
    extra |= {name: message[name] for name in ("thinking", "output_config") if name in message}
    if fields.get("top_k") is not None:
        extra.pop("top_k")
    sampled = {"temperature": message.get("temperature"), "topP": message.get("top_p")}
    thinking = message.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        sampled["maxTokens"] = message["max_tokens"]  # which a budget must be below
    if "top_k" in message:
        extra["top_k"] = message["top_k"]
    inference = {name: value for name, value in inference.items() if name not in ("temperature", "topP")}
    inference |= {name: value for name, value in sampled.items() if value is not None}
    body.pop("inferenceConfig", None)
    if inference:
        body["inferenceConfig"] = inference


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
    elif style == "nova":
        level = _nearest(effort, facts["efforts"])
        extra["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
        if level == facts["efforts"][-1]:
            _without(body, ("maxTokens", "temperature", "topP"), warnings)
    else:
        extra["reasoning_effort"] = _nearest(effort, facts["efforts"])


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


def _without(body: dict[str, Any], names: tuple[str, ...], warnings: list[str]) -> None:
    inference = body.get("inferenceConfig", {})
    dropped = [_CALLERS_NAMES[name] for name in names if inference.pop(name, None) is not None]
    warnings += [f"{name} was dropped: the model takes none while it reasons at this effort" for name in dropped]
    if not inference:
        body.pop("inferenceConfig", None)


def _nearest(effort: str, levels: list[str]) -> str:
    """The level itself, the next lower one there is, or the lowest."""
    if effort in levels:
        return effort
    lower = [level for level in levels if _LEVELS.index(level) < _LEVELS.index(effort)]
    return lower[-1] if lower else levels[0]
