"""The contract of `ports.RequestIndex`: what has ended is listed, newest first, each once, whatever the pages."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from llm_gateway.adapters import dynamodb_requests
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import SHARDS, DynamoDBLedger
from llm_gateway.adapters.dynamodb_requests import DynamoDBRequests
from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.domain.listing import Position, Wanted
from llm_gateway.domain.ports import Ledger, RequestIndex
from llm_gateway.domain.usage import RequestRecord
from tests.contract.conftest import AwsClients, create_ledger_table, engine_url
from tests.contract.records import open_record, plain_record

START = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
DAY = 86_400_000
ALL = Wanted(START, START + 30 * DAY)


class Requests:
    """A ledger with its lists."""

    def __init__(self, ledger: Ledger, index: RequestIndex) -> None:
        self.ledger, self.index = ledger, index

    async def end(self, number: int, at_ms: int, **more: Any) -> RequestRecord:
        record = plain_record(f"req_{number:04}", at_ms=at_ms, **more)
        assert await self.ledger.settle(record)
        return record

    async def ids(self, wanted: Wanted, limit: int = 100) -> list[str]:
        """All of them, page by page."""
        found: list[str] = []
        after: Position | None = None
        for _ in range(1000):
            page = await self.index.page(wanted, after, limit)
            assert len(page.records) <= limit
            found += [record.request_id for record in page.records]
            after = page.after
            if after is None:
                return found
        raise AssertionError("the pages have no end")


@pytest.fixture
async def requests(request: pytest.FixtureRequest, calm_engine: str, aws: AwsClients) -> Requests:
    if calm_engine == "memory":
        memory = MemoryLedger()
        return Requests(memory, memory)
    client = aws(engine_url(request, calm_engine))
    table = await create_ledger_table(client)
    return Requests(DynamoDBLedger(client, table), DynamoDBRequests(client, table))


async def fill(requests: Requests, count: int) -> Sequence[RequestRecord]:
    """Of several keys, teams and models; three at each moment."""
    return [
        await requests.end(
            number,
            START + number // 3 * 60_000,
            key=f"key-{number % 7}",
            team=None if number % 4 == 0 else f"team-{number % 4}",
            user=f"user-{number % 2}",
            requested_model="fast" if number % 5 else "smart",
            routed_model=f"model-{number % 3}",
            provider="echo" if number % 3 else "openai",
            status="failed" if number % 6 == 0 else "settled",
        )
        for number in range(count)
    ]


async def test_newest_first_and_whole(requests: Requests) -> None:
    records = await fill(requests, 60)
    newest = sorted(records, key=lambda record: (record.at_ms, record.request_id), reverse=True)
    page = await requests.index.page(ALL, None, 100)
    assert list(page.records) == newest
    assert page.after is None


@pytest.mark.parametrize("limit", [1, 2, 7, 20, 59, 60, 61])
async def test_pages_join_without_a_seam(requests: Requests, limit: int) -> None:
    records = await fill(requests, 60)
    newest = sorted(records, key=lambda record: (record.at_ms, record.request_id), reverse=True)
    assert await requests.ids(ALL, limit) == [record.request_id for record in newest]


async def test_what_is_new_does_not_move_the_pages(requests: Requests) -> None:
    await fill(requests, 9)
    page = await requests.index.page(ALL, None, 5)
    await requests.end(9999, START + DAY)
    rest = await requests.index.page(ALL, page.after, 100)
    found = [record.request_id for record in (*page.records, *rest.records)]
    assert found == [f"req_{number:04}" for number in (8, 7, 6, 5, 4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    "chosen",
    [
        {"team": "team-1"},
        {"key": "key-3"},
        {"user": "user-1"},
        {"model": "smart"},
        {"model": "model-2"},
        {"provider": "openai"},
        {"status": "failed"},
        {"team": "team-2", "model": "fast", "status": "settled"},
        {"key": "nobody"},
    ],
)
@pytest.mark.parametrize("limit", [3, 100])
async def test_filters(requests: Requests, chosen: dict[str, Any], limit: int) -> None:
    records = await fill(requests, 60)
    wanted = replace(ALL, **chosen)
    expected = [record.request_id for record in records if wanted.has(record)]
    assert sorted(await requests.ids(wanted, limit)) == expected
    assert expected or chosen == {"key": "nobody"}


async def test_the_range_is_half_open(requests: Requests) -> None:
    for number, at_ms in enumerate((START - 1, START, START + DAY - 1, START + DAY)):
        await requests.end(number, at_ms)
    assert await requests.ids(Wanted(START, START + DAY)) == ["req_0002", "req_0001"]
    assert await requests.ids(Wanted(START, START)) == []
    assert await requests.ids(Wanted(START + DAY, START)) == []


async def test_open_ones_are_in_no_list(requests: Requests) -> None:
    record = open_record("req_open", at_ms=START)
    await requests.ledger.open(record)
    assert await requests.ids(ALL) == []
    await requests.ledger.abandon(replace(record, status="abandoned", cost_usd=Decimal("0.5")))
    assert await requests.ids(replace(ALL, status="abandoned")) == ["req_open"]
    await requests.ledger.settle(plain_record("req_open", at_ms=START))
    assert await requests.ids(replace(ALL, status="abandoned")) == []
    assert await requests.ids(replace(ALL, status="settled")) == ["req_open"]


async def test_every_request_of_a_time(requests: Requests) -> None:
    records = await fill(requests, 60)
    found = [record async for batch in requests.index.every(START, START + 10 * 60_000) for record in batch]
    assert sorted(found, key=lambda record: record.request_id) == list(records[:30])


async def test_any_name_finds_its_shard(requests: Requests) -> None:
    for number, key in enumerate((None, "", "größe", "a#b", "x" * 500)):
        await requests.end(number, START + number, key=key)
    for number, key in ((2, "größe"), (3, "a#b"), (4, "x" * 500)):
        assert await requests.ids(replace(ALL, key=key)) == [f"req_{number:04}"]
    assert len(await requests.ids(ALL)) == 5


async def test_a_page_reads_only_so_much(dynamodb: AwsJsonClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that finds little in much: pages may be empty, and lead on to everything."""
    table = await create_ledger_table(dynamodb)
    requests = Requests(DynamoDBLedger(dynamodb, table), SmallQueries(dynamodb, table))
    monkeypatch.setattr(dynamodb_requests, "_QUERIES", 2)
    for number in range(40):
        await requests.end(number, START + number, key="one", provider="rare" if number % 20 == 0 else "echo")
    dynamodb.calls.clear()
    page = await requests.index.page(replace(ALL, key="one", provider="rare"), None, 10)
    assert (page.records, dynamodb.calls["Query"]) == ([], 2)
    assert page.after is not None
    assert await requests.ids(replace(ALL, key="one", provider="rare"), 10) == ["req_0020", "req_0000"]
    assert await requests.ids(replace(ALL, provider="rare"), 10) == ["req_0020", "req_0000"]


class SmallQueries(DynamoDBRequests):
    """Reads three entries with each Query, where DynamoDB would read a megabyte."""

    def _query(self, *given: Any) -> dict[str, Any]:
        return {**super()._query(*given), "Limit": 3}


@pytest.mark.dynamodb_local
async def test_what_a_page_costs(real_dynamodb: AwsJsonClient) -> None:
    """One Query for each shard and one read of the items; one Query alone where the key is known."""
    table = await create_ledger_table(real_dynamodb)
    requests = Requests(DynamoDBLedger(real_dynamodb, table), DynamoDBRequests(real_dynamodb, table))
    await fill(requests, 30)
    real_dynamodb.calls.clear()
    await requests.index.page(ALL, None, 20)
    assert real_dynamodb.calls == {"Query": SHARDS, "BatchGetItem": 1}
    real_dynamodb.calls.clear()
    await requests.index.page(replace(ALL, key="key-1"), None, 20)
    assert real_dynamodb.calls == {"Query": 1, "BatchGetItem": 1}


@pytest.mark.dynamodb_local
async def test_the_index_is_written_once(real_dynamodb: AwsJsonClient) -> None:
    """What others put on the item later, a rollup's mark, is not in the index and costs nothing there."""
    table = await create_ledger_table(real_dynamodb)
    record = plain_record(str(uuid4()))
    await DynamoDBLedger(real_dynamodb, table).settle(record)
    real_dynamodb.capacity.clear()
    await real_dynamodb.call(
        "UpdateItem",
        {
            "TableName": table,
            "Key": {"pk": {"S": f"req#{record.request_id}"}},
            "UpdateExpression": "SET folded = :mark",
            "ExpressionAttributeValues": {":mark": {"S": "settled"}},
        },
    )
    assert real_dynamodb.capacity == {"UpdateItem": 1.0}
