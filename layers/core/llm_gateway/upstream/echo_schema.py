"""Makes the smallest instance of a JSON Schema that a tool or a response format asks for; deterministic.

Covers what tool schemas use: type, properties and required, items, enum, const, default, examples, the bounds of
numbers, strings and arrays, common formats, anyOf, oneOf, allOf and local `$ref`. Keywords that only refuse (`pattern`,
`not`, `if`) are not looked at.

Source: https://json-schema.org/draft/2020-12/json-schema-validation
"""

from typing import Any

_DEPTH = 12
"""Levels after which a schema that contains itself gets no further."""
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "echo@example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}


def make_instance(schema: Any, *, name: str = "value") -> Any:
    """A value the schema accepts: required properties only, the first of every choice, a string its property's name."""
    return _Maker(schema).make(schema, name, 0)


class _Maker:
    def __init__(self, root: Any) -> None:
        self._root = root

    def make(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _DEPTH:
            return name if schema is not False else None
        schema = self._flatten(schema, depth)
        for keyword in ("const", "default"):
            if keyword in schema:
                return schema[keyword]
        for keyword in ("enum", "examples"):
            if isinstance(schema.get(keyword), list) and schema[keyword]:
                return schema[keyword][0]
        for keyword in ("anyOf", "oneOf"):
            choices = schema.get(keyword)
            if isinstance(choices, list) and choices:
                chosen = choices[0]
                if isinstance(chosen, dict):
                    chosen = {**{key: value for key, value in schema.items() if key != keyword}, **chosen}
                return self.make(chosen, name, depth + 1)
        return self._make_type(schema, name, depth)

    def _make_type(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = _type_of(schema)
        if kind == "object":
            return self._make_object(schema, depth)
        if kind == "array":
            return self._make_array(schema, name, depth)
        if kind in ("integer", "number"):
            number = _number(schema, whole=kind == "integer")
            return int(number) if kind == "integer" else number
        return {"boolean": True, "null": None}.get(kind, _string(schema, name))

    def _make_object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        names = [each for each in required if isinstance(each, str)] if isinstance(required, list) else []
        return {each: self.make(properties.get(each, True), each, depth + 1) for each in names}

    def _make_array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        prefix = schema.get("prefixItems")
        made = [self.make(each, name, depth + 1) for each in prefix] if isinstance(prefix, list) else []
        least = schema.get("minItems")
        wanted = least if isinstance(least, int) else 0 if made or depth >= _DEPTH else 1
        if schema.get("maxItems") == 0:
            return []
        while len(made) < min(wanted, 100):
            made.append(self.make(schema.get("items", True), name, depth + 1))
        return made

    def _flatten(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """`$ref` and `allOf` dissolved into one schema; properties and required ones add up."""
        parts = [self._resolve(schema["$ref"])] if isinstance(schema.get("$ref"), str) else []
        parts += schema["allOf"] if isinstance(schema.get("allOf"), list) else []
        if not parts or depth > _DEPTH:
            return schema
        merged: dict[str, Any] = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        for part in parts:
            if not isinstance(part, dict):
                continue
            flat = self._flatten(part, depth + 1)
            properties = {**_mapping(flat, "properties"), **_mapping(merged, "properties")}
            required = [*_list(merged, "required"), *_list(flat, "required")]
            merged = {**flat, **merged}
            if properties:
                merged["properties"] = properties
            if required:
                merged["required"] = list(dict.fromkeys(each for each in required if isinstance(each, str)))
        return merged

    def _resolve(self, reference: str) -> Any:
        found = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if key:
                found = found.get(key) if isinstance(found, dict) else None
        return found


def _mapping(schema: dict[str, Any], key: str) -> dict[str, Any]:
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def _list(schema: dict[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _string(schema: dict[str, Any], name: str) -> str:
    text = _FORMATS.get(str(schema.get("format")), name)
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int) and len(text) < least <= 100_000:
        text = (text * least)[:least] if text else "x" * least
    return text[:most] if isinstance(most, int) and most >= 0 else text


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    """1 or the step where the bounds allow it, or else what is nearest to it within them."""
    step = _bound(schema, "multipleOf") or (1 if whole else None)
    value: float = step or 1
    low, above = _bound(schema, "minimum"), _bound(schema, "exclusiveMinimum")
    high, below = _bound(schema, "maximum"), _bound(schema, "exclusiveMaximum")
    gap = 0.5 if step is None else step
    if high is not None and value > high:
        value = high if step is None else high // step * step
    if below is not None and value >= below:
        value = below - gap if step is None else -(-below // step) * step - step
    if low is not None and value < low:
        value = low if step is None else -(-low // step) * step
    if above is not None and value <= above:
        value = above + gap if step is None else above // step * step + step
    return value


def _bound(schema: dict[str, Any], keyword: str) -> float | None:
    value = schema.get(keyword)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
