"""Specifies the sweep's manners: within its time, past what it cannot read, and over the scopes every tenth minute."""

from decimal import Decimal
from typing import Any

import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.domain.limits import Grant, Hold, Policy, Scope
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import Unavailable
from llm_gateway.rollup.sweep import WALK_EVERY
from tests.contract.records import open_record
from tests.fakes.rollup_on_memory import RollupOnMemory

NOW = 1_770_000_000.0
LONG_OVER = int(NOW) - 100


async def with_dead(one: RollupOnMemory, count: int) -> None:
    for number in range(count):
        await one.ledger.open(open_record(f"req_{number}", expires_at=LONG_OVER))


async def statuses(one: RollupOnMemory) -> list[str]:
    return sorted(record.status for record in one.ledger.records.values())


@pytest.mark.parametrize(("policy", "charge"), [("charge", Decimal("0.5")), ("release", Decimal(0))])
async def test_the_registry_says_what_an_abandoned_request_is_charged(policy: str, charge: Decimal) -> None:
    one = RollupOnMemory([RegistryEntry("settings", "gateway", {"abandoned": policy})], now=NOW)
    await with_dead(one, 1)
    await one.rollup.sweep(minute=1, budget_s=30)
    (record,) = one.ledger.records.values()
    assert (record.status, record.cost_usd) == ("abandoned", charge)


async def test_what_there_is_no_time_for_is_left_to_the_next_minute() -> None:
    one = RollupOnMemory(now=NOW)
    await with_dead(one, 10)
    ticks = iter(range(1000))
    one.rollup._sweep._clock = lambda: float(next(ticks))
    assert (await one.rollup.sweep(minute=1, budget_s=4)).abandoned == 3
    assert await statuses(one) == ["abandoned"] * 3 + ["open"] * 7
    assert any("out of time" in warning for warning in one.told.warnings)
    assert (await one.rollup.sweep(minute=2, budget_s=400)).abandoned == 7


async def test_a_request_that_cannot_be_read_stops_no_other() -> None:
    class Torn(MemoryLedger):
        async def get(self, request_id: str) -> RequestRecord | None:
            if request_id == "req_0":
                raise KeyError("stream")
            return await super().get(request_id)

    one = RollupOnMemory(now=NOW)
    await with_dead(one, 3)
    torn = Torn()
    torn.records = one.ledger.records
    one.rollup._sweep._repair._ledger = torn
    assert (await one.rollup.sweep(minute=1, budget_s=30)).abandoned == 2
    assert one.told.warnings == ["request req_0 cannot be abandoned: KeyError('stream')"]


async def test_a_store_that_is_away_ends_the_sweep() -> None:
    one = RollupOnMemory(now=NOW)

    async def away(*_: Any) -> RequestRecord | None:
        raise Unavailable("away")

    await with_dead(one, 1)
    one.ledger.get = away  # type: ignore[assignment, method-assign]
    with pytest.raises(Unavailable):
        await one.rollup.sweep(minute=1, budget_s=30)


async def test_scopes_are_walked_every_tenth_minute() -> None:
    one, scope = RollupOnMemory(now=NOW), Scope("team", "search")
    hold = Hold(scope, Decimal("0.5"), 1, int(NOW) // 60, (), LONG_OVER)
    assert isinstance(await one.scopes.reserve("req_never_opened", hold, Policy(parallel=1), NOW - 900), Grant)
    for minute in range(1, WALK_EVERY):
        await one.rollup.sweep(minute=minute, budget_s=30)
        assert len(await one.scopes.holds(scope)) == 1
    assert (await one.rollup.sweep(minute=WALK_EVERY, budget_s=30)).ended == 1
    assert (await one.scopes.level(scope, 0, ())).in_flight == 0
