"""Edits of a JSON object's own bytes: against parsing and writing again, and against the traps of each."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.schemas.json_splice import (
    add_member,
    elements,
    members,
    remove_member,
    set_member,
    set_string_member,
    value_of,
)

NAMES = st.sampled_from(["model", "stream_options", "a", 'quo"te', "back\\slash", "models", "ünïcode", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(['"model":"x"', "}{][,:", "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """An object, written in one of the ways that clients write JSON."""
    value = draw(OBJECTS)
    indent = draw(st.sampled_from([None, 0, 2]))
    separators = draw(st.sampled_from([None, (",", ":"), (" , ", " : ")]))
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    return draw(st.sampled_from(["", " ", "\n"])).encode() + text.encode("utf-8", "surrogatepass"), value


@given(bodies(), NAMES, VALUES)
def test_setting_a_member_is_setting_it_in_the_parsed_object(
    body: tuple[bytes, dict[str, Any]], name: str, new: Any
) -> None:
    written, value = body
    assert json.loads(set_member(written, name, json.dumps(new).encode())) == {**value, name: new}


@given(bodies(), NAMES)
def test_values_are_found_where_they_are(body: tuple[bytes, dict[str, Any]], name: str) -> None:
    written, value = body
    assert [member.name for member in members(written)] == list(value)
    found = value_of(written, name)
    assert (found is None) == (name not in value)
    if found is not None:
        assert json.loads(found) == value[name]


@given(bodies(), NAMES)
def test_removing_a_member_leaves_the_others_as_written(body: tuple[bytes, dict[str, Any]], name: str) -> None:
    written, value = body
    left = remove_member(written, name)
    assert json.loads(left) == {other: value[other] for other in value if other != name}
    for member in members(written):
        if member.name != name:
            assert written[member.start : member.end] in left


@given(bodies(), st.text(max_size=8))
def test_the_quick_way_for_strings_gives_what_the_scan_gives(body: tuple[bytes, dict[str, Any]], new: str) -> None:
    written, value = body
    written = set_member(written, "model", b'"old"') if isinstance(value.get("model", 0), int) else written
    value = json.loads(written)
    if isinstance(value.get("model"), str) and new.isprintable():
        assert json.loads(set_string_member(written, "model", new)) == {**value, "model": new}


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"model":"a","model":"b"}', b'{"model":"X","model":"X"}'),
        (b'{"x":{"model":"a"},"mod\\u0065l":"a"}', b'{"x":{"model":"a"},"mod\\u0065l":"X"}'),
        (b'{"a\\"model":1,"model":"a"}', b'{"a\\"model":1,"model":"X"}'),
        (b'{"m":"\\\\","model":"a"}', b'{"m":"\\\\","model":"X"}'),
        (
            b'{"n":1.10,"big":12345678901234567890123,"model" :\t"a" }',
            b'{"n":1.10,"big":12345678901234567890123,"model" :\t"X" }',
        ),
    ],
)
def test_no_spelling_hides_a_model(body: bytes, edited: bytes) -> None:
    assert set_string_member(body, "model", "X") == edited


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b"{}", b'{"a":1}'),
        (b" { } \n", b' {"a":1} \n'),
        (b'{"b":2}', b'{"b":2,"a":1}'),
        (b'{"b":{} }', b'{"b":{},"a":1}'),
    ],
)
def test_adding_a_member(body: bytes, edited: bytes) -> None:
    assert add_member(body, "a", b"1") == edited
    assert orjson.loads(edited)["a"] == 1


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 2]), st.sampled_from([None, (",", ":"), (" , ", " : ")]))
def test_the_elements_of_an_array_are_its_bytes(values: list[Any], indent: int | None, separators: Any) -> None:
    written = json.dumps(values, indent=indent, separators=separators).encode()
    found = list(elements(written))
    assert [json.loads(element) for element in found] == values
    assert all(element in written for element in found)


@pytest.mark.parametrize("other", [b"", b"null", b'{"a":[1]}', b'"[1]"'])
def test_what_is_no_array_has_no_elements(other: bytes) -> None:
    assert list(elements(other)) == []
