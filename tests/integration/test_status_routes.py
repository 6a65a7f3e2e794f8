"""`/health/ready` and `/models/available`, over real HTTP."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.errors import Unavailable
from tests.fakes.gateway_app import GatewayApp

CONFIG = """
[providers.vertex]
like = "openai"
base_url = "http://127.0.0.1:9/v1/projects/p/locations/europe-west1/endpoints/openapi"
credential = "none"
[providers.nokey]
base_url = "http://127.0.0.1:9/v1"
[providers.off]
base_url = "http://127.0.0.1:9/v1"
credential = "none"
enabled = false
[models.both]
deployments = [{ provider = "nokey", model = "m" }, { provider = "echo", model = "demo" }]
[models.near]
deployments = [{ provider = "vertex", model = "m" }]
[models.dark]
deployments = [{ provider = "nokey", model = "m" }]
[models.switched-off]
deployments = [{ provider = "off", model = "m" }]
[keys.narrow]
key = "sk-narrow"
models = ["both"]
[keys.nothing]
key = "sk-nothing"
models = []
"""


CHECKS = ("registry", "ledger", "secrets", "configuration")


class BrokenLedger(MemoryLedger):
    async def get(self, request_id: str) -> Any:
        raise Unavailable(f"No store to read {request_id} from, says arn:aws:dynamodb:canary.")


@pytest.fixture(scope="module")
def app() -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG) as running:
        yield running


def available(app: GatewayApp, key: str) -> dict[str, Any]:
    answer = httpx.get(f"{app.root}/models/available", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert answer.json()["object"] == "list"
    return {each["id"]: each for each in answer.json()["data"]}


def test_ready_needs_no_key(app: GatewayApp) -> None:
    answer = httpx.get(f"{app.root}/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": dict.fromkeys(CHECKS, "ok")}
    assert httpx.head(f"{app.root}/health/ready").status_code == 200


def test_what_is_away_is_named_and_nothing_else_is_told() -> None:
    with GatewayApp(CONFIG, ledger=BrokenLedger()) as broken:
        answer = httpx.get(f"{broken.root}/health/ready")
        alive = httpx.get(f"{broken.root}/health")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    body = answer.json()
    assert body["checks"] == dict.fromkeys(CHECKS, "ok") | {"ledger": "unreachable"}
    assert body["error"] == {
        "message": "Not reachable: ledger.",
        "type": "server_error",
        "param": None,
        "code": "not_ready",
    }
    assert "canary" not in answer.text
    assert alive.status_code == 200, "a process is not restarted because its store is away"


@pytest.mark.parametrize("environment", [{"OPENAI_BASE_URL": "canary"}, {"LLM_PROVIDER": "canary"}])
def test_an_environment_that_makes_no_catalog_is_not_ready(environment: dict[str, str]) -> None:
    with GatewayApp(environment=environment) as broken:
        answer = httpx.get(f"{broken.root}/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == dict.fromkeys(CHECKS, "ok") | {"configuration": "unusable"}
    assert "canary" not in answer.text


def test_an_admin_sees_every_model_that_can_be_called(app: GatewayApp) -> None:
    found = available(app, app.auth["Authorization"].removeprefix("Bearer "))
    assert found["both"] == {
        "id": "both",
        "object": "model",
        "alias": True,
        "deployments": [{"provider": "echo", "model": "demo", "region": None}],
    }
    assert not {"dark", "switched-off"} & set(found)
    assert found["near"]["deployments"] == [{"provider": "vertex", "model": "m", "region": "europe-west1"}]
    assert not found["echo:echo"]["alias"]


def test_a_key_sees_what_it_may_use(app: GatewayApp) -> None:
    assert set(available(app, "sk-narrow")) == {"both"}
    assert available(app, "sk-nothing") == {}


def test_a_key_is_needed(app: GatewayApp) -> None:
    assert httpx.get(f"{app.root}/models/available").status_code == 401


def test_a_model_of_that_name_can_still_be_asked_for(app: GatewayApp) -> None:
    answer = httpx.get(f"{app.base_url}/models/available", headers=app.auth)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
