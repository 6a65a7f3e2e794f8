"""A chat completion request as the body of a Claude message.

What Claude has goes up in its terms. What it lacks is dropped with a warning where the answer is right without it
(`seed`, `logit_bias`, penalties, …), and refused where it would not be (`n` above 1, log probabilities, audio). Fields
of the Messages API that OpenAI does not have (`thinking`, `output_config`, `context_management`, …) go up as they are;
every other field is dropped with a warning, since the API refuses what it does not know.
Sources: https://platform.openai.com/docs/api-reference/chat/create, https://platform.claude.com/docs/en/api/messages/create,
https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.dialects.anthropic_history import read_conversation
from llm_gateway.dialects.anthropic_parts import text_block
from llm_gateway.dialects.anthropic_reasoning import Reasoning
from llm_gateway.dialects.anthropic_tools import closed, encode_tools
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
_READ = frozenset(
    {"messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "stop_sequences"}
    | {"temperature", "top_p", "top_k", "thinking", "reasoning_effort", "tools", "tool_choice", "parallel_tool_calls"}
    | {"response_format", "user", "safety_identifier", "metadata", "service_tier", "n", "logprobs", "top_logprobs"}
    | {"modalities", "audio", "functions", "function_call", "web_search_options", "anthropic_beta"}
    | {"frequency_penalty", "presence_penalty", "store"}
)
_SERVICE_TIERS = {"auto": "auto", "priority": "auto", "default": "standard_only", "standard_only": "standard_only"}
_MOST_TOLD = 10
_JSON_ONLY = "Answer with one JSON object and nothing else: no prose, no Markdown fence."


def encode_body(
    fields: Mapping[str, Any], facts: Mapping[str, Any], *, native: bool
) -> tuple[dict[str, Any], list[str]]:
    """The body but for the model and the envelope, and the warnings. `facts` are the model's capabilities.

    `native`: for Anthropic's own API, which alone has service tiers. Raises `InvalidRequest`.
    """
    _refuse(fields)
    warnings: list[str] = []
    conversation = read_conversation(fields["messages"])
    body: dict[str, Any] = {"max_tokens": _max_tokens(fields, facts)}
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
    _metadata(fields, body)
    if native:
        _service_tier(fields.get("service_tier"), body, warnings)
    elif fields.get("service_tier") not in (None, "auto", "default"):
        warnings.append("service_tier was dropped: only Anthropic's own API has it")
    if conversation.system:
        body["system"] = conversation.system
    body["messages"] = conversation.turns
    warnings += _dropped(fields)
    return body, warnings


def _refuse(fields: Mapping[str, Any]) -> None:
    if (fields.get("n") or 1) > 1:
        raise InvalidRequest("Claude gives one answer: `n` must be 1.", param="n")
    for name in ("logprobs", "top_logprobs"):
        if fields.get(name):
            raise InvalidRequest(f"Claude gives no log probabilities: `{name}` is not supported.", param=name)
    modalities = fields.get("modalities")
    if fields.get("audio") is not None or (isinstance(modalities, list) and "audio" in modalities):
        raise InvalidRequest("Claude gives no audio.", param="modalities")
    for name in ("functions", "function_call"):
        if fields.get(name):
            raise InvalidRequest(f"`{name}` is not supported: use `tools`.", param=name)
    if fields.get("web_search_options") is not None:
        message = "`web_search_options` is not supported: give Anthropic's web search as a tool."
        raise InvalidRequest(message, param="web_search_options")


def _max_tokens(fields: Mapping[str, Any], facts: Mapping[str, Any]) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        given = fields.get(name)
        if given is not None:
            return int(given)
    return int(facts["max_output_tokens"])


def _stop_sequences(fields: Mapping[str, Any], body: dict[str, Any], warnings: list[str]) -> None:
    given = fields.get("stop") if fields.get("stop") is not None else fields.get("stop_sequences")
    listed = [given] if isinstance(given, str) else given or []
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise InvalidRequest("`stop` must be a string or an array of strings.", param="stop")
    kept = [each for each in listed if each.strip()]
    if len(kept) < len(listed):
        warnings.append("a stop sequence of white space was dropped: Claude takes none")
    if kept:
        body["stop_sequences"] = kept


def _metadata(fields: Mapping[str, Any], body: dict[str, Any]) -> None:
    """Who the end user is; OpenAI's own `metadata` is for its dashboard, and goes nowhere."""
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
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if wanted is None or kind == "text":
        return
    if kind == "json_object":
        system.append(text_block(_JSON_ONLY))
        warnings.append("response_format json_object was asked for in words: Claude has no such mode")
        return
    described = wanted.get("json_schema") if isinstance(wanted, dict) else None
    schema = described.get("schema") if isinstance(described, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        message = "`response_format` must be text, json_object, or json_schema with a schema."
        raise InvalidRequest(message, param="response_format")
    if not facts["json_schema"]:
        raise InvalidRequest("This model cannot be held to a JSON schema.", param="response_format")
    held = {"type": "json_schema", "schema": closed(schema)}
    body.setdefault("output_config", {}).setdefault("format", held)


def _dropped(fields: Mapping[str, Any]) -> list[str]:
    """Warnings for what has no counterpart; what says nothing (null, a penalty of 0, false, []) needs none."""
    known = _READ.union(_PASSED)
    names = [name for name, value in fields.items() if name not in known and value not in (None, False, [], {}, "")]
    names += [name for name in ("frequency_penalty", "presence_penalty") if fields.get(name)]
    # The names are the caller's, and go into a header.
    told = [f"{ascii(name)[1:-1][:64]} was dropped: Claude has no such parameter" for name in names[:_MOST_TOLD]]
    return told if len(names) <= _MOST_TOLD else [*told, f"{len(names) - _MOST_TOLD} more were dropped"]
