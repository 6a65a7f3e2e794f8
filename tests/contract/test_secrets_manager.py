"""The contract of `ports.SecretStore`, on the fake and on moto's Secrets Manager; and what may stand in a secret."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.memory import MemorySecrets
from llm_gateway.adapters.secrets_manager import SecretsManagerStore
from llm_gateway.domain.ports import SecretStore
from tests.contract.conftest import AwsClients
from tests.contract.engines import MotoServer

Put = Callable[[str, str], Awaitable[None]]


@pytest.fixture
def manager(aws: AwsClients, moto: MotoServer) -> AwsJsonClient:
    return aws(moto.url, "secretsmanager")


async def put(manager: AwsJsonClient, name: str, **content: Any) -> None:
    """Creates the secret, or gives it a new current version."""
    listed = await manager.call("ListSecrets", {"Filters": [{"Key": "name", "Values": [name]}]})
    if any(secret["Name"] == name for secret in listed["SecretList"]):
        await manager.call("PutSecretValue", {"SecretId": name, "ClientRequestToken": "2" * 32, **content})
    else:
        await manager.call("CreateSecret", {"Name": name, "ClientRequestToken": "1" * 32, **content})


@pytest.fixture(params=["memory", "moto"])
def secrets(request: pytest.FixtureRequest) -> tuple[SecretStore, Put]:
    if request.param == "memory":
        memory = MemorySecrets()

        async def put_in_memory(name: str, text: str) -> None:
            memory.put(name, text)

        return memory, put_in_memory

    manager: AwsJsonClient = request.getfixturevalue("manager")

    async def put_in_manager(name: str, text: str) -> None:
        await put(manager, name, SecretString=text)

    return SecretsManagerStore(manager), put_in_manager


async def test_there_or_not(secrets: tuple[SecretStore, Put]) -> None:
    store, put_secret = secrets
    assert await store.get_secret("stack/provider/none") is None
    await put_secret("stack/provider/openai", "sk-one")
    assert await store.get_secret("stack/provider/openai") == "sk-one"
    await put_secret("stack/provider/openai", "sk-two")
    assert await store.get_secret("stack/provider/openai") == "sk-two"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sk-one\n", "sk-one"),
        ('{"api_key": "sk-one"}', "sk-one"),
        (' {"api_key": " sk-one\\n", "note": "x"}\n', "sk-one"),
        ('{"type": "service_account"}', '{"type": "service_account"}'),
        ('{"api_key": 5}', '{"api_key": 5}'),
        ("{not json", "{not json"),
        (" ", None),
        ('{"api_key": ""}', None),
    ],
)
async def test_what_may_stand_in_a_secret(manager: AwsJsonClient, text: str, found: str | None) -> None:
    name = f"stack/provider/{abs(hash(text))}"
    await put(manager, name, SecretString=text)
    assert await SecretsManagerStore(manager).get_secret(name) == found


async def test_a_binary_secret(manager: AwsJsonClient) -> None:
    await put(manager, "stack/provider/binary", SecretBinary="c2stb25l")
    assert await SecretsManagerStore(manager).get_secret("stack/provider/binary") == "sk-one"


async def test_one_that_waits_for_its_deletion_is_gone(manager: AwsJsonClient) -> None:
    await put(manager, "stack/provider/gone", SecretString="sk-one")
    await manager.call("DeleteSecret", {"SecretId": "stack/provider/gone", "RecoveryWindowInDays": 7})
    assert await SecretsManagerStore(manager).get_secret("stack/provider/gone") is None
