"""A Chat Completions request as a Converse body.

What becomes of a parameter:
  translated   max_tokens, max_completion_tokens, temperature, top_p, stop, tools, tool_choice, response_format
               (json_schema), reasoning_effort, service_tier
  forwarded    Converse's own members, under their own names or with underscores: guardrail_config, …
  refused      what would change the answer and cannot be had: n > 1, logprobs, audio, web_search_options, json_object
  dropped      OpenAI's other parameters, with a warning where the caller may miss them
  any other    `additionalModelRequestFields`: Converse's place for a model's own parameters (top_k, thinking, …);
               the model refuses those it does not have
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.bedrock_messages import Conversation, read_conversation
from llm_gateway.dialects.bedrock_reasoning import apply_reasoning
from llm_gateway.dialects.unfit_requests import refuse_unfit
from llm_gateway.errors import InvalidRequest

_CONVERSE_MEMBERS = {
    "guardrail_config": "guardrailConfig",
    "performance_config": "performanceConfig",
    "request_metadata": "requestMetadata",
    "prompt_variables": "promptVariables",
    "additional_model_response_field_paths": "additionalModelResponseFieldPaths",
}
_NATIVE = frozenset(_CONVERSE_MEMBERS.values())
_TRANSLATED = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p"}
    | {"stop", "tools", "tool_choice", "response_format", "reasoning_effort", "service_tier", "serviceTier"}
    | {"additionalModelRequestFields", "additional_model_request_fields"}
)
_REFUSED = {
    "logprobs": "log probabilities",
    "top_logprobs": "log probabilities",
    "audio": "audio output",
    "web_search_options": "web search",
    "functions": "`functions`: use `tools`",
    "function_call": "`function_call`: use `tool_choice`",
}
_DROPPED = frozenset(
    {"frequency_penalty", "presence_penalty", "logit_bias", "seed", "parallel_tool_calls", "prediction", "verbosity"}
    | {"metadata", "store", "prompt_cache_key", "prompt_cache_retention"}
)
_DROPPED_SILENTLY = frozenset({"user", "safety_identifier", "n", "modalities"})
_TIERS = {"default": "default", "flex": "flex", "priority": "priority", "reserved": "reserved"}


def encode_converse(fields: Mapping[str, Any], model: str) -> tuple[bytes, tuple[str, ...]]:
    """The body, and what could not be told. Raises `InvalidRequest`."""
    facts = capability("bedrock", model)
    _refuse(fields)
    refuse_unfit(fields, facts, model)
    warnings: list[str] = []
    conversation = read_conversation(fields["messages"], caches=facts.get("prompt_cache", False))
    body: dict[str, Any] = {"messages": conversation.messages}
    if conversation.system:
        body["system"] = conversation.system
    if inference := _inference_config(fields):
        body["inferenceConfig"] = inference
    if tools := _tool_config(fields, conversation, warnings):
        body["toolConfig"] = tools
    if output := _output_config(fields.get("response_format")):
        body["outputConfig"] = output
    if tier := _service_tier(fields, warnings):
        body["serviceTier"] = tier
    extra = _extra(fields, body, warnings)
    apply_reasoning(fields, facts, body, extra, warnings)
    if extra:
        body["additionalModelRequestFields"] = extra
    if conversation.uncached:
        warnings.append("cache_control was dropped: this model takes no cache points")
    if conversation.foreign_reasoning:
        warnings.append("reasoning_details of another provider were dropped")
    return orjson.dumps(body), tuple(warnings)


def _refuse(fields: Mapping[str, Any]) -> None:
    for name, what in _REFUSED.items():
        if fields.get(name):
            raise InvalidRequest(f"Bedrock's Converse does not support {what}.", param=name)
    if (fields.get("n") or 1) > 1:
        raise InvalidRequest("Bedrock gives one choice: `n` must be 1.", param="n")
    modalities = fields.get("modalities")
    if isinstance(modalities, list) and modalities != ["text"] and modalities:
        raise InvalidRequest("Bedrock's Converse answers in text only.", param="modalities")


def _inference_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    longest = fields.get("max_completion_tokens") or fields.get("max_tokens")
    config = {"maxTokens": longest, "temperature": fields.get("temperature"), "topP": fields.get("top_p")}
    stop = fields.get("stop")
    if isinstance(stop, str):
        stop = [stop]
    config["stopSequences"] = stop or None
    return {name: value for name, value in config.items() if value is not None}


def _tool_config(fields: Mapping[str, Any], conversation: Conversation, warnings: list[str]) -> dict[str, Any] | None:
    """Tools and choice. Without tools, but with calls in the history, those that were called, since Converse insists.

    There is no choice "none": the tools are left out then. A history with calls needs them, and the model may call one.
    """
    given = fields.get("tools") or []
    choice = fields.get("tool_choice")
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
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if response_format is None or kind == "text":
        return None
    given = response_format.get("json_schema") if kind == "json_schema" else None
    if not isinstance(given, dict) or not isinstance(given.get("schema"), dict):
        raise InvalidRequest(
            "Bedrock forces JSON by a schema only: use `response_format` of the type `json_schema`.",
            param="response_format",
        )
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
    if tier not in _TIERS:
        warnings.append(f"service_tier was dropped: Bedrock knows {', '.join(_TIERS)}")
        return None
    return {"type": tier}


def _extra(fields: Mapping[str, Any], body: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    """Puts Converse's own members into `body`; what remains is the model's business."""
    extra: dict[str, Any] = {}
    for name, value in fields.items():
        if name in ("additionalModelRequestFields", "additional_model_request_fields") and isinstance(value, dict):
            extra |= value
        elif value is None or name in _TRANSLATED or name in _REFUSED or name in _DROPPED_SILENTLY:
            continue
        elif name in _NATIVE or name in _CONVERSE_MEMBERS:
            body[_CONVERSE_MEMBERS.get(name, name)] = value
        elif name in _DROPPED:
            asks_for_nothing = value is True if name == "parallel_tool_calls" else value in (0, {}, [])
            if not asks_for_nothing or name == "seed":
                warnings.append(f"{name} was dropped: Bedrock's Converse has no such parameter")
        else:
            extra[name] = value
    return extra
