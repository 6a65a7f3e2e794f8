"""The control plane's function as it is deployed, on moto: functions/admin/app.py with its events from events/."""

import asyncio
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.local.tables import create_tables
from llm_gateway.settings import Settings
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.contract.engines import MotoServer, fresh_tables
from tests.fakes.admin_app import check_answer

ROOT = Path(__file__).parents[2]
KEYS = AwsCredentials("testing", "testing")
Call = Callable[..., httpx.Response]


def event(name: str, **changes: Any) -> dict[str, Any]:
    return {**json.loads((ROOT / "events" / f"{name}.json").read_text()), **changes}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    server, tables = MotoServer(), fresh_tables()
    for name, table in tables.items():
        monkeypatch.setenv(name, table)
    made = Settings.from_environment({"AWS_ENDPOINT_URL": server.url, "STACK_NAME": "admin-function", **tables})
    client = boto3.client(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id=KEYS.access_key,
        aws_secret_access_key=KEYS.secret_key,
    )
    create_tables(client, made)
    client.close()
    asyncio.run(put_key(made, VirtualKey(lookup_id("sk-local"), "local", hash_key("sk-local"), role="admin")))
    yield made
    server.stop()


async def put_key(settings: Settings, key: VirtualKey) -> None:
    http = open_client()
    aws = AwsJsonClient(
        http,
        service="dynamodb",
        region="us-east-1",
        credentials=StaticCredentials(KEYS),
        endpoint_url=settings.aws_endpoint_url,
    )
    await DynamoDBRegistry(aws, settings.registry_table).put_key(key)
    await http.close()


@pytest.fixture
def call(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """The function's answer to an event, as API Gateway's caller would get it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(settings.aws_endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    monkeypatch.setenv("STACK_NAME", settings.stack)
    monkeypatch.setenv("LOG_LEVEL", "CRITICAL")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum runs on the current one, as it does in Lambda
    spec = importlib.util.spec_from_file_location("admin_app", ROOT / "functions" / "admin" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def called(sent: dict[str, Any]) -> httpx.Response:
        given = module.handler(sent, None)
        headers = {**given.get("headers", {}), **{k: v[0] for k, v in given.get("multiValueHeaders", {}).items()}}
        assert not given["isBase64Encoded"]
        answer = httpx.Response(given["statusCode"], headers=headers, text=given["body"])
        check_answer(sent["httpMethod"], sent["path"], answer)
        return answer

    yield called
    loop.run_until_complete(module.handler.app.aclose())
    loop.close()
    asyncio.set_event_loop(None)


def test_a_key_is_made_once_and_opens_the_door(call: Call) -> None:
    made, again = call(event("admin_create_key")), call(event("admin_create_key"))
    assert (made.status_code, again.status_code) == (201, 201)
    assert made.json()["key"].startswith("sk-")
    assert again.json() == {**made.json(), "key": None}
    assert made.json()["budget"][0]["usd"] == "5"
    with_it = event("admin_audit", headers={"authorization": f"Bearer {made.json()['key']}"}, multiValueHeaders=None)
    assert call(with_it).status_code == 403, "it is a caller's: known, and not let in here"


def test_what_was_done_is_audited_with_where_from(call: Call) -> None:
    changed = call(event("admin_change_provider"))
    assert (changed.status_code, changed.json()["description"]) == (200, "billed to research")
    refused = call(event("admin_change_provider", body='{"descripton": "x"}'))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "descripton")
    done = call(event("admin_audit")).json()["data"]
    told = next(each for each in done if each["action"] == "provider.change")
    assert (told["actor"], told["source_ip"], told["request_id"]) == (
        "local",
        "203.0.113.7",
        changed.headers["x-request-id"],
    )
    assert told["changes"][0]["after"]["description"] == "billed to research"


def test_a_providers_key_goes_to_secrets_manager_and_nowhere_else(call: Call, settings: Settings) -> None:
    path = "/admin/providers/openai/key"
    sent = event(
        "admin_change_provider",
        path=path,
        pathParameters={"proxy": path.removeprefix("/admin/")},
        httpMethod="PUT",
        body='{"value": "sk-canary-77ab31", "test": false, "rotate_in_days": 30}',
    )
    for _ in range(2):
        stored = call(sent)
        assert (stored.status_code, stored.json()["configured"]) == (200, True), stored.text
        assert stored.json()["rotate_at"] is not None
    client = boto3.client(
        "secretsmanager",
        region_name="us-east-1",
        endpoint_url=settings.aws_endpoint_url,
        aws_access_key_id=KEYS.access_key,
        aws_secret_access_key=KEYS.secret_key,
    )
    assert client.get_secret_value(SecretId="admin-function/provider/openai")["SecretString"] == "sk-canary-77ab31"
    client.close()
    assert "sk-canary" not in call(event("admin_audit")).text
