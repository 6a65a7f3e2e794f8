"""What a laptop's environment leaves in the secret store, and takes away again."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from llm_gateway.local.seed import seed_secrets


@pytest.fixture
def client() -> Iterator[Any]:
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
    made.meta.events.register("before-sign", _account_of_its_own)
    yield made
    server.stop()


def _account_of_its_own(request: Any, **_: Any) -> None:
    """Every moto server of a process has the same state, so other tests' secrets would be listed in the same account."""
    request.headers["x-moto-account-id"] = "210987654321"


def stored(client: Any) -> dict[str, str]:
    names = [secret["Name"] for secret in client.list_secrets()["SecretList"]]
    return {name: client.get_secret_value(SecretId=name)["SecretString"] for name in names}


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
