"""Specifies how the control plane reads and edits what operators configure."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_gateway.admin.rendering import merged
from tests.fakes.admin_app import AdminApp

CONFIG = """
default_model = "fast"

[providers.corp]
base_url = "https://llm.corp.example/v1"

[models.fast]
deployments = [{ provider = "corp", model = "small-1" }]

[teams.search]
budget = { usd = "50", period = "month" }

[keys.ci]
team = "search"
key = "sk-ci-for-these-tests"
"""
NEW: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "providers": ("corp2", {"connection_params": {"base_url": "https://two.example/v1"}}, {"description": "two"}),
    "models": ("smart", {"deployments": [{"provider": "openai", "model": "gpt-4.1"}]}, {"fallbacks": ["fast"]}),
    "teams": ("ads", {"budget": {"usd": "5", "period": "day"}}, {"description": "sells"}),
    "users": ("ann", {"limits": {"rpm": 5}}, {"description": "ours"}),
    "keys": ("batch", {"team": "search", "models": ["fast"]}, {"owner": "ann"}),
    "prices": ("corp:small-1", {"input": "0.10", "output": "0.40"}, {"output": "0.50"}),
    "providers/corp/models": (
        "small/1",
        {"context_window": 128000, "prices": {"input": "1", "output": 2}},
        {"enabled": False},
    ),
}
NAMES = {"providers": "provider_id", "providers/corp/models": "model_id"}


@pytest.fixture
async def app() -> AsyncIterator[AdminApp]:
    one = AdminApp(CONFIG)
    yield one
    await one.close()


@pytest.mark.parametrize("group", NEW)
async def test_the_life_of_a_resource(app: AdminApp, group: str) -> None:
    name, body, change = NEW[group]
    path = f"/admin/{group}/{name}"
    member = NAMES.get(group, "name")
    assert (await app.call("GET", path)).status_code == 404

    made = await app.call("POST", f"/admin/{group}", {member: name, **body})
    assert made.status_code == 201, made.text
    assert made.json()[member] == name
    assert made.headers["cache-control"] == "no-store"
    found = await app.call("GET", made.headers["location"])
    assert found.status_code == 200
    assert found.headers["etag"] == made.headers["etag"]
    assert found.json().items() >= {key: value for key, value in made.json().items() if key != "key"}.items()

    again = await app.call("POST", f"/admin/{group}", {member: name, **body})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_exists")

    changed = await app.call("PATCH", path, change)
    assert changed.status_code == 200, changed.text
    assert changed.json().items() >= change.items()
    assert changed.headers["etag"] != found.headers["etag"]

    stale = await app.call("PUT", path, body, etag=found.headers["etag"])
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "precondition_failed")
    blind = await app.call("PUT", path, body)
    assert (blind.status_code, blind.json()["error"]["code"]) == (428, "precondition_required")

    same = await app.call("PUT", path, changed.json(), etag=changed.headers["etag"])
    assert same.status_code == 200, same.text
    assert same.headers["etag"] == changed.headers["etag"], "what was read was sent back: nothing has changed"
    replaced = await app.call("PUT", path, body, etag=same.headers["etag"])
    gone_again = set(change) - set(body)
    assert not [key for key in gone_again if replaced.json().get(key) == change[key]]

    listed = (await app.call("GET", f"/admin/{group}?limit=200")).json()["data"]
    assert replaced.json() in listed

    assert (await app.call("DELETE", path)).status_code == 428
    assert (await app.call("DELETE", path, etag=found.headers["etag"] + "x")).status_code == 412
    assert (await app.call("DELETE", path, etag=replaced.headers["etag"])).status_code == 204
    assert (await app.call("GET", path)).status_code == 404
    assert (await app.call("DELETE", path, etag=replaced.headers["etag"])).status_code == 404


@pytest.mark.parametrize("group", ["settings", "organisation"])
async def test_what_there_is_one_of(app: AdminApp, group: str) -> None:
    first = await app.call("GET", f"/admin/{group}")
    changes: dict[str, dict[str, Any]] = {
        "settings": {"x_gateway": False},
        "organisation": {"name": "acme", "limits": {"rpm": 9}},
    }
    change = changes[group]
    changed = await app.call("PATCH", f"/admin/{group}", change, etag=first.headers["etag"])
    assert changed.json().items() >= change.items()
    if group == "organisation":
        renamed = await app.call("PATCH", f"/admin/{group}", {"name": "acme2"})
        assert renamed.json()["limits"] == {"rpm": 9}
        assert [name for kind, name in (await app.registry.read()).entries if kind == group] == ["acme2"]
        changed = renamed
    assert (await app.call("DELETE", f"/admin/{group}", etag=changed.headers["etag"])).status_code == 204
    after = (await app.call("GET", f"/admin/{group}")).json()
    assert not change.items() & after.items() if group == "settings" else after["name"] == "default"


@pytest.mark.parametrize(
    ("method", "path", "body", "param", "words"),
    [
        ("POST", "teams", {"name": "t", "budget": {"usd": 0.5, "period": "day"}}, "budget.usd", "decimal in quotes"),
        ("POST", "teams", {"name": "t", "budget": {"usd": "1", "period": "dya"}}, "budget.period", "day"),
        ("POST", "teams", {"name": "t", "budgets": []}, "budgets", 'did you mean "budget"?'),
        ("POST", "teams", {"name": "t", "providers": {}}, "providers", "is not known here"),
        ("POST", "teams", {"budget": None}, "name", "required"),
        ("POST", "teams", {"name": "a\nb"}, "name", "control characters"),
        ("POST", "keys", {"name": "k", "team": "serach"}, "team", 'did you mean "search"?'),
        ("POST", "keys", {"name": "k", "expires_at": "tomorrow"}, "expires_at", "date and time with an offset"),
        ("POST", "keys", {"name": "k", "expires_at": "2027-01-01T00:00:00"}, "expires_at", "date and time"),
        ("POST", "keys", {"name": "k", "expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at", "date and time"),
        ("POST", "keys", {"name": "k", "role": "team-admin"}, "role", "needs a team"),
        ("POST", "keys", {"name": "k", "key": "sk-my-own-token"}, "key", "is not known here"),
        ("POST", "models", {"name": "m", "deployments": []}, "deployments", "must not be empty"),
        ("POST", "models", {"name": "m", "deployments": [{"provider": "nope", "model": "x"}]}, "deployments[0].provider", "not a provider"),
        ("PATCH", "models/fast", {"fallbacks": ["fast"]}, "fallbacks", "in a circle"),
        ("POST", "prices", {"name": "small-1", "input": "1", "output": "1"}, "name", "provider:model"),
        ("POST", "providers", {"provider_id": "new"}, "provider_id", "needs a base_url"),
        ("POST", "providers", {"provider_id": "new", "connection_params": {"base_url": "ftp://x"}}, "connection_params.base_url", "ftp"),
        ("POST", "providers", {"provider_id": "new", "connection_params": {"api_key_env": "X"}}, "connection_params.api_key_env", "not known"),
        ("POST", "providers", {"provider_id": "new", "provider_type": "grpc"}, "provider_type", "openai_chat"),
        ("POST", "providers", {"provider_id": "new", "models": [{"model_id": "a"}, {"model_id": "a"}]}, "models[1].model_id", "twice"),
        ("POST", "providers", {"provider_id": "Corp Two", "connection_params": {"base_url": "https://x.example"}}, "provider_id", "lower-case"),
        ("PATCH", "settings", {"default_provider": "nope"}, "default_provider", "not a provider"),
        ("PATCH", "providers/corp/models/x", {}, None, "There is no model"),
        ("POST", "keys/ci/rotate", {"overlap_s": -1}, "overlap_s", "greater than or equal to 0"),
        ("GET", "keys?colour=red", None, "colour", "There is no parameter"),
        ("GET", "keys?limit=0", None, "limit", "from 1 to 200"),
        ("GET", "keys?next=abc", None, "next", "not of this question"),
        ("GET", "audit?from=yesterday", None, "from", "a day, or a time"),
        ("GET", "audit?outcome=lost", None, "outcome", "done"),
    ],
)  # fmt: skip
async def test_what_a_file_could_not_say_is_refused_with_its_place(
    app: AdminApp, method: str, path: str, body: Any, param: str | None, words: str
) -> None:
    before = (await app.registry.read()).revision
    answer = await app.call(method, f"/admin/{path}", body)
    assert answer.status_code == (400 if param else 404)
    error = answer.json()["error"]
    assert (error["param"], words in error["message"]) == (param, True), error
    assert (await app.registry.read()).revision == before


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"name": "a", "name": "b"}', 400, "duplicate_member"),
        (b'{"name": "\xff"}', 400, "invalid_json"),
    ],
)
async def test_bodies_that_are_no_object(app: AdminApp, content: bytes, status: int, code: str) -> None:
    answer = await app.call("POST", "/admin/teams", content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("path", ["providers/corp", "teams/search"])
async def test_what_is_in_use_stays(app: AdminApp, path: str) -> None:
    etag = (await app.call("GET", f"/admin/{path}")).headers["etag"]
    answer = await app.call("DELETE", f"/admin/{path}", etag=etag)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "still_in_use")
    assert (await app.call("GET", f"/admin/{path}")).headers["etag"] == etag


async def test_a_vendor_that_ships_is_configured_and_let_go_again(app: AdminApp) -> None:
    shipped = await app.call("GET", "/admin/providers/azure-openai")
    assert (shipped.json()["configured"], shipped.json()["provider_id"]) == (False, "azure_openai")
    etag = shipped.headers["etag"]
    assert (await app.call("DELETE", "/admin/providers/azure_openai", etag=etag)).status_code == 404
    body = {"connection_params": {"base_url": "https://corp.openai.azure.com"}, "enabled": False}
    put = await app.call("PUT", "/admin/providers/azure_openai", body, etag=etag)
    assert put.status_code == 200, put.text
    assert (put.json()["configured"], put.json()["enabled"]) == (True, False)
    stored = (await app.registry.read()).entries["provider", "azure_openai"].document
    assert stored == {"base_url": "https://corp.openai.azure.com", "enabled": False}, "the vendor's own is not pinned"
    gone = await app.call("DELETE", "/admin/providers/azure_openai", etag=put.headers["etag"])
    assert gone.status_code == 204
    assert (await app.call("GET", "/admin/providers/azure_openai")).headers["etag"] == etag


async def test_a_models_price_is_the_price_list_s(app: AdminApp) -> None:
    prices = {"input": "0.1", "output": "0.4"}
    made = await app.call("POST", "/admin/providers/corp/models", {"model_id": "small-1", "prices": prices})
    assert made.status_code == 201
    assert (await app.call("GET", "/admin/prices/corp:small-1")).json()["output"] == "0.4"
    assert (await app.registry.read()).revision == 1, "both are one revision"
    await app.call("PATCH", "/admin/providers/corp/models/small-1", {"prices": None})
    assert (await app.call("GET", "/admin/prices/corp:small-1")).status_code == 404
    provider = (await app.call("GET", "/admin/providers/corp")).json()
    assert [model["model_id"] for model in provider["models"]] == ["small-1"]


async def test_pages_and_filters(app: AdminApp) -> None:
    for number in range(5):
        await app.call("POST", "/admin/users", {"name": f"u{number}"})
    seen, onward = [], ""
    while True:
        page = (await app.call("GET", f"/admin/users?limit=2{onward}")).json()
        seen.append([user["name"] for user in page["data"]])
        if page["next"] is None:
            break
        onward = f"&next={page['next']}"
    assert seen == [["u0", "u1"], ["u2", "u3"], ["u4"]]
    other = await app.call("GET", f"/admin/teams?limit=2{onward}")
    assert other.status_code == 400, "a token is of its question"
    assert [key["name"] for key in (await app.call("GET", "/admin/keys?team=search")).json()["data"]] == ["ci"]
    assert (await app.call("GET", "/admin/keys?team=search&state=disabled")).json()["data"] == []
    configured = (await app.call("GET", "/admin/providers?configured=true")).json()["data"]
    assert [provider["provider_id"] for provider in configured] == ["corp"]


async def test_a_create_with_an_idempotency_key_is_made_once(app: AdminApp) -> None:
    headers = {"idempotency-key": "one"}
    first = await app.call("POST", "/admin/keys", {"name": "batch"}, headers=headers)
    again = await app.call("POST", "/admin/keys", {"name": "batch"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["x-gateway-idempotent-replay"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert first.json()["key"].startswith("sk-")
    assert again.json() == {**first.json(), "key": None}, "a token is stored nowhere"
    other = await app.call("POST", "/admin/keys", {"name": "other"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    refused = await app.call("POST", "/admin/teams", {"name": "t", "markup": "x"}, headers={"idempotency-key": "two"})
    assert refused.status_code == 400
    mended = await app.call("POST", "/admin/teams", {"name": "t", "markup": "5%"}, headers={"idempotency-key": "two"})
    assert mended.status_code == 201, "what was refused has freed its key"


async def test_a_broken_entry_can_be_mended(app: AdminApp) -> None:
    """A fault that was there before does not stand in the way of edits beside it."""
    from llm_gateway.domain.ports import RegistryEntry

    await app.registry.delete_entry("team", "search")
    assert (await app.call("PATCH", "/admin/settings", {"x_gateway": False})).status_code == 200
    await app.registry.put_entry(RegistryEntry("team", "search", {}))
    assert (await app.call("PATCH", "/admin/keys/ci", {"owner": "ann"})).status_code == 200


def test_merge_patches() -> None:
    """The examples of RFC 7396, appendix A."""
    for target, patch, result in (
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ):
        assert merged(target, patch) == result


async def test_a_model_that_is_switched_off_is_called_by_nobody(app: AdminApp) -> None:
    from llm_gateway.catalog.build import build_catalog
    from llm_gateway.errors import ModelNotFound
    from llm_gateway.routing.resolve import resolve

    made = await app.call("POST", "/admin/providers/corp/models", {"model_id": "small-1", "enabled": False})
    assert made.status_code == 201
    for default in ("openai", "corp"):
        await app.call("PATCH", "/admin/settings", {"default_provider": default})
        catalog = build_catalog(await app.registry.load_catalog(), {})
        for name in ("corp:small-1", "fast", *(["small-1"] if default == "corp" else [])):
            with pytest.raises(ModelNotFound):
                resolve(name, catalog, {"corp", "openai"})
    await app.call("PATCH", "/admin/providers/corp/models/small-1", {"enabled": True})
    catalog = build_catalog(await app.registry.load_catalog(), {})
    assert resolve("fast", catalog, {"corp"}).deployments[0].model == "small-1"
