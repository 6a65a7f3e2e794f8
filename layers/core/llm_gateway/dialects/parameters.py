"""Parameters of a chat that every dialect with a wire of its own reads alike.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_gateway.errors import InvalidRequest

JSON_IN_WORDS = "Answer with one JSON object and nothing else: no prose, no Markdown fence."
"""What `response_format` json_object becomes where a wire has no mode for just any JSON."""


def output_limit(fields: Mapping[str, Any], warnings: list[str]) -> int | None:
    """The most tokens that may be written. `max_completion_tokens`, the newer name, wins over `max_tokens`."""
    new, old = fields.get("max_completion_tokens"), fields.get("max_tokens")
    if new is None:
        return old
    if old not in (None, new):
        warnings.append("max_tokens was dropped: max_completion_tokens says otherwise")
    return int(new)


def stop_sequences(given: Any) -> list[str]:
    """`stop` as a list, empty where nothing stops, as an empty text does not. Raises `InvalidRequest` for no text."""
    listed = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise InvalidRequest("`stop` must be a string or an array of strings.", param="stop")
    return [each for each in listed if each]


def schema_of(wanted: Any) -> dict[str, Any] | None:
    """`response_format.json_schema`, which has a `schema`; None for plain text and `json_object` (`wants_json`).

    Raises `InvalidRequest` for a format that is none, and for a schema that is not there.
    """
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if wanted is None or kind in ("text", "json_object"):
        return None
    given = wanted.get("json_schema") if kind == "json_schema" else None
    if not isinstance(given, dict) or not isinstance(given.get("schema"), dict):
        message = "`response_format` must be text, json_object, or json_schema with a schema."
        raise InvalidRequest(message, param="response_format")
    return given


def wants_json(wanted: Any) -> bool:
    """Whether `response_format` asks for any JSON object."""
    return isinstance(wanted, dict) and wanted.get("type") == "json_object"


def allowed_tools(choice: Mapping[str, Any], tools: Any) -> tuple[Any, list[str]]:
    """Mode and names of a choice of `allowed_tools`. Raises `InvalidRequest`, also for a name that no tool has."""
    allowed = choice.get("allowed_tools")
    listed = allowed.get("tools") if isinstance(allowed, dict) else None
    if not isinstance(allowed, dict) or not isinstance(listed, list):
        raise InvalidRequest("`tool_choice.allowed_tools.tools` must be an array.", param="tool_choice")
    mode = allowed.get("mode")
    if mode not in ("auto", "required"):
        raise InvalidRequest("`tool_choice.allowed_tools.mode` must be auto or required.", param="tool_choice")
    names = [_function_name(each) for each in listed]
    known = {_function_name(tool) for tool in tools or ()}
    unknown = next((name for name in names if name is None or name not in known), "")
    if unknown != "":
        raise InvalidRequest("`tool_choice.allowed_tools` must name functions of `tools`.", param="tool_choice")
    return mode, [name for name in names if name is not None]


def _function_name(tool: Any) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def refuse_forced_without_tools(choice: Any, tools: Sequence[Any]) -> None:
    """Raises `InvalidRequest` where a tool has to be called and there is none."""
    if not tools and choice not in (None, "auto", "none"):
        raise InvalidRequest("`tool_choice` needs `tools`.", param="tool_choice")


def unknown_part(vendor: str, part: Any, param: str) -> InvalidRequest:
    """For a content part that cannot be taken: its type, or that it has none."""
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        return InvalidRequest(f"`{param}.type` must say what the part is: text, image_url, …", param=f"{param}.type")
    return InvalidRequest(f"{vendor} takes no content of the type `{kind[:64]}`.", param=f"{param}.type")
