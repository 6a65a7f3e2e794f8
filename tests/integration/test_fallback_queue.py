"""The fallback queue on SQS as moto has it: what the gateway sends, the rollup reads."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import boto3
import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.fallback_message import decode_lost
from llm_gateway.adapters.sqs import SqsLostSettlements
from llm_gateway.bootstrap import build, lost_settlements
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Hold, Scope
from llm_gateway.errors import Unavailable
from llm_gateway.settings import Settings
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.contract.engines import MotoServer
from tests.contract.records import plain_record

KEYS = AwsCredentials("testing", "testing")
HOLD = Hold(Scope("key", "a # ü"), Decimal("0.000000000001"), 7, 29_500_000, ("T",), 1_770_000_900)
LOST = LostSettlement(plain_record(cost_usd=Decimal("0.125"), tags={"a": "<&>\u20ac\U0001f600"}), ((HOLD, "tag"),))


@pytest.fixture
def moto() -> Iterator[str]:
    server = MotoServer()
    yield server.url
    server.stop()


@pytest.fixture
def sqs(moto: str) -> Iterator[Any]:
    client = boto3.client(
        "sqs", region_name="us-east-1", endpoint_url=moto, aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    yield client
    client.close()


@pytest.fixture
async def client(moto: str) -> AsyncIterator[AwsJsonClient]:
    http = open_client()
    yield AwsJsonClient(
        http, service="sqs", region="us-east-1", credentials=StaticCredentials(KEYS), endpoint_url=moto, timeout_s=10.0
    )
    await http.close()


async def test_what_is_put_is_received(sqs: Any, client: AwsJsonClient) -> None:
    url = sqs.create_queue(QueueName="fallback")["QueueUrl"]
    await SqsLostSettlements(client, url).put(LOST)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert decode_lost(message["Body"]) == LOST


async def test_a_queue_that_is_not_there_is_unavailable(client: AwsJsonClient) -> None:
    with pytest.raises(Unavailable) as caught:
        await SqsLostSettlements(client, "http://sqs.us-east-1.amazonaws.com/123456789012/none").put(LOST)
    assert "QueueDoesNotExist" in str(caught.value) or "NonExistentQueue" in str(caught.value)


async def test_what_is_too_long_for_a_message_is_not_sent(client: AwsJsonClient) -> None:
    long = LostSettlement(replace(LOST.record, tags={"a": "\u20ac" * 349_526}))
    with pytest.raises(Unavailable, match="too long"):
        await SqsLostSettlements(client, "http://127.0.0.1/none").put(long)
    assert client.calls == {}


async def test_it_is_made_where_the_deployment_names_a_queue(
    sqs: Any, client: AwsJsonClient, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lost_settlements(lambda: client, None) is None
    url = sqs.create_queue(QueueName="named")["QueueUrl"]
    seen: list[Any] = []
    monkeypatch.setattr("llm_gateway.bootstrap.assemble", lambda settings, stores, *rest: seen.append(stores))
    parts = build(Settings(AWS_ENDPOINT_URL=moto, LEDGER_FALLBACK_QUEUE_URL=url), aws_credentials=KEYS)
    await seen[0].lost().put(LOST)
    await parts.http.close()
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1
