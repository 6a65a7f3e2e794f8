"""Specifies what a process knows of budgets without reading them: what the stores last answered it."""

from dataclasses import replace
from decimal import Decimal

import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.limits import Budget, Level, Policy, Scope
from llm_gateway.pipeline.repair import Repair
from llm_gateway.pipeline.reservations import Limited, Refused, Reservation, Reservations
from llm_gateway.pipeline.seen_budgets import SeenBudgets
from tests.contract.records import open_record

AT = 1_770_000_000.0
KEY, TEAM = Scope("key", "prod"), Scope("team", "search")
DAILY = Policy(budgets=(Budget(Decimal(10), "day"),))
TODAY = DAILY.budgets[0].label(AT)


def saw(usd: str, policy: Policy = DAILY, scope: Scope = KEY) -> SeenBudgets:
    seen = SeenBudgets()
    seen.saw(scope, policy, Level(committed=((TODAY, Decimal(usd)),)))
    return seen


def test_the_share_is_of_the_period_that_it_is_now() -> None:
    seen = saw("8.5")
    assert seen.used([(KEY, DAILY)], AT) == Decimal("0.85")
    assert seen.used([(KEY, DAILY)], AT + 86_400) is None


def test_the_tightest_counts() -> None:
    seen = saw("2")
    seen.saw(TEAM, DAILY, Level(committed=((TODAY, Decimal(7)),)))
    assert seen.used([(KEY, DAILY), (TEAM, DAILY)], AT) == Decimal("0.7")


@pytest.mark.parametrize(
    "policy", [Policy(budgets=(Budget(Decimal(10), "day", hard=False),)), replace(DAILY, shadow=True), Policy(rpm=1)]
)
def test_what_refuses_nothing_is_not_counted(policy: Policy) -> None:
    assert saw("8", policy).used([(KEY, policy)], AT) is None


def test_a_budget_of_nothing_is_used_up() -> None:
    nothing = Policy(budgets=(Budget(Decimal(0), "day"),))
    assert saw("0", nothing).used([(KEY, nothing)], AT) == 1


def test_nobody_heard_of_it() -> None:
    assert SeenBudgets().used([(KEY, DAILY)], AT) is None


def test_it_forgets_those_heard_of_the_longest_ago() -> None:
    seen = saw("1")
    for number in range(5000):
        seen.saw(Scope("user", str(number)), DAILY, Level(committed=((TODAY, Decimal(1)),)))
    assert seen.used([(KEY, DAILY)], AT) is None
    assert seen.used([(Scope("user", "4999"), DAILY)], AT) == Decimal("0.1")
    assert len(seen._committed) == 4096


async def test_grants_settlements_and_refusals_are_heard_of() -> None:
    ledger, scopes = MemoryLedger(), MemoryScopes()
    repair = Repair(ledger, scopes, lambda: "charge", lambda: AT)
    reservations = Reservations(ledger, scopes, repair, lambda _: None, lambda *_: None, lambda: AT)

    def share() -> Decimal | None:
        return reservations.seen.used([(KEY, DAILY)], AT)

    async def opened(request_id: str, usd: str) -> Reservation | Refused:
        record = open_record(
            request_id, at_ms=int(AT * 1000), expires_at=int(AT) + 900, reserved_usd=Decimal(usd), scopes=(KEY.id,)
        )
        return await reservations.open(record, [Limited(KEY, DAILY)], 0, "deny")

    held = await opened("req_1", "4")
    assert isinstance(held, Reservation)
    assert share() == Decimal("0.4")
    record = open_record("req_1", at_ms=int(AT * 1000), cost_usd=Decimal("0.5"), status="settled", scopes=(KEY.id,))
    await reservations.settle(record, held)
    assert share() == Decimal("0.05")
    fresh = Reservations(ledger, scopes, repair, lambda _: None, lambda *_: None, lambda: AT)
    reservations = fresh
    assert isinstance(await opened("req_2", "9.6"), Refused)
    assert share() == Decimal("0.05")
