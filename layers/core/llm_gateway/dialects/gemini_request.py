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
from llm_gateway.dialects.unfit_requests import refuse_unfit
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
_TRANSLATED = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "logprobs"}
    | {"top_logprobs", "tools", "tool_choice", "response_format", "reasoning_effort", "reasoning", "service_tier"}
    | {"modalities", "google", "extra_body", "generationConfig", "functions", "function_call", "web_search_options"}
    | {"audio", *_GENERATION, *_NATIVE}
)
_OPENAIS_OWN = frozenset({"user", "metadata", "store", "safety_identifier", "prompt_cache_key"})
"""Of no consequence to the answer, and so left out without a word."""
_TIERS = {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority"}


def encode_chat(request: ModelRequest, model: str, *, vertex: bool) -> tuple[bytes, list[str]]:
    """The body, and what of the request could not be said. Raises `InvalidRequest`."""
    fields, facts = request.fields, capability("gemini", model)
    _refuse(fields)
    refuse_unfit(fields, facts, model)
    warnings: list[str] = []
    rules = MediaRules(external_urls=facts.get("external_urls", True), needs_type=vertex)
    messages = encode_messages(fields["messages"], rules, strict_signatures=facts.get("strict_signatures", False))
    body: dict[str, Any] = {"contents": messages.contents}
    if messages.system:
        body["systemInstruction"] = {"parts": messages.system}
    json_schema = facts.get("json_schema", True)
    if tools := _tools(fields.get("tools"), json_schema=json_schema):
        body["tools"] = tools
    if choice := _tool_choice(fields.get("tool_choice")):
        body["toolConfig"] = {"functionCallingConfig": choice}
    if config := _generation_config(fields, facts, warnings, json_schema=json_schema):
        body["generationConfig"] = config
    tier = fields.get("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        body["serviceTier"] = _TIERS[tier]
    google = _google(fields)
    for name, native in _NATIVE.items():
        value = fields.get(name)
        value = google.get(name) if value is None else value
        if value is not None:
            body[native] = value
    if b'"cache_control"' in request.body:
        warnings.append("cache_control is not sent: Gemini caches by itself, or by `cached_content`")
    if fields.get("parallel_tool_calls") is False:
        warnings.append("parallel_tool_calls is not sent: Gemini cannot be kept from calling several tools at once")
    unknown = fields.keys() - _TRANSLATED - _OPENAIS_OWN - {"parallel_tool_calls"}
    warnings += [f"{name} is not sent: Gemini has none" for name in sorted(unknown) if fields[name] is not None]
    return orjson.dumps(body), warnings


def _refuse(fields: Mapping[str, Any]) -> None:
    """What would silently give another answer than the one that was asked for."""
    for name, instead in (
        ("functions", "use `tools`"),
        ("function_call", "use `tool_choice`"),
        ("web_search_options", 'give the tool `{"googleSearch": {}}`'),
        ("audio", "its chat models answer with text"),
    ):
        if fields.get(name) is not None:
            raise InvalidRequest(f"Gemini has no `{name}`: {instead}.", param=name)
    modalities = fields.get("modalities")
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
    limit = fields.get("max_completion_tokens")
    limit = fields.get("max_tokens") if limit is None else limit
    if limit is not None:
        config["maxOutputTokens"] = limit
    stop = fields.get("stop")
    if stop:
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
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
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind in (None, "text"):
        return {}
    if kind not in ("json_object", "json_schema"):
        raise InvalidRequest(f"Gemini has no response format `{kind}`.", param="response_format.type")
    given = wanted.get("json_schema") if kind == "json_schema" else None
    if given is not None and not isinstance(given, dict):
        raise InvalidRequest("`json_schema` must be an object.", param="response_format.json_schema")
    schema = given.get("schema") if given else None
    if schema is None:
        return {"responseMimeType": "application/json"}
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


def _tool_choice(choice: Any) -> dict[str, Any] | None:
    match choice:
        case None:
            return None
        case "auto" | "none":
            return {"mode": choice.upper()}
        case "required":
            return {"mode": "ANY"}
        case {"type": "function", "function": {"name": str(name)}}:
            return {"mode": "ANY", "allowedFunctionNames": [name]}
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}:
            names = [tool["function"]["name"] for tool in tools if isinstance(tool, dict) and "function" in tool]
            # AUTO takes no list of names; VALIDATED is free to answer with text too.
            return {"mode": "ANY" if mode == "required" else "VALIDATED", "allowedFunctionNames": names}
    raise InvalidRequest(f"Gemini has no tool choice `{orjson.dumps(choice).decode()}`.", param="tool_choice")
