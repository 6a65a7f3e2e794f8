"""What a laptop's environment leaves in the secret store, and takes away again."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.secrets_writer import SecretsManagerWriter
from llm_gateway.local.seed import seed_secrets
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials


@pytest.fixture
def shared() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made = boto3.client(
        "secretsmanager",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    yield made
    server.stop()


@pytest.fixture
def client(shared: Any) -> Any:
    shared.meta.events.register("before-sign", _account_of_its_own)
    return shared


@pytest.fixture
def stack() -> str:
    return f"gw-{uuid4().hex}"


def _account_of_its_own(request: Any, **_: Any) -> None:
    """Every moto server of a process has the same state, so other tests' secrets would be listed in the same account."""
    request.headers["x-moto-account-id"] = "210987654321"


def stored(client: Any, stack: str = "") -> dict[str, str]:
    names = [secret["Name"] for secret in client.list_secrets()["SecretList"] if secret["Name"].startswith(stack)]
    return {name: client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"] for name in names}


def test_the_secrets_follow_the_environment(client: Any) -> None:
    client.create_secret(Name="gw/team/search/groq", SecretString="by-hand")
    client.create_secret(Name="other/team/search/openai", SecretString="another-stack's")
    kept = {"gw/team/search/groq": "by-hand", "other/team/search/openai": "another-stack's"}
    seeded = {"gw/provider/openai": "k1", "gw/team/search/openai": "k2"}
    seed_secrets(client, "gw", seeded)
    assert stored(client) == kept | seeded
    seed_secrets(client, "gw", {"gw/team/search/openai": "k3"})
    assert stored(client) == kept | {"gw/team/search/openai": "k3"}
    seed_secrets(client, "gw", {})
    assert stored(client) == kept


@pytest.mark.parametrize("by_way_of", ["put", "promote"])
async def test_a_key_that_somebody_stored_stays_whatever_the_environment_has(
    shared: Any, stack: str, by_way_of: str
) -> None:
    name = f"{stack}/provider/openai"
    seed_secrets(shared, stack, {name: "k1"})
    await store(shared, name, "mine", by_way_of)
    told: list[str] = []
    seed_secrets(shared, stack, {name: "mine"}, told.append)
    seed_secrets(shared, stack, {}, told.append)
    assert told == []
    assert stored(shared, stack) == {name: "mine"}
    seed_secrets(shared, stack, {name: "k1"}, told.append)
    assert stored(shared, stack) == {name: "mine"}
    assert told == [f"llm-gateway keeps the key stored as {name}: the environment's is another, and is not used"]
    seed_secrets(shared, stack, {}, told.append)
    assert stored(shared, stack) == {name: "mine"}


async def test_a_key_that_somebody_took_away_comes_back_from_the_environment(shared: Any, stack: str) -> None:
    name = f"{stack}/provider/openai"
    await store(shared, name, "mine", "put")
    shared.delete_secret(SecretId=name, RecoveryWindowInDays=7)
    seed_secrets(shared, stack, {})
    seed_secrets(shared, stack, {name: "k1"})
    assert stored(shared, stack) == {name: "k1"}
    seed_secrets(shared, stack, {})
    assert stored(shared, stack) == {}


async def store(client: Any, name: str, key: str, by_way_of: str) -> None:
    """As the control plane stores one."""
    http = open_client()
    aws = AwsJsonClient(
        http,
        service="secretsmanager",
        region="us-east-1",
        credentials=StaticCredentials(AwsCredentials("test", "test")),
        endpoint_url=client.meta.endpoint_url,
        timeout_s=10,
    )
    writer = SecretsManagerWriter(aws)
    try:
        if by_way_of == "put":
            await writer.put_secret(name, key)
        else:
            await writer.promote(name, await writer.stage(name, key))
    finally:
        await http.close()
