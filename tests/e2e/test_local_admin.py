"""The control plane beside `llm-gateway run`: what is configured there serves calls here."""

import time
from typing import Any

import httpx

from tests.fakes.gateway_process import GatewayProcess


def admin(gateway: GatewayProcess, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    root = gateway.base_url.removesuffix("/v1")
    given = {"authorization": f"Bearer {gateway.key}", **headers}
    return httpx.request(method, f"{root}/admin/{path}", json=body, headers=given, timeout=30)


def test_a_key_made_here_calls_a_model_made_here(gateway: GatewayProcess) -> None:
    assert admin(gateway, "POST", "teams", {"name": "e2e"}).status_code == 201
    model = {"name": "e2e-fast", "deployments": [{"provider": "echo", "model": "demo"}]}
    assert admin(gateway, "POST", "models", model).status_code == 201
    key = admin(gateway, "POST", "keys", {"name": "e2e-key", "team": "e2e", "models": ["e2e-fast"]}).json()["key"]
    body = {"model": "e2e-fast", "messages": [{"role": "user", "content": "hello"}]}
    answer = chat(gateway, key, body, until=200)
    assert answer.json()["choices"][0]["message"]["content"] == "echo: hello"
    assert admin(gateway, "POST", "keys/e2e-key/disable").json()["state"] == "disabled"
    assert chat(gateway, key, body, until=401).json()["error"]["code"] == "invalid_api_key"


def chat(gateway: GatewayProcess, key: str, body: Any, *, until: int) -> httpx.Response:
    """A change reaches the gateway within 30 seconds."""
    deadline = time.monotonic() + 35
    while True:
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=30)
        if answer.status_code == until or time.monotonic() > deadline:
            assert answer.status_code == until, answer.text
            return answer
        time.sleep(0.5)


def test_a_providers_key_is_stored_and_tested(gateway: GatewayProcess) -> None:
    tested = admin(gateway, "POST", "providers/echo/test", {"model": "demo"}).json()
    assert (tested["ok"], tested["status"]) == (True, 200)
    stored = admin(gateway, "PUT", "providers/openai/key", {"value": "sk-never-sent-anywhere", "test": False})
    assert (stored.status_code, stored.json()["configured"]) == (200, True)
    replaced = admin(gateway, "PUT", "providers/openai/key", {"value": "sk-never-sent-either", "test": False})
    assert replaced.status_code == 200
    assert admin(gateway, "GET", "providers/openai").json()["api_key"]["configured"] is True
    assert admin(gateway, "DELETE", "providers/openai/key").status_code == 204
    assert "sk-never" not in admin(gateway, "GET", "audit").text + gateway.log


def test_the_description_and_the_gateways_own_routes_are_there(gateway: GatewayProcess) -> None:
    assert admin(gateway, "GET", "openapi.json").json()["openapi"].startswith("3.1")
    assert admin(gateway, "GET", "nothing").json()["error"]["code"] == "unknown_url"
    assert httpx.get(f"{gateway.base_url.removesuffix('/v1')}/admin", timeout=30).status_code == 404
    assert httpx.get(f"{gateway.base_url.removesuffix('/v1')}/health", timeout=30).json() == {"status": "ok"}
