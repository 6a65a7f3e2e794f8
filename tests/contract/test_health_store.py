"""The contract of `ports.HealthStore`: of two findings the later call's stays, in whatever order they are told."""

import asyncio
from dataclasses import replace

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_health import DynamoDBHealth
from llm_gateway.adapters.memory_health import MemoryHealth
from llm_gateway.domain.health import Finding
from llm_gateway.domain.ports import HealthStore
from tests.contract.conftest import AwsClients, client_and_table, create_ledger_table

AT = 1_770_000_000_123
NAME = "corp:größe/small-1@eu-central-1#second"
OPEN = Finding(AT - 50, AT, AT + 5000, AT - 20_000, "upstream_cut")
WELL = Finding(AT + 6000, AT + 6100)


@pytest.fixture
async def health(request: pytest.FixtureRequest, engine: str, aws: AwsClients) -> HealthStore:
    """An empty store on each engine."""
    if engine == "memory":
        return MemoryHealth()
    return DynamoDBHealth(*await client_and_table(request, engine, aws))


async def test_nothing_was_found_at_first(health: HealthStore) -> None:
    assert await health.read() == {}


async def test_what_is_told_is_read(health: HealthStore) -> None:
    bare = Finding(AT, AT, AT + 1)
    assert await health.tell(NAME, OPEN, {}) is None
    assert await health.tell("openai:gpt-4.1", WELL, {}) is None
    assert await health.tell("pk", bare, {}) is None
    assert await health.tell("ttl", bare, {}) is None
    assert await health.read() == {NAME: OPEN, "openai:gpt-4.1": WELL, "pk": bare, "ttl": bare}


async def test_the_later_call_is_right(health: HealthStore) -> None:
    assert await health.tell(NAME, WELL, {}) is None
    assert await health.tell(NAME, OPEN, {}) == WELL
    assert await health.read() == {NAME: WELL}
    again = replace(OPEN, began=WELL.began + 1)
    assert await health.tell(NAME, again, {}) is None
    assert await health.read() == {NAME: again}


async def test_told_twice_is_told_once(health: HealthStore) -> None:
    for _ in range(2):
        assert await health.tell(NAME, OPEN, {}) is None
    assert await health.read() == {NAME: OPEN}


async def test_whoever_tells_at_once_leaves_the_latest(health: HealthStore) -> None:
    findings = [replace(OPEN, began=AT + number) for number in range(12)]
    await asyncio.gather(*(health.tell(NAME, each, {}) for each in findings))
    assert await health.read() == {NAME: findings[-1]}


async def test_what_is_over_is_forgotten(health: HealthStore) -> None:
    for number in range(20):
        await health.tell(f"corp:{number}", OPEN, {})
    over = {f"corp:{number}": OPEN for number in range(1, 20)}
    assert await health.tell("corp:0", WELL, over) is None
    assert await health.read() == {"corp:0": WELL}
    assert await health.tell("corp:0", WELL, over) is None


async def test_one_that_has_changed_is_not_forgotten(health: HealthStore) -> None:
    newer = replace(OPEN, began=AT + 1, until=AT + 9000)
    await health.tell("corp:changed", newer, {})
    await health.tell("corp:own", OPEN, {"corp:changed": OPEN, "corp:own": OPEN})
    assert await health.read() == {"corp:changed": newer, "corp:own": OPEN}


async def test_a_reading_is_half_a_unit_and_a_finding_one(real_dynamodb: AwsJsonClient) -> None:
    health = DynamoDBHealth(real_dynamodb, await create_ledger_table(real_dynamodb))
    for number in range(3):
        await health.tell(f"corp:{number}", OPEN, {})
    await health.read()
    assert real_dynamodb.capacity["UpdateItem"] == 3.0
    assert real_dynamodb.capacity["GetItem"] == 0.5
    for number in range(3, 30):
        await health.tell(f"a-provider:a-model-of-a-usual-length-{number}", OPEN, {})
    await health.read()
    assert real_dynamodb.capacity["GetItem"] == 1.0, "thirty of them are still half a unit"
