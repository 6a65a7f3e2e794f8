"""JSON Schema as the subset of OpenAPI 3.0 that older Gemini models take (`parameters`, `responseSchema`).

References are put in their place, `anyOf` with null becomes `nullable`, `const` an `enum` of one; keywords that the
wire does not know only narrow what is allowed, and are left out, for it refuses a request that holds them.
Source: https://ai.google.dev/api/caching#Schema
"""

from collections.abc import Mapping
from typing import Any

_KEPT = frozenset(
    {"title", "description", "format", "nullable", "enum", "minItems", "maxItems", "required", "minProperties"}
    | {"maxProperties", "minLength", "maxLength", "pattern", "example", "propertyOrdering", "default", "minimum"}
    | {"maximum"}
)
_FORMATS = frozenset({"float", "double", "int32", "int64", "enum", "date-time"})
_DEEPEST = 32


def openapi_subset(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Raises `ValueError` for a reference that leads nowhere, or back to itself: the wire has no references."""
    return _convert(schema, schema, 0)


def _convert(schema: Any, root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError("the schema refers to itself, or is nested too deep")
    if not isinstance(schema, Mapping):
        return {}
    if isinstance(schema.get("$ref"), str):
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return _convert({**_resolve(schema["$ref"], root), **rest}, root, depth + 1)
    converted = {name: value for name, value in schema.items() if name in _KEPT and value is not None}
    if str(converted.get("format")) not in _FORMATS:
        converted.pop("format", None)
    if "const" in schema:
        converted["enum"] = [schema["const"]]
    if "enum" in converted:
        _write_enum(converted)
    _write_type(schema.get("type"), converted)
    if isinstance(schema.get("properties"), Mapping) and schema["properties"]:
        converted["properties"] = {
            name: _convert(value, root, depth + 1) for name, value in schema["properties"].items()
        }
    if "items" in schema:
        converted["items"] = _convert(schema["items"], root, depth + 1)
    variants = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(variants, list):
        _write_variants(variants, converted, root, depth)
    return converted


def _write_enum(converted: dict[str, Any]) -> None:
    """Enums are strings there; null among them is `nullable`."""
    values = converted["enum"]
    if None in values:
        converted["nullable"] = True
    strings = [value for value in values if isinstance(value, str)]
    if strings:
        converted["enum"] = strings
    else:
        del converted["enum"]


def _write_type(kind: Any, converted: dict[str, Any]) -> None:
    kinds = [each for each in kind if each != "null"] if isinstance(kind, list) else [kind]
    if isinstance(kind, list) and "null" in kind:
        converted["nullable"] = True
    if len(kinds) == 1 and isinstance(kinds[0], str):
        converted["type"] = kinds[0]
    elif len(kinds) > 1:
        converted["anyOf"] = [{"type": each} for each in kinds]
    elif "enum" in converted:
        converted["type"] = "string"


def _write_variants(variants: list[Any], converted: dict[str, Any], root: Mapping[str, Any], depth: int) -> None:
    real = [each for each in variants if not (isinstance(each, Mapping) and each.get("type") == "null")]
    if len(real) < len(variants):
        converted["nullable"] = True
    options = [_convert(each, root, depth + 1) for each in real]
    if len(options) == 1:
        for name, value in options[0].items():
            converted.setdefault(name, value)
    elif options:
        converted["anyOf"] = options


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    if not reference.startswith("#"):
        raise ValueError(f"the schema refers to {reference}, outside of itself")
    found: Any = root
    for step in reference.lstrip("#/").split("/") if reference != "#" else ():
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            raise ValueError(f"the schema refers to {reference}, which is not in it")
        found = found[name]
    return found if isinstance(found, Mapping) else {}
