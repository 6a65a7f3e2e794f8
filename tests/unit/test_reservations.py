"""Holds of many scopes as one, and the sweep that ends what nobody ended."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.limits import Budget, Grant, Hold, Level, Policy, Refusal, Scope
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.observability.budget_alerts import BudgetAlert
from llm_gateway.pipeline.repair import LATE_S, Repair, Swept
from llm_gateway.pipeline.reservations import Limited, Refused, Reservation, Reservations
from tests.contract.records import open_record

KEY, TEAM = Scope("key", "prod"), Scope("team", "search")
AT = 1_770_000_000.0
BUDGET = Budget(Decimal(1), "day", alerts=(Decimal("0.5"), Decimal(1)))
LABEL = BUDGET.label(AT)
LIMITED = (Limited(KEY, Policy(parallel=2)), Limited(TEAM, Policy(budgets=(BUDGET,))))


class World:
    """Reservations over memory stores, with a clock that a test turns."""

    def __init__(self, scopes: MemoryScopes | None = None, policy: str = "charge") -> None:
        self.now = AT
        self.ledger = MemoryLedger()
        self.scopes = scopes or MemoryScopes()
        self.alerts: list[BudgetAlert] = []
        self.lost: list[Scope] = []
        self.repair = Repair(self.ledger, self.scopes, lambda: policy, lambda: self.now)  # type: ignore[arg-type, return-value]
        self.reservations = Reservations(
            self.ledger, self.scopes, self.repair, self.alerts.append, self._lose, lambda: self.now
        )

    def _lose(self, _request_id: str, scope: Scope, _error: GatewayError) -> None:
        self.lost.append(scope)

    async def open(
        self, request_id: str, usd: str = "0.4", limited: tuple[Limited, ...] = LIMITED
    ) -> tuple[RequestRecord, Reservation]:
        record = requested(request_id, usd, limited)
        answer = await self.reservations.open(record, limited, 50, "deny")
        assert isinstance(answer, Reservation), answer
        return record, answer

    async def settle(self, record: RequestRecord, reservation: Reservation, cost: str) -> None:
        settled = replace(record, status="settled", cost_usd=Decimal(cost), usage=Usage(30, 10))
        settled = await self.reservations.complete(settled, reservation)
        assert await self.ledger.settle(settled)
        await self.reservations.settle(settled, reservation)

    async def team(self) -> Level:
        return await self.scopes.level(TEAM, int(AT) // 60, (LABEL,))

    async def key(self) -> Level:
        return await self.scopes.level(KEY, int(AT) // 60, ())


def requested(request_id: str, usd: str = "0.4", limited: tuple[Limited, ...] = LIMITED) -> RequestRecord:
    return open_record(
        request_id,
        at_ms=int(AT * 1000),
        expires_at=int(AT) + 900,
        reserved_usd=Decimal(usd),
        scopes=tuple(each.scope.id for each in limited),
    )


def spent(usd: str) -> tuple[tuple[str, Decimal], ...]:
    return ((LABEL, Decimal(usd)),)


async def test_every_scope_holds_and_is_settled() -> None:
    world = World()
    record, reservation = await world.open("req_1")
    assert (await world.key()).in_flight == 1
    assert (await world.team()).committed == spent("0.4")
    await world.settle(record, reservation, "0.123456789")
    assert await world.key() == Level(1, 40)
    assert await world.team() == Level(1, 40, 0, spent("0.123456789"), spent("0.123456789"))
    assert await world.scopes.holds(TEAM) == []


async def test_one_refusal_gives_everything_back() -> None:
    world = World()
    await world.open("req_1", "0.7")
    answer = await world.reservations.open(requested("req_2"), LIMITED, 50, "deny")
    assert isinstance(answer, Refused)
    ((limited, _, refusal),) = answer.refusals
    assert limited.scope == TEAM
    assert refusal.level.committed == spent("0.7")
    assert await world.key() == Level(1, 50, 1)


async def test_spending_past_a_threshold_is_told_once() -> None:
    world = World()
    for index, cost in enumerate(("0.3", "0.19", "0.02", "0.4", "0.09")):
        await world.settle(*await world.open(f"req_{index}", "0.09"), cost)
    assert [(alert.share, alert.spent) for alert in world.alerts] == [
        (Decimal("0.5"), Decimal("0.51")),
        (Decimal(1), Decimal("1.00")),
    ]
    assert str(world.alerts[0]) == ("team `search` has spent $0.51 in D2026-02-02: 50 % of its day budget of $1")


@pytest.mark.parametrize(("policy", "charge"), [("charge", "0.4"), ("release", "0")])
async def test_a_request_that_died_is_abandoned_past_its_time_only(policy: str, charge: str) -> None:
    world = World(policy=policy)
    await world.open("req_1")
    world.now += 900
    assert await world.repair.sweep() == Swept(0, 0, 4)
    world.now += 1
    assert await world.repair.sweep() == Swept(1, 0, 0)
    record = await world.ledger.get("req_1")
    assert record is not None
    assert (record.status, record.cost_usd, record.usage.estimated) == ("abandoned", Decimal(charge), True)
    assert await world.team() == Level(0, 0, 0, spent(charge), spent(charge))
    assert (await world.key()).in_flight == 0
    assert await world.repair.sweep() == Swept()


async def test_its_true_cost_may_come_later_and_counts_once() -> None:
    world = World()
    record, reservation = await world.open("req_1")
    world.now += 901
    await world.repair.sweep()
    await world.settle(record, reservation, "0.05")
    assert (await world.team()).committed == (await world.team()).spent == spent("0.05")
    settled = await world.ledger.get("req_1")
    assert settled is not None
    assert settled.status == "settled"
    assert await world.scopes.holds(TEAM) == []


async def test_too_late_is_refused_and_nothing_is_left() -> None:
    world = World()
    record, _ = await world.open("req_1")
    world.now += 901
    await world.repair.sweep()
    world.now += LATE_S + 1
    assert (await world.repair.sweep()).ended == 2
    assert await world.scopes.holds(TEAM) == await world.scopes.holds(KEY) == []
    assert await world.ledger.settle(replace(record, status="settled", cost_usd=Decimal(9))) is False
    assert (await world.team()).spent == spent("0.4")


async def test_killed_between_its_record_and_its_scopes() -> None:
    world = World()
    record, reservation = await world.open("req_1")
    settled = replace(record, status="settled", cost_usd=Decimal("0.25"), usage=Usage(30, 10))
    await world.ledger.settle(await world.reservations.complete(settled, reservation))
    world.now += 901
    assert await world.repair.sweep() == Swept(0, 2, 4)
    assert (await world.team()).committed == (await world.team()).spent == spent("0.25")
    assert (await world.key()).in_flight == 0


async def test_a_hold_without_a_record_was_never_used() -> None:
    world = World()
    hold = Hold(TEAM, Decimal("0.4"), 50, int(AT) // 60, (LABEL,), int(AT) + 900)
    await world.scopes.reserve("req_1", hold, LIMITED[1].policy, AT)
    world.now += 901
    assert (await world.repair.sweep()).ended == 1
    assert (await world.team()).committed == spent("0")


async def test_a_late_duplicate_of_a_settled_request_is_not_billed() -> None:
    """An attempt to reserve that timed out, carried out when the request has long been settled."""
    world = World()
    record, reservation = await world.open("req_1")
    await world.settle(record, reservation, "0.1")
    await world.open("req_2")  # so that the duplicate's tag is another one than that of the hold it repeats
    await world.scopes.reserve("req_1", reservation.holds[1], LIMITED[1].policy, AT)
    world.now += 901
    await world.repair.sweep()
    assert (await world.team()).spent == spent("0.5")
    assert await world.scopes.holds(KEY) != []  # of req_2, charged


async def test_a_dead_requests_place_is_free_when_it_is_wanted() -> None:
    world = World()
    await world.open("req_1")
    await world.open("req_2")
    world.now += 901
    record, reservation = await world.open("req_3", "0.1")
    assert (await world.key()).in_flight == 1
    await world.settle(record, reservation, "0.05")
    assert (await world.team()).spent == spent("0.85")


class Flaky(MemoryScopes):
    """Refuses to answer where `down` says so."""

    down: Callable[[str, Scope], bool] = staticmethod(lambda _operation, _scope: False)

    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        if self.down("reserve", hold.scope):
            raise Unavailable("down")
        return await super().reserve(request_id, hold, policy, now)

    async def settle(
        self, request_id: str, hold: Hold, tag: str, cost: Decimal, tokens: int, now: float
    ) -> Level | None:
        if self.down("settle", hold.scope):
            raise Unavailable("down")
        return await super().settle(request_id, hold, tag, cost, tokens, now)


async def test_a_scope_that_cannot_be_written_denies() -> None:
    flaky = Flaky()
    flaky.down = lambda operation, scope: scope == TEAM
    world = World(flaky)
    with pytest.raises(Unavailable) as caught:
        await world.reservations.open(requested("req_1"), LIMITED, 50, "deny")
    assert (caught.value.http_status, caught.value.error_code) == (503, "ledger_unavailable")
    assert await world.key() == Level()


async def test_where_it_may_pass_it_is_counted_afterwards() -> None:
    flaky = Flaky()
    flaky.down = lambda operation, scope: scope == TEAM
    world = World(flaky)
    record = requested("req_1")
    answer = await world.reservations.open(record, LIMITED, 50, "allow")
    assert isinstance(answer, Reservation)
    flaky.down = lambda operation, scope: False
    await world.settle(record, answer, "0.3")
    assert (await world.team()).committed == (await world.team()).spent == spent("0.3")
    assert world.lost == []


async def test_a_settlement_that_is_lost_is_made_by_the_sweep() -> None:
    flaky = Flaky()
    world = World(flaky)
    record, reservation = await world.open("req_1")
    flaky.down = lambda operation, scope: scope == TEAM and operation == "settle"
    await world.settle(record, reservation, "0.3")
    assert world.lost == [TEAM]
    flaky.down = lambda operation, scope: False
    world.now += 901
    await world.repair.sweep()
    assert (await world.team()).committed == (await world.team()).spent == spent("0.3")
