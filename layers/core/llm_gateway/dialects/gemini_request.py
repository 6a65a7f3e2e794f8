"""A Chat Completions request as Gemini's `GenerateContentRequest`.

The wire refuses names that it does not know. So what Chat Completions and Gemini both have is translated; what Gemini
has under its own name is forwarded (`_NATIVE`, in either spelling, and `extra_body.google` as Google's OpenAI endpoint
takes it); what it lacks is refused where the answer would silently be another, and otherwise left out with a warning.

Sources: https://ai.google.dev/api/generate-content#method:-models.generatecontent (body, GenerationConfig),
https://ai.google.dev/api/caching#Tool, https://ai.google.dev/api/caching#FunctionCallingConfig,
https://ai.google.dev/gemini-api/docs/openai (what its own endpoint makes of the same fields)
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.gemini_contents import encode_messages
from llm_gateway.dialects.gemini_media import MediaRules
from llm_gateway.dialects.gemini_schema import openapi_subset
from llm_gateway.dialects.gemini_thinking import thinking_config
from llm_gateway.dialects.parameters import (
    allowed_tools,
    output_limit,
    refuse_forced_without_tools,
    schema_of,
    stop_sequences,
    wants_json,
)
from llm_gateway.dialects.unfit_requests import refuse_unfit
from llm_gateway.dialects.unsent import MESSAGES, Reach, unsent
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import ModelRequest

_GENERATION = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_NATIVE = {
    "safetySettings": "safetySettings",
    "safety_settings": "safetySettings",
    "cachedContent": "cachedContent",
    "cached_content": "cachedContent",
    "labels": "labels",
}
_REACH = Reach(
    "Gemini",
    members=frozenset(
        {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "logprobs"}
        | {"top_logprobs", "tools", "tool_choice", "response_format", "reasoning_effort", "reasoning", "service_tier"}
        | {"modalities", "google", "extra_body", "generationConfig", "cache_control", *_GENERATION, *_NATIVE}
    ),
    refused={
        "logit_bias": "Gemini takes no `logit_bias`.",
        "functions": "Gemini has no `functions`: use `tools`.",
        "function_call": "Gemini has no `function_call`: use `tool_choice`.",
        "web_search_options": 'Gemini has no `web_search_options`: give the tool `{"googleSearch": {}}`.',
        "audio": "Gemini has no `audio`: its chat models answer with text.",
    },
    functions=frozenset({"name", "description", "parameters", "cache_control"}),
    messages=MESSAGES | {"images"},
)
_TIERS = {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority"}
_VERTEX_TIER = "X-Vertex-AI-LLM-Shared-Request-Type"


def encode_chat(request: ModelRequest, model: str, *, vertex: bool) -> tuple[bytes, dict[str, str], list[str]]:
    """The body, headers, and what of the request could not be said. Raises `InvalidRequest`."""
    fields, facts = request.fields, capability("gemini", model)
    _refuse_modalities(fields.get("modalities"))
    refuse_unfit(fields, facts, model)
    warnings = unsent(fields, _REACH)
    rules = MediaRules(external_urls=facts.get("external_urls", True), needs_type=vertex, in_results=vertex)
    messages = encode_messages(fields["messages"], rules, strict_signatures=facts.get("strict_signatures", False))
    body: dict[str, Any] = {"contents": messages.contents}
    if messages.system:
        body["systemInstruction"] = {"parts": messages.system}
    json_schema = facts.get("json_schema", True)
    if tools := _tools(fields.get("tools"), json_schema=json_schema):
        body["tools"] = tools
    refuse_forced_without_tools(fields.get("tool_choice"), tools)
    if choice := _tool_choice(fields.get("tool_choice"), fields.get("tools")):
        body["toolConfig"] = {"functionCallingConfig": choice}
    if config := _generation_config(fields, facts, warnings, json_schema=json_schema):
        body["generationConfig"] = config
    headers: dict[str, str] = {}
    if tier := _tier(fields.get("service_tier"), warnings):
        _set_tier(tier, body, headers, vertex=vertex)
    google = _google(fields)
    for name, native in _NATIVE.items():
        value = fields.get(name)
        value = google.get(name) if value is None else value
        if value is not None:
            body[native] = value
    if b'"cache_control"' in request.body:
        warnings.append("cache_control was dropped: Gemini caches by itself, or by `cached_content`")
    return orjson.dumps(body), headers, warnings


def _tier(asked: Any, warnings: list[str]) -> str | None:
    if isinstance(asked, str) and asked in _TIERS:
        return _TIERS[asked]
    if asked not in (None, "auto"):
        warnings.append(f"service_tier was dropped: Gemini knows {', '.join(_TIERS)}")
    return None


def _set_tier(tier: str, body: dict[str, Any], headers: dict[str, str], *, vertex: bool) -> None:
    """Vertex is told in a header: `serviceTier` in the body is a 400 there, or serves and bills the standard tier.

    Sources: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/flex-paygo,
    https://docs.cloud.google.com/vertex-ai/generative-ai/docs/priority-paygo,
    https://github.com/googleapis/python-genai/issues/2847
    """
    if not vertex:
        body["serviceTier"] = tier
    elif tier != "standard":
        headers[_VERTEX_TIER] = tier


def _refuse_modalities(modalities: Any) -> None:
    if isinstance(modalities, list) and not set(map(str, modalities)) <= {"text", "image"}:
        raise InvalidRequest("Of the modalities, Gemini answers with `text` and `image` here.", param="modalities")


def _google(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """`extra_body.google` of Google's own OpenAI endpoint; SDKs put `extra_body` itself, or what is in it, here."""
    for holder in (fields, fields.get("extra_body")):
        google = holder.get("google") if isinstance(holder, Mapping) else None
        if isinstance(google, Mapping):
            return google
    return {}


def _generation_config(
    fields: Mapping[str, Any], facts: Mapping[str, Any], warnings: list[str], *, json_schema: bool
) -> dict[str, Any]:
    config = {native: fields[name] for name, native in _GENERATION.items() if fields.get(name) is not None}
    limit = output_limit(fields, warnings)
    if limit is not None:
        config["maxOutputTokens"] = limit
    if stop := stop_sequences(fields.get("stop")):
        config["stopSequences"] = stop
    if fields.get("top_logprobs") and not fields.get("logprobs"):
        raise InvalidRequest("`top_logprobs` needs `logprobs`.", param="top_logprobs")
    if fields.get("logprobs"):
        config["responseLogprobs"] = True
        if fields.get("top_logprobs"):
            config["logprobs"] = fields["top_logprobs"]
    config |= _response_format(fields.get("response_format"), json_schema=json_schema)
    modalities = fields.get("modalities")
    if isinstance(modalities, list) and "image" in modalities:
        config["responseModalities"] = [str(each).upper() for each in modalities]
    thinking = thinking_config(fields, _google(fields), facts, limit, warnings)
    if thinking:
        config["thinkingConfig"] = thinking
    own = fields.get("generationConfig")
    return config | own if isinstance(own, dict) else config


def _response_format(wanted: Any, *, json_schema: bool) -> dict[str, Any]:
    if wants_json(wanted):
        return {"responseMimeType": "application/json"}
    described = schema_of(wanted)
    if described is None:
        return {}
    schema = described["schema"]
    if json_schema:
        return {"responseMimeType": "application/json", "responseJsonSchema": schema}
    return {
        "responseMimeType": "application/json",
        "responseSchema": _subset(schema, "response_format.json_schema.schema"),
    }


def _tools(tools: Any, *, json_schema: bool) -> list[dict[str, Any]]:
    """All functions as one tool; Gemini's own (`{"googleSearch": {}}`, which have no `type`) as they are."""
    declarations, own = [], []
    for at, tool in enumerate(tools or ()):
        param = f"tools[{at}]"
        if isinstance(tool, dict) and "type" not in tool and tool:
            own.append(tool)
            continue
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequest("Gemini takes tools of type `function`, with a name.", param=param)
        declaration = {"name": function["name"]}
        if function.get("description"):
            declaration["description"] = function["description"]
        parameters = function.get("parameters")
        if parameters is not None and not isinstance(parameters, dict):
            raise InvalidRequest("The parameters must be a JSON Schema.", param=f"{param}.function.parameters")
        if parameters and json_schema:
            declaration["parametersJsonSchema"] = parameters
        elif parameters and parameters.get("properties"):
            declaration["parameters"] = _subset(parameters, f"{param}.function.parameters")
        declarations.append(declaration)
    return [*([{"functionDeclarations": declarations}] if declarations else []), *own]


def _subset(schema: Any, param: str) -> dict[str, Any]:
    try:
        return openapi_subset(schema)
    except ValueError as error:
        raise InvalidRequest(f"This model cannot take the schema: {error}.", param=param) from None


def _tool_choice(choice: Any, tools: Any) -> dict[str, Any] | None:
    match choice:
        case None:
            return None
        case "auto" | "none":
            return {"mode": choice.upper()}
        case "required":
            return {"mode": "ANY"}
        case {"type": "function", "function": {"name": str(name)}}:
            return {"mode": "ANY", "allowedFunctionNames": [name]}
        case {"type": "allowed_tools"}:
            mode, names = allowed_tools(choice, tools)
            # AUTO takes no list of names; VALIDATED is free to answer with text too.
            return {"mode": "ANY" if mode == "required" else "VALIDATED", "allowedFunctionNames": names}
    raise InvalidRequest(f"Gemini has no tool choice `{orjson.dumps(choice).decode()}`.", param="tool_choice")
