"""`GET /providers/status`: how the providers are, for an admin and for those who may use a part of them; and that a
store of health that is away costs requests nothing."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.memory_health import MemoryHealth
from llm_gateway.domain.health import Finding
from llm_gateway.errors import Unavailable
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import OpenAIUpstream, chat, error

CONFIG = """
[providers.corp]
base_url = "{base_url}"
credential = "none"
[providers.spare]
base_url = "{base_url}"
credential = "none"
[models.fast]
deployments = [
  {{ provider = "corp", model = "small-1" }},
]
fallbacks = ["smart"]
retries = 0
[models.smart]
deployments = [{{ provider = "spare", model = "large-1" }}, {{ provider = "corp", model = "large-1", weight = 1 }}]
retries = 0
[models.secret]
deployments = [{{ provider = "spare", model = "secret-1" }}]
[keys.search]
key = "sk-test-search-key"
models = ["fast"]
[keys.corp-only]
key = "sk-test-corp-only"
providers = ["corp"]
"""
Deployments = dict[str, dict[str, Any]]


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        for model in ("small-1", "large-1", "secret-1"):
            running.script(model, chat("yes"))
        yield running


@pytest.fixture
def store() -> MemoryHealth:
    return MemoryHealth()


@pytest.fixture
def app(upstream: OpenAIUpstream, store: MemoryHealth) -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), health=store) as running:
        yield running


def ask(app: GatewayApp, model: str = "fast") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{app.base_url}/chat/completions", json=body, headers=app.auth)


def status(app: GatewayApp, key: str | None = None, path: str = "/v1/providers/status") -> dict[str, dict[str, Any]]:
    headers = app.auth if key is None else {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{app.root}{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["object"] == "list"
    return {each["provider"]: each for each in answer.json()["data"]}


def deployments(found: Mapping[str, dict[str, Any]]) -> Deployments:
    return {each["deployment"]: each for provider in found.values() for each in provider["deployments"]}


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("path", ["/v1/providers/status", "/providers/status"])
def test_all_is_well_at_first(app: GatewayApp, path: str) -> None:
    found = status(app, path=path)
    assert {name: each["status"] for name, each in found.items()} == {"corp": "ok", "spare": "ok"}
    assert deployments(found)["corp:small-1"] == {
        "deployment": "corp:small-1",
        "model": "small-1",
        "region": None,
        "state": "closed",
        "since": None,
        "retry_at": None,
        "last_error": None,
        "failures": 0,
        "error_rate": 0.0,
        "latency_ms": None,
        "ttft_ms": None,
        "tokens_per_s": None,
        "in_flight": 0,
    }


def test_one_that_fails_is_told_with_its_reason(app: GatewayApp, upstream: OpenAIUpstream, store: MemoryHealth) -> None:
    upstream.script("small-1", error(503))
    for _ in range(5):
        assert ask(app).status_code == 200
    found = status(app)
    assert {name: each["status"] for name, each in found.items()} == {"corp": "degraded", "spare": "ok"}
    broken = deployments(found)["corp:small-1"]
    assert (broken["state"], broken["failures"], broken["error_rate"]) == ("open", 5, 1.0)
    assert broken["last_error"]
    assert abs(unix_s(broken["since"]) - time.time()) < 10
    assert 4 < unix_s(broken["retry_at"]) - unix_s(broken["since"]) < 6
    assert any(each["latency_ms"] is not None for each in deployments(found).values())
    assert store.calls["tell"] == 1


def test_what_another_found_out_is_told_too(app: GatewayApp, upstream: OpenAIUpstream, store: MemoryHealth) -> None:
    now = round(time.time() * 1000)
    store.findings["corp:small-1"] = Finding(now - 100, now, now + 5000, now - 60_000, "upstream_timeout")
    broken = deployments(status(app))["corp:small-1"]
    assert (broken["state"], broken["last_error"], broken["failures"]) == ("open", "upstream_timeout", 0)
    assert round(unix_s(broken["since"]) * 1000) == pytest.approx(now - 60_000, abs=2)
    assert ask(app).status_code == 200
    assert [each.json["model"] for each in upstream.requests] == ["large-1"]


def test_a_provider_all_of_whose_deployments_fail_is_down(app: GatewayApp, store: MemoryHealth) -> None:
    now = round(time.time() * 1000)
    for name in ("corp:small-1", "corp:large-1"):
        store.findings[name] = Finding(now - 100, now, now + 5000, now, "x")
    assert status(app)["corp"]["status"] == "down"


def test_an_admin_sees_what_was_called_by_its_own_name(app: GatewayApp) -> None:
    assert ask(app, "corp:small-1").status_code == 200
    assert ask(app, "spare:large-1").status_code == 200
    ask(app, "corp:not-there")
    assert "corp:not-there" in deployments(status(app))


def test_callers_see_what_they_may_use(app: GatewayApp) -> None:
    ask(app, "corp:not-there")
    assert set(deployments(status(app, "sk-test-search-key"))) == {"corp:small-1", "spare:large-1", "corp:large-1"}
    assert set(deployments(status(app, "sk-test-corp-only"))) == {"corp:small-1", "corp:large-1"}


@pytest.mark.parametrize("path", ["/v1/providers/status", "/providers/status"])
def test_nobody_else_sees_anything(app: GatewayApp, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer sk-wrong"}):
        answer = httpx.get(f"{app.root}{path}", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
    assert httpx.post(f"{app.root}{path}", headers=app.auth).status_code == 405


def test_it_is_documented(upstream: OpenAIUpstream) -> None:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), docs=True) as app:
        told = httpx.get(f"{app.root}/openapi.json").json()["paths"]["/providers/status"]["get"]
        assert set(told["responses"]) >= {"200", "401"}
        assert status(app, path="/providers/status").keys() == {"corp", "spare"}


class Away(MemoryHealth):
    async def read(self) -> Mapping[str, Finding]:
        raise Unavailable("The gateway's own store does not answer.")

    async def tell(self, name: str, finding: Finding, over: Mapping[str, Finding]) -> Finding | None:
        raise Unavailable("The gateway's own store does not answer.")


def test_a_store_that_is_away_costs_requests_nothing(upstream: OpenAIUpstream) -> None:
    upstream.script("small-1", error(503))
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), health=Away()) as app:
        for _ in range(6):
            assert ask(app).status_code == 200
        assert deployments(status(app))["corp:small-1"]["state"] == "open"
