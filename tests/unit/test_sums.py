"""`Sum` is `+` of totals, exactly."""

from decimal import Decimal
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.domain.sums import Sum
from llm_gateway.domain.totals import Totals, call_totals
from llm_gateway.domain.usage import RequestRecord
from tests.contract.records import records


@given(st.lists(records(), max_size=6))
def test_the_same_as_adding(given_records: list[RequestRecord]) -> None:
    each = [call_totals(record) for record in given_records]
    added = Sum()
    for totals in each:
        added.add(totals)
    assert added.totals() == reduce(Totals.__add__, each, Totals())


@given(records())
def test_what_is_taken_back_leaves_nothing(record: RequestRecord) -> None:
    added = Sum()
    added.add(call_totals(record))
    added.add(Totals() - call_totals(record))
    assert not added.totals()
    assert added.totals().latency.counts == {}


def test_money_keeps_more_digits_than_the_default_context() -> None:
    added = Sum()
    for cost in ("99999999999999.0000000000000000000000001", "0.0000000000000000000000000000000001"):
        added.add(Totals(calls=1, cost_usd=Decimal(cost)))
    assert added.totals().cost_usd == Decimal("99999999999999.0000000000000000000000001000000001")
