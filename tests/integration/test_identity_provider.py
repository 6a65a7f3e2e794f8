"""Callers by a token of an identity provider, over real HTTP: beside keys, on every route, in the ledger."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider

CONFIG = """
[teams.search]
[teams.ads]
[keys.search-prod]
key = "sk-search-prod"
team = "search"
[keys."oidc:zoe"]
key = "sk-nobody-has-this"
limits = { rpm = 1 }
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    with provider.serving():
        yield provider


@pytest.fixture(scope="module")
def app(provider: IdentityProvider) -> Iterator[GatewayApp]:
    settings: dict[str, Any] = {
        "oidc_issuer": provider.issuer,
        "oidc_audience": AUDIENCE,
        "oidc_team_claim": "team",
        "oidc_role_claim": "groups",
        "oidc_roles": "ops=admin,leads=team-admin",
    }
    with GatewayApp(CONFIG, **settings) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def chat(app: GatewayApp, headers: dict[str, str], path: str = "/v1/chat/completions") -> httpx.Response:
    body = {"model": "echo:demo", "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{app.root}{path}", json=body, headers=headers)


def test_a_request_is_recorded_as_the_persons_and_the_teams(app: GatewayApp, provider: IdentityProvider) -> None:
    answer = chat(app, bearer(provider.token(team="search")))
    assert answer.status_code == 200
    record = app.record(answer.headers["x-request-id"])
    assert (record.key, record.user, record.team) == ("oidc:ann", "ann", "search")
    assert record.key_id is not None
    assert record.key_id.startswith("oidc:")


def test_limits_of_one_person_are_those_of_a_key_of_that_name(app: GatewayApp, provider: IdentityProvider) -> None:
    zoe, ben = (bearer(provider.token(team="search", sub=name)) for name in ("zoe", "ben"))
    assert [chat(app, zoe).status_code for _ in range(2)] == [200, 429]
    assert [chat(app, ben).status_code for _ in range(2)] == [200, 200]


def test_azures_clients_bring_it_as_their_key(app: GatewayApp, provider: IdentityProvider) -> None:
    path = "/openai/deployments/echo:demo/chat/completions"
    assert chat(app, {"api-key": provider.token(team="search")}, path).status_code == 200


def test_each_sees_what_its_role_may(app: GatewayApp, provider: IdentityProvider) -> None:
    request_id = chat(app, bearer(provider.token(team="search"))).headers["x-request-id"]
    app.record(request_id)
    for claims, status in (
        ({"team": "search"}, 200),
        ({"team": "search", "sub": "ben"}, 404),
        ({"team": "search", "sub": "ben", "groups": ["leads"]}, 200),
        ({"team": "ads", "sub": "ben", "groups": ["leads"]}, 404),
        ({"sub": "root", "groups": ["ops", "leads"]}, 200),
    ):
        shown = httpx.get(f"{app.root}/usage/requests/{request_id}", headers=bearer(provider.token(**claims)))
        assert shown.status_code == status, claims


def test_pages_go_on_with_a_renewed_token(app: GatewayApp, provider: IdentityProvider) -> None:
    for _ in range(2):
        app.record(chat(app, bearer(provider.token(team="search", sub="pat"))).headers["x-request-id"])
    asked = {"limit": "1"}
    first = httpx.get(
        f"{app.root}/usage/requests", params=asked, headers=bearer(provider.token(team="search", sub="pat"))
    ).json()
    renewed = bearer(provider.token(team="search", sub="pat", jti="renewed"))
    second = httpx.get(f"{app.root}/usage/requests", params={**asked, "next": first["next"]}, headers=renewed)
    assert second.status_code == 200
    assert second.json()["data"][0]["request_id"] != first["data"][0]["request_id"]


@pytest.mark.parametrize(
    ("claims", "status", "code"),
    [
        ({"team": "search", "exp": 1}, 401, "token_expired"),
        ({"team": "search", "aud": "another"}, 401, "invalid_token"),
        ({"team": "unknown"}, 403, "no_team"),
        ({}, 403, "no_team"),
    ],
)
def test_refusals_are_in_the_envelope(
    app: GatewayApp, provider: IdentityProvider, claims: dict[str, Any], status: int, code: str
) -> None:
    refused = chat(app, bearer(provider.token(**claims)))
    assert refused.status_code == status
    assert refused.json()["error"]["code"] == code
    assert ("www-authenticate" in refused.headers) == (status == 401)
    assert refused.headers["x-request-id"].startswith("req_")


def test_keys_go_on_as_they_were(app: GatewayApp) -> None:
    assert chat(app, bearer("sk-search-prod")).status_code == 200
    refused = chat(app, bearer("sk-wrong"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_gateway_without_a_provider_takes_a_token_for_a_wrong_key(provider: IdentityProvider) -> None:
    with GatewayApp(CONFIG) as plain:
        refused = chat(plain, bearer(provider.token(team="search")))
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
