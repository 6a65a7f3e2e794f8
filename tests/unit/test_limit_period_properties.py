"""Budget periods in real time zones: a label is constant within its period and changes exactly where it ends."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_gateway.domain.limits import Budget, Period, ended_before

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour of daylight saving
    "Africa/Cairo",  # the clocks go forward at midnight
    "Asia/Beirut",  # the same
    "America/Havana",  # they go back to midnight: it comes twice
    "Pacific/Apia",  # lost 30 December 2011
    "Asia/Kathmandu",
)
CALENDAR: tuple[Period, ...] = ("day", "week", "month")
instants = st.integers(
    int(datetime(2008, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2037, 1, 1, tzinfo=UTC).timestamp())
)
budgets = st.builds(Budget, usd=st.just(Decimal(1)), period=st.sampled_from(CALENDAR), zone=st.sampled_from(ZONES))


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@settings(max_examples=400, deadline=None)
@given(budget=budgets, now=instants)
@example(Budget(Decimal(1), "day", "Africa/Cairo"), at("2024-04-25T23:30", "Africa/Cairo"))
@example(Budget(Decimal(1), "day", "Asia/Beirut"), at("2024-03-30T23:59:59", "Asia/Beirut"))
@example(Budget(Decimal(1), "day", "America/Havana"), at("2024-11-02T23:30", "America/Havana"))
@example(Budget(Decimal(1), "day", "Pacific/Apia"), at("2011-12-29T12:00", "Pacific/Apia"))
@example(Budget(Decimal(1), "month", "UTC"), at("2024-02-29T23:59:59"))
@example(Budget(Decimal(1), "week", "UTC"), at("2020-12-31T12:00"))
def test_a_label_changes_exactly_where_its_period_ends(budget: Budget, now: int) -> None:
    label, ends = budget.label(now), budget.ends_at(now)
    assert ends is not None
    assert ends > now
    assert budget.label(ends - 1) == label
    assert budget.label(ends) != label
    assert budget.counts_in(label)
    assert not ended_before(label, ends - 1)
    assert ended_before(label, ends)


@settings(max_examples=300, deadline=None)
@given(budget=budgets, now=instants, share=st.floats(0, 1, exclude_max=True))
def test_a_label_is_constant_within_its_period(budget: Budget, now: int, share: float) -> None:
    ends = budget.ends_at(now)
    assert ends is not None
    between = now + int((ends - now) * share)
    assert budget.label(between) == budget.label(now)
    assert budget.ends_at(between) == ends


@settings(max_examples=300, deadline=None)
@given(budget=budgets, now=instants)
def test_a_period_is_as_long_as_the_calendar_says(budget: Budget, now: int) -> None:
    first = budget.ends_at(now)
    assert first is not None
    second = budget.ends_at(first)
    assert second is not None
    shortest, longest = {"day": (1, 1), "week": (7, 7), "month": (28, 31)}[budget.period]
    shift = timedelta(hours=2)  # daylight saving
    assert timedelta(days=shortest) - shift <= timedelta(seconds=second - first) <= timedelta(days=longest) + shift


@given(now=instants, zone=st.sampled_from(ZONES))
def test_a_budget_counts_in_its_own_periods_only(now: int, zone: str) -> None:
    every = [Budget(Decimal(1), period, zone) for period in CALENDAR] + [Budget(Decimal(1), "total", zone)]
    for mine in every:
        assert [other.period for other in every if other.counts_in(mine.label(now))] == [mine.period]
    elsewhere = Budget(Decimal(1), "day", "Asia/Tokyo")
    assert not elsewhere.counts_in(every[0].label(now))


@pytest.mark.parametrize(
    ("period", "now", "label", "ends"),
    [
        ("day", "2024-02-28T23:59:59", "D2024-02-28", "2024-02-29T00:00"),
        ("day", "2024-02-29T00:00", "D2024-02-29", "2024-03-01T00:00"),
        ("month", "2023-02-28T12:00", "M2023-02", "2023-03-01T00:00"),
        ("month", "2024-01-31T12:00", "M2024-01", "2024-02-01T00:00"),
        ("month", "2026-12-31T23:59:59", "M2026-12", "2027-01-01T00:00"),
        ("week", "2020-12-31T12:00", "W2020-53", "2021-01-04T00:00"),
        ("week", "2021-01-03T23:59:59", "W2020-53", "2021-01-04T00:00"),
        ("week", "2024-12-30T00:00", "W2025-01", "2025-01-06T00:00"),
    ],
)
def test_calendars_corners(period: Period, now: str, label: str, ends: str) -> None:
    budget = Budget(Decimal(1), period)
    assert (budget.label(at(now)), budget.ends_at(at(now))) == (label, at(ends))


def test_a_total_never_ends() -> None:
    budget = Budget(Decimal(1), "total", "Europe/Berlin")
    assert (budget.label(0), budget.ends_at(0), ended_before("T", 2**33)) == ("T", None, False)
