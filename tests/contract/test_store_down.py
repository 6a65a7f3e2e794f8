"""When the store is gone, mute or hung, every call ends in `errors.Unavailable`, in time, and works again later."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_answers import DynamoDBAnswers
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.secrets_manager import SecretsManagerStore
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import AnswerClaim, RegistryEntry
from llm_gateway.errors import Unavailable
from tests.contract.conftest import AwsClients, create_ledger_table
from tests.contract.engines import DynamoDBLocal
from tests.contract.records import open_record, plain_record

# Two attempts of 0.4 s and one backoff of at most 0.1 s; the rest is what a busy machine may add.
IMPATIENT = {"connect_s": 0.4, "timeout_s": 0.4, "attempts": 2}
BOUND_S = 3.0


async def refused(call: Awaitable[object]) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await call
    assert time.monotonic() - began < BOUND_S


@pytest.fixture
def closed_port() -> str:
    """Where nobody listens: connections are refused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def mute() -> Iterator[str]:
    """Where connections are taken, by the kernel's queue, and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("where", ["closed_port", "mute"])
async def test_every_method(request: pytest.FixtureRequest, aws: AwsClients, where: str) -> None:
    url = request.getfixturevalue(where)
    ledger = DynamoDBLedger(aws(url, **IMPATIENT), "ledger")
    registry = DynamoDBRegistry(aws(url, **IMPATIENT), "registry")
    answers = DynamoDBAnswers(aws(url, **IMPATIENT), "cache")
    claim = AnswerClaim("key#one", "req_1", "print", 1, 2)
    secrets = SecretsManagerStore(aws(url, "secretsmanager", **IMPATIENT))
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: ledger.open(open_record("one")),
        lambda: ledger.settle(plain_record("one")),
        lambda: ledger.get("one"),
        lambda: answers.begin(claim),
        lambda: answers.finish(claim, None, 3),
        lambda: answers.release(claim),
        registry.load_catalog,
        lambda: registry.put_entry(RegistryEntry("team", "search", {})),
        lambda: registry.delete_entry("team", "search"),
        lambda: registry.find_key("one"),
        lambda: registry.put_key(VirtualKey("one", "one", "hash")),
        lambda: registry.delete_key("one"),
        registry.list_keys,
        lambda: secrets.get_secret("one"),
    ]
    await asyncio.gather(*(refused(call()) for call in calls))


async def test_a_missing_table_is_no_answer_either(dynamodb: AwsJsonClient) -> None:
    """The operator's mistake, told to the operator; a caller hears that the store cannot be used, not its name."""
    with pytest.raises(Unavailable) as caught:
        await DynamoDBLedger(dynamodb, "no-such-table").open(open_record("one"))
    assert "no-such-table" not in str(caught.value.envelope())
    assert "ResourceNotFoundException" in str(caught.value)


@pytest.mark.dynamodb_local
async def test_a_hung_engine_and_its_return(aws: AwsClients, dynamodb_local: DynamoDBLocal) -> None:
    patient = aws(dynamodb_local.url)
    table = await create_ledger_table(patient)
    ledger = DynamoDBLedger(aws(dynamodb_local.url, **IMPATIENT), table)
    await DynamoDBLedger(patient, table).open(open_record("one"))
    dynamodb_local.hang()
    try:
        await refused(ledger.open(open_record("two")))
        await refused(ledger.settle(plain_record("one")))
        await refused(ledger.get("one"))
    finally:
        dynamodb_local.go_on()
    again = DynamoDBLedger(patient, table)
    await again.open(open_record("two"))
    assert await again.get("two") == open_record("two")
    # The settlement was given up, not undone: the engine may have taken it from its queue on waking.
    took = await again.settle(plain_record("one"))
    assert took in (True, False)
    assert await again.get("one") == plain_record("one")
