"""Tools and tool choice, as Claude takes them.

Functions become tools with an `input_schema`; Anthropic's own tools (web search, code execution, …) pass as they are.
Sources: https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools (tool_choice: auto, any, tool, none;
disable_parallel_tool_use; forced tools exclude thinking), https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.dialects.anthropic_parts import with_cache_control
from llm_gateway.dialects.anthropic_unbilled import refuse_advisor
from llm_gateway.dialects.parameters import allowed_tools, refuse_forced_without_tools
from llm_gateway.errors import InvalidRequest

_NO_ARGUMENTS = {"type": "object", "properties": {}}
_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose value maps names of the caller's to schemas: such a name is no keyword, whatever it is."""
_DATA = frozenset({"enum", "const", "default", "examples"})


def encode_tools(
    fields: Mapping[str, Any], facts: Mapping[str, Any], body: dict[str, Any], warnings: list[str]
) -> bool:
    """Sets `tools` and `tool_choice` of `body`. Returns whether a tool has to be called. Raises `InvalidRequest`."""
    tools = [_tool(tool, f"tools[{at}]", facts, warnings) for at, tool in enumerate(fields.get("tools") or ())]
    choice = fields.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        choice, names = allowed_tools(choice, fields.get("tools"))
        tools = [tool for tool in tools if tool.get("name") in names]
    refuse_forced_without_tools(choice, tools)
    if not tools:
        return False
    body["tools"] = tools
    encoded = _choice(choice)
    if fields.get("parallel_tool_calls") is False and encoded["type"] != "none":
        encoded["disable_parallel_tool_use"] = True
    if encoded != {"type": "auto"}:
        body["tool_choice"] = encoded
    forced = encoded["type"] in ("any", "tool")
    if forced:
        refuse_forcing(facts)
    return forced


def refuse_forcing(facts: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` for a model that cannot be made to call a tool."""
    if not facts["forced_tools"]:
        raise InvalidRequest(
            "This model cannot be forced to call a tool: `tool_choice` must be auto or none.", param="tool_choice"
        )


def _tool(tool: Any, place: str, facts: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise InvalidRequest(f"`{place}` must be an object.", param=place)
    function = tool.get("function")
    if tool.get("type") != "function":
        if tool.get("type") != "custom" and isinstance(tool.get("type"), str):
            refuse_advisor(tool, place)
            return dict(tool)
        raise InvalidRequest("Claude has no tools of this type.", param=f"{place}.type")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"`{place}.function` must have a name.", param=f"{place}.function")
    encoded: dict[str, Any] = {"name": function["name"]}
    if function.get("description"):
        encoded["description"] = function["description"]
    encoded["input_schema"] = function.get("parameters") or _NO_ARGUMENTS
    if function.get("strict") is True:
        if facts["json_schema"]:
            encoded["strict"] = True
            encoded["input_schema"] = closed(encoded["input_schema"])
        else:
            warnings.append(f"strict was dropped from {place}: the model cannot be held to a schema")
    return with_cache_control(with_cache_control(encoded, function), tool)


def closed(schema: Any) -> Any:
    """The schema with `additionalProperties: false` on every object that does not say: the API demands it.

    Raises `InvalidRequest` for one that is nested too deeply.
    """
    try:
        return _closed(schema)
    except RecursionError:
        raise InvalidRequest("A JSON schema of the request is nested too deeply.") from None


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copy: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _NAMED_SCHEMAS and isinstance(value, dict):
            copy[name] = {named: _closed(each) for named, each in value.items()}
        else:
            copy[name] = value if name in _DATA else _closed(value)
    if schema.get("type") == "object" or isinstance(schema.get("properties"), dict):
        copy.setdefault("additionalProperties", False)
    return copy


def _choice(choice: Any) -> dict[str, Any]:
    if choice in (None, "auto"):
        return {"type": "auto"}
    if choice == "none":
        return {"type": "none"}
    if choice == "required":
        return {"type": "any"}
    if isinstance(choice, dict) and choice.get("type") == "function":
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            return {"type": "tool", "name": name}
    raise InvalidRequest("`tool_choice` must be none, auto, required, or name a function.", param="tool_choice")
