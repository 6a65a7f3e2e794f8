"""Usage as it is asked for, over each engine's own totals and lists: the same answers, in the same order, page by page."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_requests import DynamoDBRequests
from llm_gateway.adapters.dynamodb_totals import DynamoDBTotals
from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_totals import MemoryTotals
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.listing import Wanted
from llm_gateway.domain.ports import Ledger, TotalsStore
from llm_gateway.domain.totals import GROUPS
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import PermissionDenied
from llm_gateway.pipeline.usage_queries import UsageQueries, UsageRow
from llm_gateway.pipeline.usage_question import Days, UsageQuestion
from tests.contract.conftest import AwsClients, create_ledger_table, create_registry_table, engine_url
from tests.contract.records import plain_record

FEBRUARY = Days(date(2028, 2, 1), date(2028, 2, 29))
TEAMS = (None, "", "%", "a#b", "größe")


@dataclass
class Books:
    ledger: Ledger
    totals: TotalsStore
    queries: UsageQueries


@pytest.fixture
async def books(request: pytest.FixtureRequest, calm_engine: str, aws: AwsClients) -> Books:
    if calm_engine == "memory":
        memory = MemoryLedger()
        totals = MemoryTotals(memory)
        return Books(memory, totals, UsageQueries(totals, memory, memory))
    client = aws(engine_url(request, calm_engine))
    table = await create_ledger_table(client)
    ledger, kept = DynamoDBLedger(client, table), DynamoDBTotals(client, await create_registry_table(client), table)
    return Books(ledger, kept, UsageQueries(kept, DynamoDBRequests(client, table), ledger))


async def filled(books: Books) -> list[RequestRecord]:
    """Two days of a leap year's February, and the moments around the month that are not in it."""
    moments = [datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC)]
    outside = [datetime(2028, 1, 31, 23, 59, 59, 999_000, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)]
    made = [
        plain_record(
            f"req_{place}_{number}",
            at_ms=round(moment.timestamp() * 1000),
            team=TEAMS[number % len(TEAMS)],
            key=f"key-{number % 3}",
            tags={"env": "prod"},
            routed_model=f"model-{number % 2}",
            cost_usd=Decimal(number + 1) / 1000,
        )
        for place, moment in enumerate((*moments, *outside))
        for number in range(10)
    ]
    for record in made:
        assert await books.ledger.settle(record)
    await books.totals.fold(made)
    return made[:20]


async def test_every_kept_group_adds_up_by_day_and_without(books: Books) -> None:
    records = await filled(books)
    for group in GROUPS:
        for group_by in (group, (*group, "day")):
            rows = [row async for row in books.queries.rows(UsageQuestion(FEBRUARY, group_by), None)]
            assert sum(row.totals.calls for row in rows) == len(records), group_by
            assert sum(row.totals.cost_usd for row in rows) == sum(record.cost_usd or 0 for record in records)
            assert len({row.place for row in rows}) == len(rows), "each row once"


@pytest.mark.parametrize("group_by", [("team", "model"), ("day", "team"), ("model", "team", "day")])
async def test_pages_join_in_one_order(books: Books, group_by: tuple[str, ...]) -> None:
    await filled(books)
    question = UsageQuestion(FEBRUARY, group_by)
    whole = [row async for row in books.queries.rows(question, None)]
    for limit in (1, 3, len(whole)):
        found: list[UsageRow] = []
        token = None
        while True:
            page = await books.queries.page(question, None, limit, token)
            found += page.rows
            token = page.next
            if token is None:
                break
        assert found == whole
    teams = [row.values["team"] for row in whole if row.day in (None, FEBRUARY.first)]
    assert set(teams) == set(TEAMS)


async def test_a_team_admin_sees_the_team_and_nothing_else(books: Books) -> None:
    records = await filled(books)
    boss = VirtualKey("id", "boss", "hash", role="team-admin", team="a#b")
    rows = [row async for row in books.queries.rows(UsageQuestion(FEBRUARY, ("key",)), boss)]
    mine = [record for record in records if record.team == "a#b"]
    assert {row.values["key"]: row.totals.calls for row in rows} == {
        key: sum(record.key == key for record in mine) for key in {record.key for record in mine}
    }
    with pytest.raises(PermissionDenied):
        await books.queries.page(UsageQuestion(FEBRUARY, ("day",), {"team": "größe"}), boss, 10, None)


async def test_a_caller_sees_what_its_key_did_in_its_team_alone(books: Books) -> None:
    records = await filled(books)
    for team in ("a#b", "größe", None):
        viewer = VirtualKey("id", "key-0", "hash", team=team)
        mine = [record for record in records if (record.team, record.key) == (team, "key-0")]
        assert mine
        rows = [row async for row in books.queries.rows(UsageQuestion(FEBRUARY), viewer)]
        assert sum(row.totals.calls for row in rows) == len(mine)
        first, until = FEBRUARY.milliseconds()
        found = (await books.queries.requests(Wanted(first, until), viewer, 100, None)).records
        assert {record.request_id for record in found} == {record.request_id for record in mine}
        for record in records:
            seen = await books.queries.request(record.request_id, viewer)
            assert (seen is not None) == (record in mine)
        # No totals are kept by team, key and model: where the name was another team's too nothing is shown.
        with pytest.raises(PermissionDenied, match="2028-02-29"):
            await books.queries.page(UsageQuestion(FEBRUARY, ("model",)), viewer, 10, None)


async def test_a_name_of_one_team_is_grouped_by_model(books: Books) -> None:
    at = round(datetime(2028, 2, 3, tzinfo=UTC).timestamp() * 1000)
    record = plain_record("req_one", at_ms=at, team="a#b", key="mine", routed_model="model-1")
    assert await books.ledger.settle(record)
    await books.totals.fold([record])
    viewer = VirtualKey("id", "mine", "hash", team="a#b")
    page = await books.queries.page(UsageQuestion(FEBRUARY, ("model",)), viewer, 10, None)
    assert [(row.values["model"], row.totals.calls) for row in page.rows] == [("model-1", 1)]
