"""Who calls and on whose behalf, over real HTTP: tags and users in the record, and the providers a key may reach."""

from collections.abc import Iterator

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp

CONFIG = """
[providers.other]
base_url = "http://127.0.0.1:9/v1"
credential = "none"
[models.both]
deployments = [{ provider = "other", model = "m" }, { provider = "echo", model = "demo" }]
[models.elsewhere]
deployments = [{ provider = "other", model = "m" }]
[teams.search]
[keys.tagged]
key = "sk-tagged-key"
team = "search"
user = "service"
tags = { cost_center = "4711" }
[keys.at-echo]
key = "sk-at-echo-only"
providers = ["echo"]
[keys.nowhere]
key = "sk-nowhere-at-all"
providers = []
"""


@pytest.fixture(scope="module")
def app() -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG) as running:
        yield running


def ask(
    app: GatewayApp, key: str, model: str, headers: dict[str, str] | None = None, user: str | None = None
) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "user": user}
    return httpx.post(
        f"{app.base_url}/chat/completions", json=body, headers={"authorization": f"Bearer {key}", **(headers or {})}
    )


def test_tags_of_the_request_are_recorded_beside_the_keys_own(app: GatewayApp) -> None:
    tags = {"X-Gateway-Tag-Feature": "autocomplete", "x-gateway-tag-cost_center": "somebody else's"}
    answer = ask(app, "sk-tagged-key", "echo:demo", tags)
    assert answer.status_code == 200
    record = app.record(answer.headers["x-request-id"])
    assert record.tags == {"feature": "autocomplete", "cost_center": "4711"}
    shown = httpx.get(f"{app.root}/usage/requests/{record.request_id}", headers=app.auth).json()
    assert shown["tags"] == record.tags


@pytest.mark.parametrize(("user", "recorded"), [("ann", "ann"), (None, "service")])
def test_the_bodys_user_is_recorded_and_else_the_keys(app: GatewayApp, user: str | None, recorded: str) -> None:
    answer = ask(app, "sk-tagged-key", "echo:demo", user=user)
    assert app.record(answer.headers["x-request-id"]).user == recorded


def test_a_tag_that_cannot_be_one_is_a_400_and_calls_nobody(app: GatewayApp) -> None:
    before = len(app.ledger.records)
    answer = ask(app, "sk-tagged-key", "echo:demo", {"x-gateway-tag-a.b": "x"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "x-gateway-tag-a.b")
    assert len(app.ledger.records) == before


def test_a_key_reaches_only_its_providers(app: GatewayApp) -> None:
    assert ask(app, "sk-at-echo-only", "echo:demo").status_code == 200
    aliased = ask(app, "sk-at-echo-only", "both")
    assert (aliased.status_code, aliased.headers["x-gateway-provider"]) == (200, "echo")
    for key, model in (
        ("sk-at-echo-only", "elsewhere"),
        ("sk-at-echo-only", "other:m"),
        ("sk-nowhere-at-all", "echo:demo"),
    ):
        refused = ask(app, key, model)
        assert refused.status_code == 403
        error = refused.json()["error"]
        assert (error["code"], error["type"], error["param"]) == ("provider_not_allowed", "permission_error", "model")


def test_the_list_of_models_shows_what_the_key_reaches(app: GatewayApp) -> None:
    listed = httpx.get(f"{app.base_url}/models", headers={"authorization": "Bearer sk-at-echo-only"}).json()["data"]
    assert {"both"} <= {model["id"] for model in listed}
    assert {model["owned_by"] for model in listed} == {"echo"}
    assert (
        httpx.get(f"{app.base_url}/models/elsewhere", headers={"authorization": "Bearer sk-at-echo-only"}).status_code
        == 404
    )
