"""A chat completion request as the body of a Claude message.

What Claude has goes up in its terms. What it lacks is dropped with a warning where the answer is right without it
(`seed`, penalties, …), and refused where it would not be (`n` above 1, `logit_bias`, log probabilities, audio). Fields
of the Messages API that OpenAI does not have (`thinking`, `output_config`, `context_management`, …) go up as they are;
every other field is dropped with a warning, since the API refuses what it does not know. Compaction and advisors are
refused (`anthropic_unbilled`).
Sources: https://platform.openai.com/docs/api-reference/chat/create, https://platform.claude.com/docs/en/api/messages/create,
https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.dialects.anthropic_history import read_conversation
from llm_gateway.dialects.anthropic_parts import text_block
from llm_gateway.dialects.anthropic_reasoning import Reasoning
from llm_gateway.dialects.anthropic_tools import closed, encode_tools
from llm_gateway.dialects.anthropic_unbilled import refuse_compaction
from llm_gateway.dialects.parameters import JSON_IN_WORDS, output_limit, schema_of, stop_sequences, wants_json
from llm_gateway.dialects.unsent import Reach, unsent
from llm_gateway.errors import InvalidRequest

_PASSED = (
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "mcp_servers",
    "output_config",
    "speed",
    "user_profile_id",
)
_REACH = Reach(
    "Claude",
    members=frozenset(
        {"messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop"}
        | {"stop_sequences", "temperature", "top_p", "top_k", "thinking", "reasoning_effort", "tools", "tool_choice"}
        | {"parallel_tool_calls", "response_format", "user", "safety_identifier", "service_tier", "anthropic_beta"}
        | {*_PASSED}
    ),
    refused={
        "logprobs": "Claude gives no log probabilities: `logprobs` is not supported.",
        "top_logprobs": "Claude gives no log probabilities: `top_logprobs` is not supported.",
        "logit_bias": "Claude takes no `logit_bias`.",
        "n": "Claude gives one answer: `n` must be 1.",
        "modalities": "Claude answers in text only.",
        "audio": "Claude gives no audio.",
        "functions": "`functions` is not supported: use `tools`.",
        "function_call": "`function_call` is not supported: use `tools`.",
        "web_search_options": "`web_search_options` is not supported: give Anthropic's web search as a tool.",
    },
)
_SERVICE_TIERS = {"auto": "auto", "priority": "auto", "default": "standard_only", "standard_only": "standard_only"}


def encode_body(
    fields: Mapping[str, Any], facts: Mapping[str, Any], *, native: bool
) -> tuple[dict[str, Any], list[str]]:
    """The body but for the model and the envelope, and the warnings. `facts` are the model's capabilities.

    `native`: for Anthropic's own API, which alone has service tiers. Raises `InvalidRequest`.
    """
    refuse_compaction(fields)
    told = unsent({**fields, "metadata": _of_openai(fields.get("metadata"))}, _REACH)
    conversation = read_conversation(fields["messages"])
    warnings = list(conversation.warnings)
    body: dict[str, Any] = {"max_tokens": _max_tokens(fields, facts, warnings)}
    for name in _PASSED:
        if fields.get(name) is not None:
            body[name] = fields[name]
    if "output_config" in body:
        if not isinstance(body["output_config"], dict):
            raise InvalidRequest("`output_config` must be an object.", param="output_config")
        body["output_config"] = dict(body["output_config"])
    forced = encode_tools(fields, facts, body, warnings)
    _response_format(fields.get("response_format"), facts, body, conversation.system, warnings)
    reasoning = Reasoning(fields, facts, forced=forced, warnings=warnings)
    reasoning.apply(body, unsigned_tool_use=conversation.ends_in_unsigned_tool_use)
    _stop_sequences(fields, body, warnings)
    _user(fields, body)
    if native:
        _service_tier(fields.get("service_tier"), body, warnings)
    elif fields.get("service_tier") not in (None, "auto", "default"):
        warnings.append("service_tier was dropped: only Anthropic's own API has it")
    if conversation.system:
        body["system"] = conversation.system
    body["messages"] = conversation.turns
    return body, warnings + told


def _of_openai(metadata: Any) -> Any:
    """What `metadata` holds besides Anthropic's own `user_id`, which is told."""
    if not isinstance(metadata, dict):
        return metadata
    return {name: value for name, value in metadata.items() if name != "user_id"}


def _max_tokens(fields: Mapping[str, Any], facts: Mapping[str, Any], warnings: list[str]) -> int:
    given = output_limit(fields, warnings)
    return int(facts["max_output_tokens"]) if given is None else given


def _stop_sequences(fields: Mapping[str, Any], body: dict[str, Any], warnings: list[str]) -> None:
    listed = stop_sequences(fields["stop"] if fields.get("stop") is not None else fields.get("stop_sequences"))
    kept = [each for each in listed if each.strip()]
    if len(kept) < len(listed):
        warnings.append("a stop sequence of white space was dropped: Claude takes none")
    if kept:
        body["stop_sequences"] = kept


def _user(fields: Mapping[str, Any], body: dict[str, Any]) -> None:
    """Who the end user is. Anthropic's `metadata` is that alone, OpenAI's is for its dashboard and goes nowhere."""
    given = fields.get("metadata")
    user = given.get("user_id") if isinstance(given, dict) else None
    user = user or fields.get("safety_identifier") or fields.get("user")
    if isinstance(user, str) and user:
        body["metadata"] = {"user_id": user}


def _service_tier(tier: Any, body: dict[str, Any], warnings: list[str]) -> None:
    known = _SERVICE_TIERS.get(tier) if isinstance(tier, str) else None
    if known is not None:
        body["service_tier"] = known
    elif tier is not None:
        warnings.append("service_tier was dropped: Anthropic has auto and standard_only")


def _response_format(
    wanted: Any, facts: Mapping[str, Any], body: dict[str, Any], system: list[dict[str, Any]], warnings: list[str]
) -> None:
    """A schema is held natively or refused. There is no mode for just any JSON: it is asked for in words."""
    if wants_json(wanted):
        system.append(text_block(JSON_IN_WORDS))
        warnings.append("response_format json_object was asked for in words: Claude has no such mode")
        return
    described = schema_of(wanted)
    if described is None:
        return
    if not facts["json_schema"]:
        raise InvalidRequest("This model cannot be held to a JSON schema.", param="response_format")
    held = {"type": "json_schema", "schema": closed(described["schema"])}
    body.setdefault("output_config", {}).setdefault("format", held)
