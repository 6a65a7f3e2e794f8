"""Specifies DynamoDB's typed JSON: numbers exact and without exponents, records whole, a plain item below 1 KB."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.attributes import RECORD_ATTRIBUTES, decode, decode_record, encode, encode_record, number
from llm_gateway.domain.usage import RequestRecord
from tests.contract.records import item_size, plain_record, records


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("0E-20", "0"),
        ("-0", "0"),
        ("0.00123", "0.00123"),
        ("1E-7", "0.0000001"),
        ("1E+3", "1000"),
        ("-1.50", "-1.50"),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("0.00000000012345678901234567890123456789012345678", "0.00000000012345678901234567890123456789012345678"),
    ],
)
def test_numbers(value: str, text: str) -> None:
    assert number(Decimal(value)) == text


@pytest.mark.parametrize(
    "value", ["NaN", "sNaN", "Infinity", "-Infinity", "123456789012345678901234567890123456789", "1E+126", "1E-131"]
)
def test_what_is_no_number_there(value: str) -> None:
    with pytest.raises(ValueError, match="DynamoDB"):
        number(Decimal(value))


_values = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(-(10**30), 10**30).map(Decimal),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=80, deadline=None)
@given(_values)
def test_values_come_back(value: object) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize("value", [1.5, object(), b"bytes"])
def test_floats_and_strangers_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_an_attribute_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="SS"):
        decode({"SS": ["a"]})


@settings(max_examples=100, deadline=None)
@given(records())
def test_records_come_back(record: RequestRecord) -> None:
    assert decode_record(encode_record(record)) == record


def test_what_is_not_there_takes_no_room() -> None:
    item = encode_record(plain_record())
    assert all(value is not None for attribute in item.values() for value in attribute.values())
    assert {"user", "error", "tags", "reserved"}.isdisjoint(item)
    assert set(item) - {"pk"} <= set(RECORD_ATTRIBUTES)


def test_foreign_attributes_are_passed_over() -> None:
    record = plain_record()
    assert decode_record({**encode_record(record), "folded": {"BOOL": True}, "ttl": {"N": "1"}}) == record


def test_a_plain_item_is_one_write_unit() -> None:
    """1,024 bytes, with room for what the settlement and others add (`ttl`, `settled_by`, `folded`, scopes)."""
    size = item_size(encode_record(plain_record()))
    assert size < 700
    several = replace(plain_record(), user="user-4711@example.com", tags={"project": "search", "env": "prod"})
    assert item_size(encode_record(several)) < 800
