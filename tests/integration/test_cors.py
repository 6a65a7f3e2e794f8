"""CORS: configured origins only, on answers, errors and streams; a preflight needs no key."""

from collections.abc import Iterator

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp

ORIGIN = "https://app.corp.example"
OTHER = "https://evil.example"


@pytest.fixture(scope="module")
def app() -> Iterator[GatewayApp]:
    with GatewayApp(f'cors_origins = ["{ORIGIN}"]', cors_origins=("https://from-settings.example",)) as running:
        yield running


def preflight(app: GatewayApp, origin: str) -> httpx.Response:
    return httpx.options(
        f"{app.base_url}/chat/completions",
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-gateway-tag-feature,x-stainless-lang",
        },
    )


@pytest.mark.parametrize("origin", [ORIGIN, "https://from-settings.example"])
def test_a_preflight_names_authorization_and_needs_no_key(app: GatewayApp, origin: str) -> None:
    answer = preflight(app, origin)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "x-gateway-tag-feature" in answer.headers["access-control-allow-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


def test_a_preflight_from_elsewhere_is_refused_in_the_envelope(app: GatewayApp) -> None:
    answer = preflight(app, OTHER)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    assert answer.json()["error"]["code"] == "permission_denied"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["echo:a", "echo:error-500", "unknown"])
def test_answers_errors_and_streams(app: GatewayApp, model: str, stream: bool) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    answer = httpx.post(f"{app.base_url}/chat/completions", json=body, headers={**app.auth, "origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "x-should-retry", "x-gateway-max-tokens"} <= set(exposed)
    assert answer.headers["vary"] == "Origin"
    foreign = httpx.post(f"{app.base_url}/chat/completions", json=body, headers={**app.auth, "origin": OTHER})
    assert "access-control-allow-origin" not in foreign.headers


def test_errors_of_the_framework_and_of_auth(app: GatewayApp) -> None:
    for answer in (
        httpx.get(f"{app.root}/nothing", headers={"origin": ORIGIN}),
        httpx.post(f"{app.base_url}/chat/completions", headers={"origin": ORIGIN}),
    ):
        assert answer.is_client_error
        assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_a_wildcard_comes_without_credentials() -> None:
    with GatewayApp('cors_origins = ["*"]') as running:
        answer = preflight(running, OTHER)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
