"""What the ledger's items are in DynamoDB, beyond the port: foreign attributes, expiry, write units, lost answers."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest

from llm_gateway.adapters.attributes import Item, request_key
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.domain.limits import Budget, Grant, Hold, Policy, Scope
from llm_gateway.domain.ports import HttpClient, HttpRequest, HttpResponse
from llm_gateway.errors import UpstreamCut, UpstreamError
from tests.contract.conftest import CREDENTIALS, create_ledger_table
from tests.contract.records import item_size, open_record, plain_record


@pytest.fixture
async def table(dynamodb: AwsJsonClient) -> str:
    return await create_ledger_table(dynamodb)


async def read(dynamodb: AwsJsonClient, table: str, request_id: str) -> Item:
    answer = await dynamodb.call("GetItem", {"TableName": table, "Key": request_key(request_id)})
    item: Item = answer["Item"]
    return item


async def test_what_others_put_on_the_item_stays(dynamodb: AwsJsonClient, table: str) -> None:
    ledger = DynamoDBLedger(dynamodb, table)
    record = open_record(str(uuid4()))
    await ledger.open(record)
    await dynamodb.call(
        "UpdateItem",
        {
            "TableName": table,
            "Key": request_key(record.request_id),
            "UpdateExpression": "SET folded = :mark, notes = :notes",
            "ExpressionAttributeValues": {":mark": {"BOOL": True}, ":notes": {"L": [{"S": "1"}]}},
        },
    )
    assert await ledger.settle(plain_record(record.request_id)) is True
    item = await read(dynamodb, table, record.request_id)
    assert item["folded"] == {"BOOL": True}
    assert item["notes"] == {"L": [{"S": "1"}]}
    assert "reserved" not in item
    assert await ledger.get(record.request_id) == plain_record(record.request_id)


async def test_expiry_counts_from_the_request(dynamodb: AwsJsonClient, table: str) -> None:
    ledger = DynamoDBLedger(dynamodb, table, retention_days=7)
    for record in (open_record("one"), plain_record("one"), plain_record("two")):
        if record.status == "open":
            await ledger.open(record)
        else:
            await ledger.settle(record)
        item = await read(dynamodb, table, record.request_id)
        assert item["ttl"] == {"N": str(1_770_000_000 + 7 * 86_400)}


@pytest.mark.dynamodb_local
async def test_two_calls_and_five_write_units_a_request(real_dynamodb: AwsJsonClient) -> None:
    table = await create_ledger_table(real_dynamodb)
    ledger = DynamoDBLedger(real_dynamodb, table)
    real_dynamodb.calls.clear()
    real_dynamodb.capacity.clear()
    await ledger.open(open_record("one"))
    await ledger.settle(plain_record("one"))
    assert real_dynamodb.calls == {"PutItem": 1, "UpdateItem": 1}
    # One unit each for the item, one each for its entry in the index `due`, which comes and goes, one for `listed`.
    assert real_dynamodb.capacity == {"PutItem": 2.0, "UpdateItem": 3.0}
    assert item_size(await read(real_dynamodb, table, "one")) < 700


@pytest.mark.dynamodb_local
async def test_a_further_attempt_costs_a_write_unit_for_each_change(real_dynamodb: AwsJsonClient) -> None:
    table = await create_ledger_table(real_dynamodb)
    ledger, scopes = DynamoDBLedger(real_dynamodb, table), DynamoDBScopes(real_dynamodb, table)
    record, policy = open_record("one", scopes=("team#search",)), Policy(budgets=(Budget(Decimal(9), "day"),))
    hold = Hold(Scope("team", "search"), Decimal(1), 10, 29_500_000, policy.labels(1_770_000_000), 1_770_000_900)
    await ledger.open(record)
    grant = await scopes.reserve("one", hold, policy, 1_770_000_000)
    assert isinstance(grant, Grant)
    real_dynamodb.capacity.clear()
    await ledger.open(replace(record, holds=(grant.tag,), scopes=(*record.scopes, "deployment#corp:b")))
    await scopes.widen("one", hold, grant.tag, Decimal(2), policy, 1_770_000_000)
    await scopes.leave("one", replace(hold, usd=Decimal(2)), grant.tag, 1_770_000_000)
    assert real_dynamodb.capacity == {"PutItem": 1.0, "UpdateItem": 2.0}


class LosesAnswers:
    """Passes everything on, and loses the first `lost` answers: the store did it, and nobody heard."""

    def __init__(self, http: HttpClient, lost: int) -> None:
        self._http = http
        self._lost = lost

    async def send(self, request: HttpRequest) -> HttpResponse:
        response = await self._http.send(request)
        if self._lost:
            self._lost -= 1
            return Lost(response)
        return response

    async def close(self) -> None:
        return None


class Lost:
    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, limit: int) -> bytes:
        await self._response.read(limit)
        raise UpstreamCut("lost on the way")

    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.chunks()

    def end(self, error: UpstreamError) -> None:
        self._response.end(error)

    async def close(self) -> None:
        await self._response.close()


def lossy(http: HttpClient, dynamodb: AwsJsonClient, lost: int) -> AwsJsonClient:
    return AwsJsonClient(
        LosesAnswers(http, lost),
        service="dynamodb",
        region="us-east-1",
        credentials=CREDENTIALS,
        endpoint_url=dynamodb._url,
        timeout_s=20.0,
        attempts=3,
    )


async def test_a_lost_answer_to_open_is_harmless(http: HttpClient, dynamodb: AwsJsonClient, table: str) -> None:
    record = open_record(str(uuid4()))
    await DynamoDBLedger(lossy(http, dynamodb, 2), table).open(record)
    assert await DynamoDBLedger(dynamodb, table).get(record.request_id) == record


async def test_a_lost_answer_to_settle_is_still_our_settlement(
    http: HttpClient, dynamodb: AwsJsonClient, table: str
) -> None:
    """The retry finds the item settled, by this very call: that is True. Another call's is False."""
    ledger = DynamoDBLedger(dynamodb, table)
    record = open_record(str(uuid4()))
    await ledger.open(record)
    mine = plain_record(record.request_id, cost_usd=Decimal("0.25"))
    assert await DynamoDBLedger(lossy(http, dynamodb, 2), table).settle(mine) is True
    assert await DynamoDBLedger(lossy(http, dynamodb, 1), table).settle(replace(mine, latency_ms=1)) is False
    assert await ledger.get(record.request_id) == mine
