"""Specifies daily totals: sums are exact, whatever is added is taken away again, percentiles are within a bucket."""

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.total_attributes import decode_totals, encode_totals, row_key, row_of
from llm_gateway.domain.totals import (
    BUCKETS_MS,
    DIMENSIONS,
    GROUPS,
    Histogram,
    Row,
    Totals,
    call_totals,
    day_of,
    difference,
    rows_of,
    total_name,
)
from llm_gateway.domain.usage import RequestRecord
from tests.contract.records import plain_record, records

_names = st.none() | st.text(max_size=40) | st.text("#%$ü\U0001f600", min_size=100, max_size=400)


@st.composite
def _rows(draw: Any) -> Row:
    group = draw(st.sampled_from(GROUPS))
    return Row(group, draw(st.dates(date(1970, 1, 1))), tuple(total_name(draw(_names)) for _ in group))


_few = settings(max_examples=40, deadline=None)


@_few
@given(st.lists(records(), max_size=4))
def test_what_is_added_can_be_taken_away(many: list[RequestRecord]) -> None:
    sums = Totals()
    for record in many:
        sums += call_totals(record)
    assert sums.calls == len(many)
    assert sums.input_tokens == sum(record.usage.input_tokens for record in many)
    assert sums.unpriced == sum(record.cost_usd is None for record in many)
    for record in many:
        sums -= call_totals(record)
    assert sums == Totals()
    assert not sums


def test_cents_of_a_cent_do_not_get_lost_in_large_sums() -> None:
    large, small = Totals(cost_usd=Decimal("98765432109876.5")), Totals(cost_usd=Decimal("0.000000000000000000000001"))
    assert (large + small).cost_usd == Decimal("98765432109876.500000000000000000000001")
    assert (large + small - large).cost_usd == small.cost_usd


@_few
@given(records(), records())
def test_a_difference_turns_one_state_into_the_other(before: RequestRecord, after: RequestRecord) -> None:
    rows = dict(difference(before, None))
    for row, change in difference(after, before).items():
        rows[row] = rows.get(row, Totals()) + change
    assert {row: totals for row, totals in rows.items() if totals} == difference(after, None)


@_few
@given(records())
def test_every_dimension_but_tags_adds_up_to_everything(record: RequestRecord) -> None:
    groups = [row.group for row in rows_of(record)]
    for group in GROUPS:
        assert groups.count(group) == (1 if group != ("tag",) else groups.count(("tag",)))
    assert groups.count(("tag",)) <= len(record.tags)


@given(_rows())
def test_a_rows_key_is_read_back_and_fits(row: Row) -> None:
    key = row_key(row)
    assert row_of(key) == row
    assert len(key["sk"]["S"].encode()) <= 1024


def test_names_that_differ_have_keys_that_differ() -> None:
    values = [(None, None), ("", None), (None, ""), ("", ""), ("a#b", None), ("a", "b"), ("a%23b", None), ("%", "x")]
    keys = {row_key(Row(("team", "model"), date(2026, 1, 1), pair))["sk"]["S"] for pair in values}
    assert len(keys) == len(values)
    long = {total_name("x" * 5000), total_name("x" * 5001), total_name("x" * 160)}
    assert len(long) == 3


@_few
@given(st.lists(records(), max_size=3), st.decimals(0, 10**9, places=15))
def test_totals_are_read_back(many: list[RequestRecord], usd: Decimal) -> None:
    sums = replace(sum((call_totals(record) for record in many), Totals()), cost_usd=usd)
    numbers = encode_totals(sums)
    assert "0" not in numbers.values()
    assert decode_totals({name: {"N": value} for name, value in numbers.items()}) == sums


@given(st.lists(st.integers(0, 1_000_000), min_size=1, max_size=200), st.sampled_from([50.0, 90.0, 95.0, 99.0]))
def test_a_percentile_is_within_a_bucket_of_the_true_one(values: list[int], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram = histogram.combined(Histogram.of(value), 1)
    true = sorted(values)[math.ceil(percent / 100 * len(values)) - 1]
    told = histogram.percentile(percent)
    assert told is not None
    assert abs(told - true) <= max(1.0, 0.19 * true)


def test_there_is_no_percentile_of_nothing() -> None:
    assert Histogram().percentile(50) is None


def test_buckets_reach_past_the_longest_request() -> None:
    assert BUCKETS_MS[0] == 1
    assert BUCKETS_MS[-1] > 900_000
    assert all(upper / lower < 1.2 for lower, upper in pairwise(BUCKETS_MS) if lower > 50)
    assert Histogram.of(10**9).counts == {BUCKETS_MS[-1]: 1}
    assert Histogram.of(0).counts == {1: 1}


@given(st.datetimes(datetime(1970, 1, 2), datetime(2199, 1, 1), timezones=st.timezones()))  # noqa: DTZ001 - naive bounds
def test_the_day_is_utcs_whatever_the_zone(moment: datetime) -> None:
    at_ms = int(moment.timestamp() * 1000)
    assert day_of(at_ms) == moment.astimezone(UTC).date()


@pytest.mark.parametrize(
    "first", [date(2024, 2, 29), date(2026, 3, 1), date(2027, 1, 1), date(2026, 3, 29), date(2026, 10, 25)]
)
def test_a_day_begins_at_its_first_millisecond(first: date) -> None:
    """Leap days, ends of months and years, and the days on which Europe's clocks change."""
    begins_ms = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 1000
    assert day_of(begins_ms) == first
    assert day_of(begins_ms - 1) == first - timedelta(days=1)
    assert day_of(begins_ms + 86_399_999) == first


def test_what_is_kept_is_what_is_promised() -> None:
    assert set(GROUPS) == {
        *((dimension,) for dimension in DIMENSIONS),
        ("team", "model"), ("key", "model"), ("provider", "model"), ("team", "key"),
    }  # fmt: skip
    assert call_totals(plain_record(status="abandoned")).errors == 0
