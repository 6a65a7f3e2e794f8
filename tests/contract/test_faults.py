"""Requests through a store that fails 30 % of its calls, some of them carried out long after: the sums still agree."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.domain.limits import Budget, Grant, Hold, Policy, Scope
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline.repair import LATE_S, Repair
from llm_gateway.pipeline.reservations import Change, Limited, Refused, Reservation, Reservations
from tests.contract.conftest import AwsClients, create_ledger_table, engine_url
from tests.contract.records import open_record
from tests.fakes.dynamodb_faults import FAULTS, DynamoDBFaults

REQUESTS, TASKS = 200, 8
TEAM, KEY, OTHER = Scope("team", "search"), Scope("key", "prod"), Scope("deployment", "corp:other")
BUDGET = Budget(Decimal(1), "total")
LIMITED = (Limited(KEY, Policy(parallel=50)), Limited(TEAM, Policy(budgets=(BUDGET,))))
AT_OTHER = Limited(OTHER, Policy(budgets=(BUDGET,)))
NOW = 1_770_000_000.0
LIVES_S = 900
_ENDS = ("settled", "settled", "settled", "moved", "moved", "nothing", "cancelled", "died", "moved and died")


@dataclass
class Stores:
    """The same table twice: as a gateway sees it through the faults, and as it is."""

    faults: DynamoDBFaults
    ledger: DynamoDBLedger
    scopes: DynamoDBScopes
    true_ledger: DynamoDBLedger
    true_scopes: DynamoDBScopes
    true_client: AwsJsonClient
    table: str


@pytest.fixture(params=["moto", pytest.param("dynamodb-local", marks=pytest.mark.dynamodb_local)])
async def stores(request: pytest.FixtureRequest, aws: AwsClients) -> AsyncIterator[Stores]:
    url = engine_url(request, request.param)
    direct = aws(url)
    table = await create_ledger_table(direct)
    with DynamoDBFaults(url, seed=3, lateness_s=2.0) as faults:
        # As the gateway's own client, but for the time it gives an engine that shares this machine with the tests.
        client = aws(faults.url, timeout_s=0.5, attempts=3)
        yield Stores(
            faults,
            DynamoDBLedger(client, table),
            DynamoDBScopes(client, table),
            DynamoDBLedger(direct, table),
            DynamoDBScopes(direct, table),
            direct,
            table,
        )


async def test_the_sums_agree(stores: Stores) -> None:
    randomness = Random(4)  # noqa: S311 - a run is to be repeatable, not secret
    highest = Decimal(0)
    plans = [(f"req_{number}", *_plan(randomness)) for number in range(REQUESTS)]
    outcomes: list[str] = []
    running = True

    async def work() -> None:
        while plans:
            outcomes.append(await _request(stores, *plans.pop()))

    async def sample() -> None:
        nonlocal highest
        while running:
            level = await stores.true_scopes.level(TEAM, 0, ("T",))
            highest = max(highest, level.committed_in("T"))
            await asyncio.sleep(0.05)

    sampling = asyncio.create_task(sample())
    await asyncio.gather(*(work() for _ in range(TASKS)))
    await asyncio.to_thread(stores.faults.wait_for_late)
    running = False
    await sampling

    assert all(stores.faults.done[fault] for fault in FAULTS), stores.faults.done
    assert outcomes.count("refused") > 5, "the budget was never full"
    assert outcomes.count("settled") + outcomes.count("moved") > 20
    assert highest <= BUDGET.usd

    stores.faults.pause()
    for seconds in (LIVES_S + 1, LIVES_S + LATE_S + 2, LIVES_S + 2 * LATE_S + 3):
        await Repair(stores.true_ledger, stores.true_scopes, lambda: "charge", lambda s=seconds: NOW + s).sweep()  # type: ignore[misc]
    records = [await stores.true_ledger.get(f"req_{number}") for number in range(REQUESTS)]
    items = sum((record.cost_usd or Decimal(0) for record in records if record is not None), Decimal(0))
    level = await stores.true_scopes.level(TEAM, 0, ("T",))
    assert (level.spent_in("T"), level.committed_in("T")) == (items, items)
    assert level.spent_in("T") <= BUDGET.usd
    there = sum(
        (record.cost_usd or Decimal(0) for record in records if record and OTHER.id in record.scopes), Decimal(0)
    )
    level = await stores.true_scopes.level(OTHER, 0, ("T",))
    assert (level.spent_in("T"), level.committed_in("T")) == (there, there)
    assert there > 0, "nothing moved on"
    for scope in (TEAM, KEY, OTHER):
        assert await stores.true_scopes.holds(scope) == []
        assert (await stores.true_scopes.level(scope, 0, ())).in_flight == 0
    await _what_is_left_can_be_spent(stores, BUDGET.usd - items)


def _plan(randomness: Random) -> tuple[Decimal, Decimal, str]:
    """What it may cost, what it comes to, and what becomes of it."""
    most = Decimal(randomness.randrange(1, 4 * 10**8)).scaleb(-10)
    share = Decimal(randomness.randrange(0, 1001)).scaleb(-3)
    return most, most * share, randomness.choice(_ENDS)


async def _request(stores: Stores, request_id: str, most: Decimal, cost: Decimal, end: str) -> str:
    """What became of it. `cancelled` gives everything back before the provider is called; `died` stops right there;
    `moved` goes on to another deployment, which may cost twice as much."""
    repair = Repair(stores.ledger, stores.scopes, lambda: "charge", lambda: NOW)
    process = Reservations(
        stores.ledger, stores.scopes, repair, lambda _alert: None, lambda _id, _scope, _error: None, lambda: NOW
    )
    record = open_record(
        request_id,
        at_ms=int(NOW * 1000),
        expires_at=int(NOW) + LIVES_S,
        reserved_usd=most,
        scopes=tuple(each.scope.id for each in LIMITED),
    )
    failed = replace(record, status="failed", reserved_usd=None, cost_usd=None)
    try:
        answer = await process.open(record, LIMITED, 10, "deny")
    except Unavailable:
        await _settle(stores, process, failed, None)
        return "denied"
    if isinstance(answer, Refused):
        await _settle(stores, process, failed, None)
        return "refused"
    if end.startswith("moved"):
        wider = replace(record, reserved_usd=2 * most)
        try:
            refused = await process.readmit(wider, answer, Change([AT_OTHER], [], 10), "deny")
        except Unavailable:
            refused = Refused([])
        cost = cost if refused else 2 * cost
    if end == "cancelled":
        await process.cancel(request_id, answer)
        await _settle(stores, process, failed, None)
    elif not end.endswith("died"):
        cost = Decimal(0) if end == "nothing" else cost
        truth = replace(record, status="settled", reserved_usd=None, cost_usd=cost, usage=Usage(5, 5))
        await _settle(stores, process, truth, answer)
    return end


async def _settle(
    stores: Stores, process: Reservations, record: RequestRecord, reservation: Reservation | None
) -> None:
    try:
        if reservation is not None:
            record = await process.complete(record, reservation)
        if await stores.ledger.settle(record) and reservation is not None:
            await process.settle(record, reservation)
    except Unavailable:
        return  # to the log, with an alarm; the sweep finds the request open


async def _what_is_left_can_be_spent(stores: Stores, left: Decimal) -> None:
    """A false refusal is as wrong as an overspend."""
    assert left > 0
    policy = LIMITED[1].policy
    process = Reservations(
        stores.true_ledger,
        stores.true_scopes,
        Repair(stores.true_ledger, stores.true_scopes, lambda: "charge", lambda: NOW),
        lambda _alert: None,
        lambda _id, _scope, _error: None,
        lambda: NOW,
    )
    for usd, fits in ((left + Decimal("1e-12"), False), (left, True)):
        record = open_record(f"req_{usd}", at_ms=int(NOW * 1000), reserved_usd=usd, scopes=(TEAM.id,))
        answer = await process.open(record, [Limited(TEAM, policy)], 1, "deny")
        assert isinstance(answer, Reservation) is fits


async def test_a_resent_call_is_another_attempt(stores: Stores) -> None:
    """A kept connection that closes without an answer is tried again unseen, and what went over it may be done later."""
    stores.faults.pause()
    await stores.ledger.get("req_1")  # now there is a kept connection
    record = open_record("req_1", at_ms=int(NOW * 1000), expires_at=int(NOW) + LIVES_S, scopes=(TEAM.id,))
    await stores.true_ledger.open(record)
    hold = Hold(TEAM, Decimal("0.5"), 10, int(NOW) // 60, ("T",), int(NOW) + LIVES_S)
    stores.faults.queue("late")
    grant = await stores.scopes.reserve("req_1", hold, LIMITED[1].policy, NOW)
    assert isinstance(grant, Grant)
    await stores.true_ledger.settle(replace(record, status="settled", cost_usd=Decimal("0.1"), holds=(grant.tag,)))
    await stores.true_scopes.settle("req_1", hold, grant.tag, Decimal("0.1"), 10, NOW)
    await asyncio.to_thread(stores.faults.wait_for_late)
    (phantom,) = await stores.true_scopes.holds(TEAM)
    assert phantom.tag != grant.tag
    await Repair(stores.true_ledger, stores.true_scopes, lambda: "charge", lambda: NOW + LIVES_S + 1).sweep()
    level = await stores.true_scopes.level(TEAM, 0, ("T",))
    assert (level.spent_in("T"), level.committed_in("T"), level.in_flight) == (Decimal("0.1"), Decimal("0.1"), 0)


async def test_down_is_said_in_time_and_it_comes_back(stores: Stores) -> None:
    stores.faults.pause()
    record = open_record("req_1")
    stores.faults.take_down()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await stores.ledger.open(record)
    assert time.monotonic() - began < 5
    assert await stores.true_ledger.get("req_1") is None
    stores.faults.bring_up()
    await stores.ledger.open(record)
    assert await stores.true_ledger.get("req_1") == record
    assert stores.faults.done == {"down": 3, "passed": 1}
    stores.faults.resume()
