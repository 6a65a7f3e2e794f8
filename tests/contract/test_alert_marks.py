"""The contract of `ports.AlertMarks`: one claim at a time, and none once it is sent."""

import asyncio

import pytest

from llm_gateway.adapters.dynamodb_alerts import DynamoDBAlerts
from llm_gateway.adapters.memory_totals import MemoryAlerts
from llm_gateway.domain.ports import AlertMarks
from tests.contract.conftest import AwsClients, create_registry_table, engine_url

NAME = "team#search # ü#D2026-11-21#10#0.5"


@pytest.fixture
async def marks(request: pytest.FixtureRequest, calm_engine: str, aws: AwsClients) -> AlertMarks:
    if calm_engine == "memory":
        return MemoryAlerts()
    client = aws(engine_url(request, calm_engine))
    return DynamoDBAlerts(client, await create_registry_table(client))


async def test_one_of_many_gets_the_claim(marks: AlertMarks) -> None:
    tokens = await asyncio.gather(*(marks.claim(NAME, 1000, 1120) for _ in range(6)))
    assert len([token for token in tokens if token is not None]) == 1
    assert await marks.claim(NAME, 1120, 1240) is None
    assert await marks.claim("another", 1000, 1120) is not None


async def test_a_claim_that_ran_out_is_anothers(marks: AlertMarks) -> None:
    first = await marks.claim(NAME, 1000, 1120)
    second = await marks.claim(NAME, 1121, 1241)
    assert first is not None
    assert second is not None
    await marks.release(NAME, first)  # late: it is not the first's any more
    assert await marks.claim(NAME, 1130, 1250) is None


async def test_one_that_is_given_back_is_free(marks: AlertMarks) -> None:
    token = await marks.claim(NAME, 1000, 1120)
    assert token is not None
    await marks.release(NAME, token)
    assert await marks.claim(NAME, 1001, 1121) is not None


async def test_one_that_is_sent_is_never_free(marks: AlertMarks) -> None:
    token = await marks.claim(NAME, 1000, 1120)
    assert token is not None
    await marks.sent(NAME, 1001)
    await marks.release(NAME, token)
    assert await marks.claim(NAME, 999_999, 1_000_119) is None
