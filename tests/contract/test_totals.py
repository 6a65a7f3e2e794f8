"""The contract of `ports.TotalsStore`: every request counts once, as the ledger has it, in every row it belongs to."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_rebuild import DynamoDBRebuild
from llm_gateway.adapters.dynamodb_totals import REBUILD_KEY, DynamoDBTotals
from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_totals import MemoryTotals
from llm_gateway.domain.ports import Ledger, TotalsStore
from llm_gateway.domain.totals import GROUPS, Group, Row, Totals, difference
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import Unavailable
from tests.contract.conftest import AwsClients, create_ledger_table, create_registry_table, engine_url
from tests.contract.records import open_record, plain_record

DAY = date(2026, 2, 2)
"""Of `plain_record`."""
LONG_AGO, FAR_AHEAD = date(2020, 1, 1), date(2036, 1, 1)


@dataclass
class Books:
    """A ledger with its totals. `usage_table` is empty in memory."""

    ledger: Ledger
    totals: TotalsStore
    usage_table: str = ""
    ledger_table: str = ""


async def dynamodb_books(client: AwsJsonClient) -> Books:
    ledger_table, usage_table = await create_ledger_table(client), await create_registry_table(client)
    warnings: list[str] = []
    rebuild = DynamoDBRebuild(client, usage_table, ledger_table, warnings.append)
    totals = DynamoDBTotals(client, usage_table, ledger_table, rebuild)
    return Books(DynamoDBLedger(client, ledger_table), totals, usage_table, ledger_table)


@pytest.fixture
async def books(request: pytest.FixtureRequest, calm_engine: str, aws: AwsClients) -> Books:
    """Empty ones on each engine."""
    if calm_engine == "memory":
        ledger = MemoryLedger()
        return Books(ledger, MemoryTotals(ledger))
    return await dynamodb_books(aws(engine_url(request, calm_engine)))


async def settled(books: Books, *records: RequestRecord) -> None:
    for record in records:
        assert await books.ledger.settle(record)


async def everything(books: Books) -> dict[Row, Totals]:
    return {
        row: totals for group in GROUPS for row, totals in [one async for one in books.totals.read(group, DAY, DAY)]
    }


def expected(records: Sequence[RequestRecord]) -> dict[Row, Totals]:
    rows: dict[Row, Totals] = {}
    for record in records:
        for row, change in difference(record, None).items():
            rows[row] = rows.get(row, Totals()) + change
    return rows


def various(count: int) -> list[RequestRecord]:
    """Settled and failed requests of one day, by some teams, keys and models, with costs that no float holds."""
    chance = random.Random(count)  # noqa: S311 - no secret
    return [
        plain_record(
            f"req_{number}",
            team=chance.choice(["search", "ads # 1 %", None]),
            key=chance.choice(["a", "b"]),
            user=chance.choice([None, "", "ü%41", "x" * 3000]),
            tags=chance.choice([{}, {"env": "prod", "job": "a#b"}]),
            routed_model=chance.choice(["gpt-4.1", "gpt-4.1-mini"]),
            status=chance.choice(["settled", "settled", "failed"]),
            usage=Usage(input_tokens=chance.randrange(9999), output_tokens=7, estimated=chance.random() < 0.2),
            cost_usd=chance.choice([None, Decimal(chance.randrange(10**9)).scaleb(-12)]),
            latency_ms=chance.choice([None, chance.randrange(1_000_000)]),
            ttft_ms=chance.choice([None, chance.randrange(5000)]),
        )
        for number in range(count)
    ]


async def test_a_request_counts_in_every_row_it_belongs_to(books: Books) -> None:
    record = plain_record(tags={"env": "prod"}, user="ada")
    await settled(books, record)
    assert (await books.totals.fold([record])).counted == (record,)
    rows = await everything(books)
    assert rows == expected([record])
    assert {(row.group, row.values) for row in rows} == {
        (("organisation",), (None,)),
        (("team",), ("search",)),
        (("key",), ("search-prod",)),
        (("user",), ("ada",)),
        (("tag",), ("env=prod",)),
        (("provider",), ("openai",)),
        (("model",), ("gpt-4.1-mini",)),
        (("team", "model"), ("search", "gpt-4.1-mini")),
        (("key", "model"), ("search-prod", "gpt-4.1-mini")),
        (("provider", "model"), ("openai", "gpt-4.1-mini")),
        (("team", "key"), ("search", "search-prod")),
    }
    assert rows[Row(("team",), DAY, ("search",))].cost_usd == Decimal("0.00096160")


async def test_many_count_exactly_whatever_they_are_called(books: Books) -> None:
    records = various(150)
    await settled(books, *records)
    folded = await books.totals.fold(records)
    assert len(folded.counted) == 150
    assert folded.refused == ()
    assert await everything(books) == expected(records)


async def test_duplicates_change_nothing(books: Books) -> None:
    records = various(30)
    await settled(books, *records)
    await books.totals.fold([*records[:10], *records[:10]])
    again = await books.totals.fold([*reversed(records), *records])
    assert {record.request_id for record in again.counted} == {record.request_id for record in records[10:]}
    assert await everything(books) == expected(records)


async def test_folds_at_once_count_once(books: Books) -> None:
    records = various(40)
    await settled(books, *records)
    await asyncio.gather(*(books.totals.fold(records[first : first + 20]) for first in (0, 5, 10, 15, 20)))
    assert await everything(books) == expected(records)


async def test_an_open_request_does_not_count(books: Books) -> None:
    record = open_record("req_1")
    await books.ledger.open(record)
    assert (await books.totals.fold([record])).counted == ()
    # Somebody says that it is settled, but the ledger does not.
    assert (await books.totals.fold([plain_record("req_1")])).counted == ()
    assert await everything(books) == {}


async def abandoned(books: Books, request_id: str) -> RequestRecord:
    record = open_record(request_id, team="search", routed_model="other-model", tags={"env": "prod"})
    await books.ledger.open(record)
    lost = replace(
        record, status="abandoned", cost_usd=Decimal("0.5"), usage=Usage(estimated=True), error_code="abandoned"
    )
    assert await books.ledger.abandon(lost)
    return lost


async def test_a_late_truth_folds_the_difference(books: Books) -> None:
    lost = await abandoned(books, "req_1")
    await books.totals.fold([lost])
    counted = await everything(books)
    assert counted == expected([lost])
    assert counted[Row(("organisation",), DAY, (None,))].abandoned == 1
    truth = plain_record("req_1", cost_usd=Decimal("0.1234567890123"))
    await settled(books, truth)
    for seen in ([lost, truth], [truth], [lost]):
        await books.totals.fold(seen)
    assert await everything(books) == expected([truth])


async def test_an_old_view_of_a_request_counts_what_the_ledger_says_now(books: Books) -> None:
    lost = await abandoned(books, "req_1")
    truth = plain_record("req_1")
    await settled(books, truth)
    assert [record.status for record in (await books.totals.fold([lost])).counted] == ["settled"]
    assert (await books.totals.fold([truth])).counted == ()
    assert await everything(books) == expected([truth])


async def test_a_request_that_is_gone_does_not_count(books: Books) -> None:
    assert (await books.totals.fold([plain_record("req_never")])).counted == ()
    assert await everything(books) == {}


async def read(books: Books, group: Group, first: date, last: date, **where: str | None) -> list[tuple[Row, Totals]]:
    return [one async for one in books.totals.read(group, first, last, where)]  # type: ignore[arg-type]


async def test_a_range_of_days_is_read_in_order(books: Books) -> None:
    at = 1_772_323_200_000  # 2026-03-01T00:00:00Z, after a month of 28 days
    records = [
        plain_record("req_1", at_ms=at - 1, team="b"),
        plain_record("req_2", at_ms=at, team="b"),
        plain_record("req_3", at_ms=at, team="a"),
        plain_record("req_4", at_ms=at, team=None),
        plain_record("req_5", at_ms=at + 86_400_000, team="a"),
    ]
    await settled(books, *records)
    await books.totals.fold(records)
    march = date(2026, 3, 1)
    rows = [row for row, _ in await read(books, ("team",), march - timedelta(days=1), march)]
    assert [(row.day, row.values) for row in rows] == [
        (date(2026, 2, 28), ("b",)),
        (march, (None,)),
        (march, ("a",)),
        (march, ("b",)),
    ]
    assert len(await read(books, ("team",), LONG_AGO, FAR_AHEAD)) == 5
    assert await read(books, ("team",), march, march - timedelta(days=1)) == []
    (only,) = await read(books, ("team", "model"), march, march + timedelta(days=40), team="b")
    assert only[0] == Row(("team", "model"), march, ("b", "gpt-4.1-mini"))
    assert len(await read(books, ("team", "model"), LONG_AGO, FAR_AHEAD, model="gpt-4.1-mini")) == 5
    assert [row.values for row, _ in await read(books, ("team",), march, march, team=None)] == [(None,)]


async def test_other_groups_are_not_kept(books: Books) -> None:
    with pytest.raises(ValueError, match="user and model"):
        await read(books, ("user", "model"), DAY, DAY)


async def test_a_rebuild_makes_the_days_what_the_ledger_says(books: Books) -> None:
    records, lost = various(60), await abandoned(books, "req_lost")
    await settled(books, *records)
    await books.ledger.open(open_record("req_open"))
    await settled(books, plain_record("req_other_day", at_ms=1_770_000_000_123 + 86_400_000))
    await books.totals.fold([*records[:25], lost])
    assert await books.totals.rebuild(DAY, DAY) == 61
    assert await everything(books) == expected([*records, lost])
    # What it counted is marked: folding goes on as if it had counted it, and late truths too.
    truth = plain_record("req_lost", cost_usd=Decimal("0.07"))
    await settled(books, truth)
    await books.totals.fold([*records, lost, truth])
    assert await everything(books) == expected([*records, truth])
    assert await books.totals.rebuild(DAY, DAY) == 61
    assert await everything(books) == expected([*records, truth])


async def test_a_rebuild_repairs_what_somebody_broke(dynamodb: AwsJsonClient) -> None:
    books = await dynamodb_books(dynamodb)
    records = various(10)
    await settled(books, *records)
    await books.totals.fold(records)
    for key, change in (("2026-02-02#search", ":two"), ("2026-02-02#nobody", ":two")):
        await dynamodb.call(
            "UpdateItem",
            {
                "TableName": books.usage_table,
                "Key": {"pk": {"S": "team"}, "sk": {"S": key}},
                "UpdateExpression": f"ADD calls {change}",
                "ExpressionAttributeValues": {change: {"N": "2"}},
            },
        )
    assert await everything(books) != expected(records)
    await books.totals.rebuild(DAY, DAY)
    assert await everything(books) == expected(records)


async def test_a_rebuild_beside_folds_loses_nothing_and_counts_nothing_twice(dynamodb: AwsJsonClient) -> None:
    books = await dynamodb_books(dynamodb)
    records = various(60)
    await settled(books, *records[:40])
    await books.totals.fold(records[:20])

    async def fold_until_it_works(some: Sequence[RequestRecord]) -> None:
        for record in some:
            await settled(books, record)
        while True:
            try:
                await books.totals.fold([*some, *records[:40]])
                return
            except Unavailable:
                await asyncio.sleep(0.01)

    await asyncio.gather(
        books.totals.rebuild(DAY, DAY), fold_until_it_works(records[40:50]), fold_until_it_works(records[50:])
    )
    assert await everything(books) == expected(records)


async def test_nothing_is_folded_until_a_rebuild_has_ended(dynamodb: AwsJsonClient) -> None:
    """One died: folding waits, since half of its work is done; the next one takes over."""
    books = await dynamodb_books(dynamodb)
    records = various(3)
    await settled(books, *records)
    await dynamodb.call("PutItem", {"TableName": books.usage_table, "Item": {**REBUILD_KEY, "owner": {"S": "dead"}}})
    with pytest.raises(Unavailable, match="being rebuilt"):
        await books.totals.fold(records)
    assert await everything(books) == {}
    await books.totals.rebuild(DAY, DAY)
    assert (await books.totals.fold(records)).counted == ()
    assert await everything(books) == expected(records)


async def test_a_record_that_the_store_never_takes_is_named_and_the_rest_count(dynamodb: AwsJsonClient) -> None:
    books = await dynamodb_books(dynamodb)
    records = various(12)
    await settled(books, *records)
    await dynamodb.call(
        "UpdateItem",
        {
            "TableName": books.usage_table,
            "Key": {"pk": {"S": "key"}, "sk": {"S": "2026-02-02#broken"}},
            "UpdateExpression": "SET calls = :text",
            "ExpressionAttributeValues": {":text": {"S": "not a number"}},
        },
    )
    poison = plain_record("req_poison", key="broken")
    await settled(books, poison)
    folded = await books.totals.fold([*records[:6], poison, *records[6:]])
    assert folded.refused == ("req_poison",)
    assert len(folded.counted) == 12
    assert [row async for row in books.totals.read(("organisation",), DAY, DAY)] == [
        (Row(("organisation",), DAY, (None,)), expected(records)[Row(("organisation",), DAY, (None,))])
    ]


async def test_a_month_is_one_query(real_dynamodb: AwsJsonClient) -> None:
    books = await dynamodb_books(real_dynamodb)
    records = [plain_record(f"req_{day}", at_ms=1_767_225_600_000 + day * 86_400_000) for day in range(31)]
    await settled(books, *records)
    await books.totals.fold(records)
    real_dynamodb.calls.clear()
    assert len(await read(books, ("team", "model"), date(2026, 1, 1), date(2026, 1, 31))) == 31
    assert dict(real_dynamodb.calls) == {"Query": 1}


async def test_requests_that_share_their_rows_share_a_transaction(real_dynamodb: AwsJsonClient) -> None:
    """docs/ledger.md counts its write units: AWS's engine on a laptop does not."""
    books = await dynamodb_books(real_dynamodb)
    records = [plain_record(f"req_{number}") for number in range(80)]
    await settled(books, *records)
    real_dynamodb.calls.clear()
    await books.totals.fold(records)
    assert real_dynamodb.calls["TransactWriteItems"] == 1
    real_dynamodb.calls.clear()
    await books.totals.fold(records)
    assert dict(real_dynamodb.calls) == {"TransactWriteItems": 1}  # cancelled by the marks, and nothing is read
