"""Two environments whose clocks differ by up to a minute each way share their limits all the same."""

from dataclasses import replace
from decimal import Decimal

import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.catalog.price_files import load_prices
from llm_gateway.domain.catalog import Deployment
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.limits import Budget, Policy, Scope
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.metering.prices import PriceBook
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.call import Call
from llm_gateway.pipeline.pricing import BookPricing
from llm_gateway.pipeline.repair import Repair, Swept
from llm_gateway.pipeline.reservations import Limited, Refused, Reservation, Reservations
from llm_gateway.schemas.openai_chat import read_chat_request
from tests.contract.records import open_record
from tests.fakes.manual_clock import ManualClock
from tests.fakes.no_fallback import NO_FALLBACK

TEAM = Scope("team", "search")
MIDNIGHT = 1_770_076_800.0
"""The beginning of 3 February 2026, UTC."""
TOTAL_S = 600.0
SKEWS = [(-60, 60), (60, -60), (-5, 5), (0, 45)]


class Environment:
    """One gateway process: the shared stores, and a clock that is wrong by `skew` seconds."""

    def __init__(self, ledger: MemoryLedger, scopes: MemoryScopes, true: ManualClock, skew: float) -> None:
        self._true, self._skew = true, skew
        self.ledger = ledger
        self.repair = Repair(ledger, scopes, lambda: "charge", self.now)
        self.reservations = Reservations(
            ledger, scopes, self.repair, lambda _: None, lambda *_: pytest.fail("a scope is lost"), self.now
        )

    def now(self) -> float:
        return self._true.now + self._skew

    async def ask(self, request_id: str, policy: Policy) -> tuple[RequestRecord, Reservation | Refused]:
        record = open_record(
            request_id,
            at_ms=int(self.now() * 1000),
            expires_at=int(self.now() + TOTAL_S + 120),
            reserved_usd=Decimal("0.4"),
            scopes=(TEAM.id,),
        )
        return record, await self.reservations.open(record, [Limited(TEAM, policy)], 10, "deny")

    async def settle(self, record: RequestRecord, reservation: Reservation | Refused) -> None:
        assert isinstance(reservation, Reservation)
        truth = replace(record, status="settled", cost_usd=Decimal("0.25"), usage=Usage(4, 2))
        truth = await self.reservations.complete(truth, reservation)
        assert await self.ledger.settle(truth)
        await self.reservations.settle(truth, reservation)


class Pair:
    def __init__(self, skews: tuple[float, float], at: float) -> None:
        self.clock = ManualClock()
        self.clock.now = at
        self.ledger, self.scopes = MemoryLedger(), MemoryScopes()
        self.one, self.other = (Environment(self.ledger, self.scopes, self.clock, skew) for skew in skews)


@pytest.mark.parametrize("skews", SKEWS)
async def test_parallel_requests_are_counted_together_and_given_back(skews: tuple[float, float]) -> None:
    pair, policy = Pair(skews, MIDNIGHT - 30), Policy(parallel=2)
    first, second = await pair.one.ask("req_1", policy), await pair.other.ask("req_2", policy)
    assert isinstance((await pair.one.ask("req_3", policy))[1], Refused)
    assert isinstance((await pair.other.ask("req_4", policy))[1], Refused)
    await pair.one.settle(*first)
    await pair.other.settle(*second)
    assert (await pair.scopes.level(TEAM, 0, ())).in_flight == 0
    assert isinstance((await pair.other.ask("req_5", policy))[1], Reservation)


@pytest.mark.parametrize("skews", SKEWS)
async def test_a_request_that_runs_is_ended_by_nobody_elses_clock(skews: tuple[float, float]) -> None:
    """Its last moment is the deadline; a refusal, the sweep and the walk all look at its hold then."""
    pair, policy = Pair(skews, MIDNIGHT - 30), Policy(parallel=1)
    running = await pair.one.ask("req_1", policy)
    pair.clock.now += TOTAL_S
    assert isinstance((await pair.other.ask("req_2", policy))[1], Refused)
    assert replace(await pair.other.repair.sweep(), pruned=0) == Swept()
    await pair.one.settle(*running)
    record = await pair.ledger.get("req_1")
    assert record is not None
    assert (record.status, record.cost_usd) == ("settled", Decimal("0.25"))


def test_the_grace_is_what_two_clocks_may_differ_by() -> None:
    accounts = Accounts(MemoryLedger(), BookPricing(PriceBook(load_prices, "v")), NO_FALLBACK, lambda: MIDNIGHT - 60)
    call = Call("req_1", "chat.completions", b"", None, 0.0)
    request = read_chat_request(b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
    record = accounts.record_of(call, VirtualKey("k", "k", "h"), request, "m", Deployment("corp", "m"), TOTAL_S)
    assert record.expires_at >= MIDNIGHT + TOTAL_S + 60


@pytest.mark.parametrize("skews", SKEWS)
async def test_a_period_that_ends_meanwhile_keeps_what_was_begun_in_it(skews: tuple[float, float]) -> None:
    """Whoever asks says in which period it is; there it is spent, whenever and by whatever clock it is settled."""
    budget = Budget(Decimal(1), "day")
    pair, policy = Pair(skews, MIDNIGHT - 30), Policy(budgets=(budget,))
    begun = [(each, *(await each.ask(f"req_{number}", policy))) for number, each in enumerate((pair.one, pair.other))]
    pair.clock.now += 90
    for each, record, reservation in begun:
        await each.settle(record, reservation)
    labels = [budget.label(record.at_ms / 1000) for _, record, _ in begun]
    level = await pair.scopes.level(TEAM, 0, sorted(set(labels)))
    expected = {label: Decimal("0.25") * labels.count(label) for label in labels}
    assert dict(level.spent) == dict(level.committed) == expected


@pytest.mark.parametrize("skews", SKEWS)
async def test_a_minute_has_its_limit_by_each_clock(skews: tuple[float, float]) -> None:
    """Two clocks may put one instant into two minutes: each has its own room, and none more than that."""
    pair, policy = Pair(skews, MIDNIGHT + 10), Policy(rpm=3)
    for number in range(10):
        await pair.one.ask(f"req_one_{number}", policy)
        await pair.other.ask(f"req_other_{number}", policy)
        await pair.other.repair.sweep()
    minutes = {int(each.now()) // 60 for each in (pair.one, pair.other)}
    assert [(await pair.scopes.level(TEAM, minute, ())).requests for minute in minutes] == [3] * len(minutes)
