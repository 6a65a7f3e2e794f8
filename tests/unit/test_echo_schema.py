"""Specifies the instances that the echo provider makes of a JSON schema: valid where it can be, and always an end."""

from typing import Any

import jsonschema  # type: ignore[import-untyped] # its stubs are no dependency of ours
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.upstream.echo_schema import make_instance


def schemas() -> st.SearchStrategy[Any]:
    strings = st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"minLength": st.integers(0, 9), "maxLength": st.integers(9, 20), "enum": st.just(["aaaaaaaaa"])},
    )
    numbers = st.builds(
        lambda kind, low, more, step: {"type": kind, "minimum": low, "maximum": low + more + step, "multipleOf": step},
        st.sampled_from(["integer", "number"]), st.integers(-50, 50), st.integers(0, 50), st.integers(1, 7),
    )  # fmt: skip
    exclusive = st.builds(
        lambda low, width: {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + width},
        st.integers(-5, 5), st.integers(1, 9),
    )  # fmt: skip
    leaves = st.one_of(
        strings, numbers, exclusive, st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 7}, {}, True,
        {"type": ["string", "null"]}, {"$ref": "#/$defs/node"}, {"type": "string", "format": "date-time"}]),
    )  # fmt: skip

    def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        properties = st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
        objects = properties.map(lambda held: {"type": "object", "properties": held, "required": sorted(held)[:2]})
        lists = st.tuples(inner, st.integers(0, 3))
        arrays = lists.map(lambda held: {"type": "array", "items": held[0], "minItems": held[1]})
        choices = st.lists(inner, min_size=1, max_size=3).map(lambda held: {"anyOf": held})
        merged = st.lists(objects, min_size=1, max_size=1).map(lambda held: {"allOf": held})
        return st.one_of(objects, arrays, choices, merged)

    return st.recursive(leaves, nest, max_leaves=8)


DEFINITIONS = {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "integer"}},
                        "required": ["v"]}}  # fmt: skip


@given(schemas())
def test_a_made_instance_is_one_the_schema_accepts(schema: Any) -> None:
    root = {"$defs": DEFINITIONS} | (schema if isinstance(schema, dict) else {"allOf": [schema]})
    jsonschema.validate(make_instance(root), root)


def test_a_schema_that_never_ends_ends() -> None:
    endless = {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}
    assert isinstance(make_instance(endless), dict)
    assert make_instance({"$ref": "#"}) is not None


KEYWORDS = ["type", "enum", "properties", "required", "items", "anyOf", "allOf", "$ref", "minimum", "minLength"]
ODD_SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4),
)


@settings(max_examples=50)
@given(ODD_SCHEMAS)
def test_no_schema_is_too_odd(schema: Any) -> None:
    make_instance(schema)
