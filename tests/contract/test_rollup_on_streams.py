"""The rollup on records of real streams, and the books after a random run: totals == settled items == counters."""

import asyncio
import json
import random
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_alerts import DynamoDBAlerts
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.adapters.dynamodb_totals import DynamoDBTotals
from llm_gateway.adapters.memory import MemoryRegistry
from llm_gateway.bootstrap_rollup import RollupStores, assemble_rollup
from llm_gateway.domain.limits import Budget, Grant, Hold, Policy, Scope
from llm_gateway.domain.totals import Totals, call_totals
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.local.tables import TableShape, definition
from llm_gateway.rollup.service import Rollup
from llm_gateway.settings import Settings
from tests.contract.conftest import AwsClients, create_registry_table
from tests.contract.engines import DynamoDBLocal
from tests.contract.records import open_record, plain_record
from tests.fakes.event_pattern import matches
from tests.fakes.manual_clock import ManualClock
from tests.fakes.rollup_on_memory import Told
from tests.fakes.sam_template import Stack

NOW = 1_772_322_000.0
"""28 February 2026, 23:40 UTC: the run goes on into March, and in Berlin begins in it."""
BUDGETS = (Budget(Decimal(1000), "month"), Budget(Decimal(1000), "day", "Europe/Berlin"))
POLICY = Policy(budgets=BUDGETS)
REQUESTS = 60


@dataclass
class OnDynamoDB:
    ledger: DynamoDBLedger
    scopes: DynamoDBScopes
    totals: DynamoDBTotals
    rollup: Rollup
    told: Told
    clock: ManualClock
    dynamodb: AwsJsonClient
    streams: AwsJsonClient
    table: str


@pytest.fixture
async def books(aws: AwsClients, dynamodb_local: DynamoDBLocal) -> OnDynamoDB:
    dynamodb, streams = aws(dynamodb_local.url), aws(dynamodb_local.url, "dynamodbstreams")
    usage = await create_registry_table(dynamodb)
    shape = TableShape(f"ledger-{usage}", expires=True, stream=True, indexed=True)
    await dynamodb.call("CreateTable", definition(shape))
    clock, told = ManualClock(), Told()
    clock.now = NOW
    ledger, scopes = DynamoDBLedger(dynamodb, shape.name), DynamoDBScopes(dynamodb, shape.name)
    totals = DynamoDBTotals(dynamodb, usage, shape.name)
    stores = RollupStores(MemoryRegistry(), ledger, scopes, totals, DynamoDBAlerts(dynamodb, usage), None)
    rollup = assemble_rollup(Settings(), stores, told, clock)
    return OnDynamoDB(ledger, scopes, totals, rollup, told, clock, dynamodb, streams, shape.name)


async def stream(books: OnDynamoDB) -> list[dict[str, Any]]:
    """All that the stream has to tell, in its order."""
    table = await books.dynamodb.call("DescribeTable", {"TableName": books.table})
    arn = table["Table"]["LatestStreamArn"]
    described = await books.streams.call("DescribeStream", {"StreamArn": arn})
    records: list[dict[str, Any]] = []
    for shard in described["StreamDescription"]["Shards"]:
        wanted = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = (await books.streams.call("GetShardIterator", wanted)).get("ShardIterator")
        while iterator is not None:
            answer = await books.streams.call("GetRecords", {"ShardIterator": iterator})
            records += answer["Records"]
            iterator = answer.get("NextShardIterator") if answer["Records"] else None
    return records


def passed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the template's filter lets through."""
    mapping = Stack.transformed().of_type("AWS::Lambda::EventSourceMapping")["RollupFunctionLedger"]
    (one,) = mapping["FilterCriteria"]["Filters"]
    return [record for record in records if matches(json.loads(one["Pattern"]), record)]


async def total(books: OnDynamoDB, group: Any, **where: str | None) -> Totals:
    sums = Totals()
    async for _, totals in books.totals.read(group, date(2026, 1, 1), date(2026, 12, 31), where):  # type: ignore[arg-type]
        sums += totals
    return sums


async def test_what_a_real_stream_tells_is_folded_once(books: OnDynamoDB) -> None:
    at_ms = int(NOW * 1000)
    await books.ledger.open(open_record("req_1", at_ms=at_ms))
    await books.ledger.settle(plain_record("req_1", at_ms=at_ms, tags={"env": "ü"}))
    await books.ledger.open(open_record("req_open", at_ms=at_ms))
    lost = open_record("req_2", at_ms=at_ms)
    await books.ledger.open(lost)
    await books.ledger.abandon(replace(lost, status="abandoned", cost_usd=Decimal("0.5"), usage=Usage(estimated=True)))
    first = passed(await stream(books))
    assert len(first) == 2
    assert await books.rollup.fold_stream(first) == []
    assert (await total(books, ("organisation",))).abandoned == 1
    # The marks are in the stream too: a final one does not come to the function, an abandoned one's does, for nothing.
    marked = passed(await stream(books))[2:]
    assert len(marked) == 1
    assert await books.rollup.fold_stream([*marked, *first]) == []
    truth = plain_record("req_2", at_ms=at_ms, cost_usd=Decimal("0.0625"))
    await books.ledger.settle(truth)
    late = passed(await stream(books))[3:]
    assert len(late) == 1
    assert await books.rollup.fold_stream([*late, *late]) == []
    assert await total(books, ("organisation",)) == call_totals(plain_record("req_1")) + call_totals(truth)
    assert (await total(books, ("tag",), tag="env=ü")).calls == 1
    assert len(passed(await stream(books))) == 4


Late = list[tuple[RequestRecord, list[tuple[Hold, str]]]]


async def live(books: OnDynamoDB, chance: random.Random, number: int, late: Late) -> None:
    """One request: it settles or fails, dies before or after its settlement, or will come back after the sweep."""
    now, team = books.clock.now, chance.choice(["search", "ads"])
    scopes = [Scope("team", team), Scope("key", chance.choice("ab"))]
    record = open_record(
        f"req_{number}",
        at_ms=int(now * 1000),
        team=team,
        key=scopes[1].name,
        expires_at=int(now) + 60,
        reserved_usd=Decimal("0.75"),
        scopes=tuple(scope.id for scope in scopes),
    )
    await books.ledger.open(record)
    held = []
    for scope in scopes:
        hold = Hold(scope, Decimal("0.75"), 10, int(now) // 60, POLICY.labels(now), record.expires_at)
        grant = await books.scopes.reserve(record.request_id, hold, POLICY, now)
        assert isinstance(grant, Grant)
        held.append((hold, grant.tag))
    truth = replace(
        record,
        status=chance.choice(["settled", "settled", "failed"]),
        cost_usd=Decimal(chance.randrange(10**9)).scaleb(-12),
        usage=Usage(9, 2),
        holds=tuple(tag for _, tag in held),
        latency_ms=number,
    )
    fate = chance.choice(["well", "well", "died", "half", "late"])
    if fate in ("well", "half"):
        await books.ledger.settle(truth)
    if fate == "well":
        await settle_scopes(books, truth, held)
    if fate == "late":
        late.append((truth, held))


async def settle_scopes(books: OnDynamoDB, truth: RequestRecord, held: list[tuple[Hold, str]]) -> None:
    for hold, tag in held:
        await books.scopes.settle(truth.request_id, hold, tag, truth.cost_usd or Decimal(0), 11, books.clock.now)


async def assert_the_scope_says(books: OnDynamoDB, scope: Scope, usd: Decimal) -> None:
    labels = {label for offset in (0, REQUESTS * 40) for label in POLICY.labels(NOW + offset)}
    level = await books.scopes.level(scope, 0, sorted(labels))
    spent = dict.fromkeys("MD", Decimal(0))
    for label, part in level.spent:
        spent[label[0]] += part
    assert spent == {"M": usd, "D": usd}
    assert level.spent == level.committed
    assert level.in_flight == 0


async def test_after_a_random_run_totals_are_the_items_are_the_counters(books: OnDynamoDB) -> None:
    chance = random.Random(8)  # noqa: S311 - no secret
    late: Late = []
    for number in range(REQUESTS):
        books.clock.now = NOW + number * 40
        await live(books, chance, number, late)
        if number % 20 == 19:
            await books.rollup.sweep(minute=number, budget_s=30)
    books.clock.now += 600
    await books.rollup.sweep(minute=0, budget_s=60)
    await books.rollup.fold_stream(passed(await stream(books)))
    for truth, held in late:
        await books.ledger.settle(truth)
        await settle_scopes(books, truth, held)
    told = passed(await stream(books))
    chance.shuffle(told)
    await asyncio.gather(*(books.rollup.fold_stream(told[first::3]) for first in range(3)))

    items: defaultdict[Scope, Totals] = defaultdict(Totals)
    statuses = set()
    for number in range(REQUESTS):
        kept = await books.ledger.get(f"req_{number}")
        assert kept is not None
        statuses.add(kept.status)
        for scope in kept.scopes:
            items[Scope.of(scope)] += call_totals(kept)
    assert statuses == {"settled", "failed", "abandoned"}
    for limited, sums in items.items():
        assert await total(books, (limited.kind,), **{limited.kind: limited.name}) == sums
        await assert_the_scope_says(books, limited, sums.cost_usd)
    days = {row.day async for row, _ in books.totals.read(("organisation",), date(2026, 1, 1), date(2026, 12, 31))}
    assert days == {date(2026, 2, 28), date(2026, 3, 1)}
