"""A Chat Completions request as a Converse body.

What becomes of a parameter:
  translated   max_tokens, max_completion_tokens, temperature, top_p, stop, tools, tool_choice, response_format
               (json_schema; json_object in words), reasoning_effort, service_tier
  forwarded    Converse's own members, under their own names or with underscores: guardrail_config, …
  refused      what would change the answer and cannot be had: n > 1, logit_bias, logprobs, audio, web_search_options
  dropped      OpenAI's other parameters, with a warning (`unsent`)
  any other    `additionalModelRequestFields`: Converse's place for a model's own parameters (top_k, thinking, …);
               the model refuses those it does not have
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.bedrock_messages import Conversation, read_conversation
from llm_gateway.dialects.bedrock_reasoning import apply_claude_reasoning, apply_reasoning
from llm_gateway.dialects.parameters import (
    JSON_IN_WORDS,
    output_limit,
    refuse_forced_without_tools,
    schema_of,
    stop_sequences,
    wants_json,
)
from llm_gateway.dialects.unfit_requests import refuse_unfit
from llm_gateway.dialects.unsent import OPENAIS_OWN, Reach, unsent
from llm_gateway.errors import InvalidRequest

_CONVERSE_MEMBERS = {
    "guardrail_config": "guardrailConfig",
    "performance_config": "performanceConfig",
    "request_metadata": "requestMetadata",
    "prompt_variables": "promptVariables",
    "additional_model_response_field_paths": "additionalModelResponseFieldPaths",
}
_NATIVE = frozenset(_CONVERSE_MEMBERS.values())
_REACH = Reach(
    "Bedrock's Converse",
    members=frozenset(
        {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p"}
        | {"stop", "tools", "tool_choice", "response_format", "reasoning_effort", "service_tier"}
    ),
    refused={
        "n": "Bedrock gives one choice: `n` must be 1.",
        "logprobs": "Bedrock's Converse does not support log probabilities.",
        "top_logprobs": "Bedrock's Converse does not support log probabilities.",
        "logit_bias": "Bedrock's Converse does not support `logit_bias`.",
        "modalities": "Bedrock's Converse answers in text only.",
        "audio": "Bedrock's Converse does not support audio output.",
        "web_search_options": "Bedrock's Converse does not support web search.",
        "functions": "Bedrock's Converse does not support `functions`: use `tools`.",
        "function_call": "Bedrock's Converse does not support `function_call`: use `tool_choice`.",
    },
    passes_unknown=True,
)
_TIERS = {"default": "default", "flex": "flex", "priority": "priority", "reserved": "reserved"}


def encode_converse(fields: Mapping[str, Any], model: str) -> tuple[bytes, tuple[str, ...]]:
    """The body, and what could not be told. Raises `InvalidRequest`."""
    facts = capability("bedrock", model)
    refuse_unfit(fields, facts, model)
    warnings = unsent(fields, _REACH)
    claude = "anthropic.claude" in model.lower()
    conversation = read_conversation(fields["messages"], caches=facts.get("prompt_cache", False), claude=claude)
    body: dict[str, Any] = {"messages": conversation.messages}
    if wants_json(fields.get("response_format")):
        conversation.system.append({"text": JSON_IN_WORDS})
        warnings.append("response_format json_object was asked for in words: Bedrock has no such mode")
    if conversation.system:
        body["system"] = conversation.system
    if inference := _inference_config(fields, warnings):
        body["inferenceConfig"] = inference
    if tools := _tool_config(fields, conversation, warnings):
        body["toolConfig"] = tools
    if output := _output_config(fields.get("response_format")):
        body["outputConfig"] = output
    if tier := _service_tier(fields, warnings):
        body["serviceTier"] = tier
    extra = _extra(fields, body)
    if claude:
        apply_claude_reasoning(fields, capability("anthropic", model.lower()), body, extra, warnings)
    else:
        apply_reasoning(fields, facts, body, extra, warnings)
    if extra:
        body["additionalModelRequestFields"] = extra
    warnings += conversation.warnings
    if conversation.uncached:
        warnings.append("cache_control was dropped: this model takes no cache points")
    if conversation.foreign_reasoning:
        warnings.append("reasoning_details of another provider were dropped")
    return orjson.dumps(body), tuple(warnings)


def _inference_config(fields: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    config = {
        "maxTokens": output_limit(fields, warnings),
        "temperature": fields.get("temperature"),
        "topP": fields.get("top_p"),
        "stopSequences": stop_sequences(fields.get("stop")) or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _tool_config(fields: Mapping[str, Any], conversation: Conversation, warnings: list[str]) -> dict[str, Any] | None:
    """Tools and choice. Without tools, but with calls in the history, those that were called, since Converse insists.

    There is no choice "none": the tools are left out then. A history with calls needs them, and the model may call one.
    """
    given = fields.get("tools") or []
    choice = fields.get("tool_choice")
    refuse_forced_without_tools(choice, given)
    if choice == "none" and conversation.tool_blocks and given:
        warnings.append("tool_choice was dropped: Bedrock has no `none`, and wants the tools of a history with calls")
    elif choice == "none":
        given = []
    tools: list[dict[str, Any]] = []
    for at, tool in enumerate(given):
        tools.append(_tool(tool, f"tools[{at}]"))
        tools += conversation.cache_points(tool) or conversation.cache_points(tool["function"])
    if not tools and conversation.tool_blocks:
        names = conversation.tool_names or ["unknown_tool"]
        return {"tools": [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in names]}
    if not tools:
        return None
    chosen = _tool_choice(choice)
    return {"tools": tools, **({"toolChoice": chosen} if chosen else {})}


def _tool(tool: Any, param: str) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise InvalidRequest("Bedrock takes tools of the type `function` only.", param=param)
    spec: dict[str, Any] = {"name": function.get("name")}
    if function.get("description"):
        spec["description"] = function["description"]
    spec["inputSchema"] = {"json": function.get("parameters") or {"type": "object", "properties": {}}}
    if function.get("strict") is True:
        spec["strict"] = True
    return {"toolSpec": spec}


def _tool_choice(choice: Any) -> dict[str, Any] | None:
    if choice in (None, "none"):
        return None
    if choice == "auto":
        return {"auto": {}}
    if choice == "required":
        return {"any": {}}
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return {"tool": {"name": function["name"]}}
    raise InvalidRequest("`tool_choice` must be auto, required, none or one function.", param="tool_choice")


def _output_config(response_format: Any) -> dict[str, Any] | None:
    """Converse wants the schema as JSON text.

    Source: https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html
    """
    given = schema_of(response_format)
    if given is None:
        return None
    schema: dict[str, Any] = {"schema": orjson.dumps(given["schema"]).decode()}
    schema |= {name: given[name] for name in ("name", "description") if given.get(name)}
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}


def _service_tier(fields: Mapping[str, Any], warnings: list[str]) -> dict[str, Any] | None:
    native = fields.get("serviceTier")
    if isinstance(native, dict):
        return native
    tier = fields.get("service_tier")
    if tier in (None, "auto"):
        return None
    if not isinstance(tier, str) or tier not in _TIERS:
        warnings.append(f"service_tier was dropped: Bedrock knows {', '.join(_TIERS)}")
        return None
    return {"type": tier}


def _extra(fields: Mapping[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Puts Converse's own members into `body`; what OpenAI does not have either is the model's business."""
    extra: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None or name in OPENAIS_OWN or name == "serviceTier":
            continue
        if name in ("additionalModelRequestFields", "additional_model_request_fields"):
            if not isinstance(value, dict):
                raise InvalidRequest(f"`{name}` must be an object.", param=name)
            extra |= value
        elif name in _NATIVE or name in _CONVERSE_MEMBERS:
            body[_CONVERSE_MEMBERS.get(name, name)] = value
        else:
            extra[name] = value
    return extra
