"""Specifies budget alerts: told once for each threshold and period, whatever fails on the way."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from llm_gateway.domain.limits import Budget, Grant, Hold, Policy, Scope
from llm_gateway.domain.ports import RegistryEntry
from tests.contract.records import plain_record
from tests.fakes.rollup_on_memory import RollupOnMemory, stream_of

NOON = 1_772_280_000.0
"""28 February 2026, 12:00 UTC."""
TEAM = Scope("team", "search")


def entry(kind: Any = "team", name: str = "search", **budget: Any) -> RegistryEntry:
    fields = {"usd": "10", "period": "day", "alerts": ["0.5", "1"], **budget}
    return RegistryEntry(kind, name, {"budget": [fields]})


def rollup(*entries: RegistryEntry) -> RollupOnMemory:
    return RollupOnMemory(entries, now=NOON)


async def spend(one: RollupOnMemory, usd: str, request_id: str, scope: Scope = TEAM, **budget: Any) -> None:
    """One settled request, with its scope's counters, and folded."""
    now = one.clock.now
    labels = (Budget(Decimal(10), "day", **budget).label(now),)
    hold = Hold(scope, Decimal(usd), 1, int(now) // 60, labels, int(now) + 900)
    grant = await one.scopes.reserve(request_id, hold, Policy(shadow=True), now)
    assert isinstance(grant, Grant)
    record = plain_record(
        request_id, at_ms=int(now * 1000), cost_usd=Decimal(usd), scopes=(scope.id,), holds=(grant.tag,)
    )
    await one.ledger.settle(record)
    await one.scopes.settle(request_id, hold, grant.tag, Decimal(usd), 1, now)
    assert await one.rollup.fold_stream(stream_of([record])) == []


def subjects(one: RollupOnMemory) -> list[str]:
    return [subject for subject, _, _ in one.topic.messages]


async def test_each_threshold_is_told_of_once() -> None:
    one = rollup(entry())
    await spend(one, "4.99", "req_1")
    assert subjects(one) == []
    await spend(one, "0.01", "req_2")
    await spend(one, "1", "req_3")
    assert subjects(one) == ["50 % of the day budget of team `search` is spent"]
    await spend(one, "5", "req_4")
    await spend(one, "5", "req_5")
    assert len(one.topic.messages) == 2
    subject, text, attributes = one.topic.messages[1]
    assert subject == "100 % of the day budget of team `search` is spent"
    assert text == "team `search` has spent $11.00 in D2026-02-28: 100 % of its day budget of $10.\n"
    assert attributes == {
        "scope": "team#search",
        "period": "D2026-02-28",
        "share": "1",
        "spent_usd": "11.00",
        "budget_usd": "10",
    }


async def test_another_process_tells_nothing_again() -> None:
    one, other = rollup(entry()), rollup(entry())
    await spend(one, "6", "req_1")
    other.rollup._alerts._marks = one.rollup._alerts._marks
    other.rollup._alerts._scopes = one.scopes
    assert await other.rollup._alerts.check([TEAM]) == 0
    assert len(one.topic.messages) == 1
    assert other.topic.messages == []


async def test_two_at_once_tell_it_once() -> None:
    one = rollup(entry())
    one.topic.away = True
    await spend(one, "6", "req_1")
    one.topic.away = False
    sent = await asyncio.gather(*(one.rollup._alerts.check([TEAM]) for _ in range(5)))
    assert sorted(sent) == [0, 0, 0, 0, 1]


async def test_a_topic_that_is_away_is_tried_again_by_the_walk() -> None:
    one = rollup(entry())
    one.topic.away = True
    await spend(one, "6", "req_1")
    assert (one.topic.messages, len(one.told.warnings)) == ([], 1)
    one.topic.away = False
    await one.rollup.sweep(minute=3, budget_s=30)
    assert one.topic.messages == []
    await one.rollup.sweep(minute=10, budget_s=30)
    assert len(one.topic.messages) == 1
    await one.rollup.sweep(minute=20, budget_s=30)
    assert len(one.topic.messages) == 1


async def test_a_claim_whose_process_died_is_taken_over() -> None:
    one = rollup(entry())
    marks = one.rollup._alerts._marks
    assert await marks.claim("team#search#D2026-02-28#10#0.5", int(NOON), int(NOON) + 120) is not None
    await spend(one, "6", "req_1")
    assert one.topic.messages == []
    one.clock.now += 121
    await one.rollup.sweep(minute=0, budget_s=30)
    assert len(one.topic.messages) == 1


async def test_each_period_has_its_own() -> None:
    one = rollup(entry())
    await spend(one, "6", "req_1")
    one.clock.now += 86_400
    await spend(one, "6", "req_2")
    assert [attributes["period"] for _, _, attributes in one.topic.messages] == ["D2026-02-28", "D2026-03-01"]


async def test_what_was_spent_in_a_periods_last_minutes_is_told_of_in_the_next() -> None:
    """In New York the clocks go forward on 8 March 2026: that day has 23 hours."""
    zone = "America/New_York"
    midnight = 1_773_028_800.0  # 2026-03-09T00:00:00-04:00
    one = RollupOnMemory([entry(zone=zone)], now=midnight - 1)
    one.topic.away = True
    await spend(one, "6", "req_1", zone=zone)
    one.topic.away = False
    one.clock.now = midnight + 600
    await one.rollup.sweep(minute=10, budget_s=30)
    assert [attributes["period"] for _, _, attributes in one.topic.messages] == [f"D2026-03-08@{zone}"]


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="no policy"),
        pytest.param([entry(alerts=[])], id="a budget without alerts"),
        pytest.param([entry(name="ads")], id="another team's"),
    ],
)
async def test_nobody_is_told_of_what_nobody_asked_for(entries: list[RegistryEntry]) -> None:
    one = rollup(*entries)
    await spend(one, "60", "req_1")
    assert one.topic.messages == []


async def test_users_share_a_policy_and_have_alerts_of_their_own() -> None:
    one = rollup(entry("user", "*"))
    await spend(one, "6", "req_1", Scope("user", "ada"))
    await spend(one, "6", "req_2", Scope("user", "grace"))
    assert [attributes["scope"] for _, _, attributes in one.topic.messages] == ["user#ada", "user#grace"]
