"""Provider keys: from the secret store, cached, and read once more when the provider answers 401."""

from collections.abc import Iterator

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import OpenAIUpstream

CONFIG = """
default_provider = "corp"
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
[providers.headed]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "header"
credential_header = "api-key"
headers = {{ X-Title = "Our App" }}
[providers.classic]
dialect = "openai_chat"
base_url = "{root}"
credential = "header"
credential_header = "api-key"
quirks = {{ model_in_path = true, query = {{ api-version = "2024-10-21" }} }}
"""
HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture
def app(upstream: OpenAIUpstream) -> Iterator[GatewayApp]:
    config = CONFIG.format(base_url=upstream.base_url, root=upstream.base_url.removesuffix("/v1"))
    keys = {"corp": "sk-old", "headed": "sk-old", "classic": "sk-old"}
    with GatewayApp(config, secrets=keys) as running:
        yield running


def ask(app: GatewayApp, model: str) -> httpx.Response:
    return httpx.post(f"{app.base_url}/chat/completions", json={"model": model, "messages": HELLO}, headers=app.auth)


def test_a_replaced_key_is_picked_up_at_the_first_401(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.require_key("sk-old")
    assert ask(app, "x").status_code == 200
    upstream.require_key("sk-new")
    app.secret_store.put("llm-gateway/provider/corp", "sk-new")
    assert ask(app, "x").status_code == 200
    assert [request.headers["authorization"] for request in upstream.requests] == [
        "Bearer sk-old",
        "Bearer sk-old",
        "Bearer sk-new",
    ]


def test_the_refused_attempt_is_on_record(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.require_key("sk-new")
    app.secret_store.put("llm-gateway/provider/corp", "sk-old")
    assert ask(app, "x").status_code == 401
    app.secret_store.put("llm-gateway/provider/corp", "sk-new")
    answer = ask(app, "headed:x")
    record = app.record(answer.headers["x-request-id"])
    assert [(one.status, one.error) for one in record.attempts] == [(401, "invalid_api_key")]


def test_a_key_that_stays_wrong_is_tried_once(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.require_key("sk-other")
    answer = ask(app, "x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert len(upstream.requests) == 1


def test_headers_of_a_row_and_keys_in_a_header(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.require_key("sk-old")
    assert ask(app, "headed:x").status_code == 200
    sent = upstream.last().headers
    assert (sent["api-key"], sent["x-title"]) == ("sk-old", "Our App")
    assert "authorization" not in sent


def test_a_classic_azure_deployment(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    assert ask(app, "classic:gpt 4").status_code == 200
    assert upstream.last().target == "/openai/deployments/gpt%204/chat/completions?api-version=2024-10-21"


def test_a_provider_without_a_key_says_which_secret_is_missing() -> None:
    with GatewayApp() as app:
        answer = ask(app, "openai:gpt-4.1")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert "`llm-gateway/provider/openai`" in error["message"]
