"""Members that come twice, found wherever a JSON body can hide them."""

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.duplicates import refuse_duplicates

NAMES = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


def refusal_of(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        refuse_duplicates(body)
    assert (refused.value.http_status, refused.value.error_code) == (400, "duplicate_member")
    return refused.value


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"max_tokens": 1, "max_tokens": 1}', "max_tokens"),
        (b'{"max_tokens": 1, "\\u006dax_tokens": 9}', "max_tokens"),
        (b'{"a": {"b": [{"c": 1, "d": 2, "c": 3}]}}', "c"),
        (b'{"": 1, "": 2}', ""),
        (b'{"n": {"x": 1}, "n": {"x": 2}}', "n"),
        ('{"ä": 1, "ä": 2}'.encode(), "\\xe4"),
        (b'{"a\\n": 1, "a\\n": 2}', "a\\n"),
    ],
)
def test_a_member_that_comes_twice_is_named(body: bytes, name: str) -> None:
    orjson.loads(body)  # the gateway's own parser sees nothing wrong
    refused = refusal_of(body)
    assert refused.param == name
    assert f"`{name}`" in refused.message


def test_a_long_name_is_shown_in_part() -> None:
    long = "x" * 10_000
    refused = refusal_of(f'{{"{long}": 1, "{long}": 2}}'.encode())
    assert refused.param == "x" * 64


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 2}]}',
        b'{"a": "{\\"x\\": 1, \\"x\\": 2}"}',
        b'{"A": 1, "a": 2}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"seed": 1e400, "tiny": 1e-400}',
        b'{"a": ' * 400 + b"1" + b"}" * 400,
        b"[" * 400 + b"]" * 400,
    ],
)
def test_what_only_looks_like_it_passes(body: bytes) -> None:
    refuse_duplicates(body)


def test_nesting_has_an_end() -> None:
    with pytest.raises(InvalidRequest, match="nested too deep"):
        refuse_duplicates(b"[" * 200_000 + b"]" * 200_000)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_whatever_has_each_member_once_passes(fields: dict[str, Any]) -> None:
    refuse_duplicates(json.dumps(fields).encode())
    refuse_duplicates(orjson.dumps(json.loads(json.dumps(fields), parse_int=float)))


@given(VALUES, NAMES, VALUES, VALUES, st.integers(0, 6))
def test_a_double_is_found_at_any_depth(other: Any, name: str, first: Any, second: Any, depth: int) -> None:
    key = json.dumps(name)
    inner = f"{{{key}: {json.dumps(first)}, {key}: {json.dumps(second)}}}"
    for _ in range(depth):
        inner = f'[{json.dumps(other)}, {{"deeper": {inner}}}]'
    refusal_of(inner.encode())


def test_a_large_body_is_quick() -> None:
    messages = [{"role": "user", "content": "word " * 20} for _ in range(10_000)]
    body = orjson.dumps({"messages": messages})
    best = min(_seconds(body) for _ in range(3))
    assert best < 0.25, f"{len(body)} bytes took {best:.3f} s"


def _seconds(body: bytes) -> float:
    start = time.perf_counter()
    refuse_duplicates(body)
    return time.perf_counter() - start
