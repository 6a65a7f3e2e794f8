"""Specifies how keys of providers are written, tried and never shown, and how providers are tested."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llm_gateway.adapters.memory import MemorySecrets
from llm_gateway.errors import Unavailable
from tests.fakes.admin_app import ADMIN, AdminApp
from tests.fakes.openai_upstream import OpenAIUpstream, Reply, chat, error

CANARY = "sk-canary-3f9a1c77d2"
OLD = "sk-old-key-of-corp"
NAME = "llm-gateway/provider/corp"


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as one:
        yield one


@pytest.fixture
async def app(upstream: OpenAIUpstream) -> AsyncIterator[AdminApp]:
    one = AdminApp(f'[providers.corp]\nbase_url = "{upstream.base_url}"\n[teams.search]\n', secrets={NAME: OLD})
    yield one
    await one.close()


async def test_a_key_is_tried_before_it_counts(app: AdminApp, upstream: OpenAIUpstream) -> None:
    upstream.require_key(CANARY)
    answer = await app.call("PUT", "/admin/providers/corp/key", {"value": CANARY})
    assert answer.status_code == 200, answer.text
    assert answer.json()["tested"]["ok"] is True
    assert [(one.method, one.path, one.headers["authorization"]) for one in upstream.requests] == [
        ("GET", "/v1/models", f"Bearer {CANARY}")
    ]
    assert await app.secrets.get_secret(NAME) == CANARY
    assert CANARY not in answer.text


async def test_a_key_that_the_provider_refuses_leaves_the_old_one(app: AdminApp, upstream: OpenAIUpstream) -> None:
    upstream.require_key(OLD)
    answer = await app.call("PUT", "/admin/providers/corp/key", {"value": CANARY})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "provider_key_refused")
    assert await app.secrets.get_secret(NAME) == OLD
    note = await app.secrets.describe(NAME)
    assert note is not None
    assert note.staged is None
    assert CANARY not in answer.text
    assert app.events[-1].outcome == "refused"


async def test_a_first_key_that_is_refused_is_not_stored(app: AdminApp, upstream: OpenAIUpstream) -> None:
    upstream.require_key(OLD)
    path = "/admin/teams/search/providers/corp/key"
    assert (await app.call("PUT", path, {"value": CANARY})).status_code == 422
    assert await app.secrets.get_secret("llm-gateway/team/search/corp") is None
    assert (await app.call("DELETE", path)).status_code == 404
    assert (await app.call("PUT", path, {"value": OLD})).status_code == 200
    assert (await app.call("DELETE", path)).status_code == 204
    assert await app.secrets.get_secret("llm-gateway/team/search/corp") is None


async def test_every_one_of_several_keys_is_tried(app: AdminApp, upstream: OpenAIUpstream) -> None:
    upstream.require_key(OLD)
    several = f'{{"keys": ["{OLD}", {{"key": "{CANARY}", "name": "spare"}}]}}'
    answer = await app.call("PUT", "/admin/providers/corp/key", {"value": several})
    assert answer.status_code == 422
    assert "`spare`" in answer.json()["error"]["message"]
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "not empty"),
        (" \n", "not empty"),
        ("sk with spaces", "no header can carry"),
        ("sk-ümlaut", "no header can carry"),
        ('{"keys": []}', "a list of 1 to 100"),
        ('{"api": "sk-canary-3f9a1c77d2"}', "cannot be read as a key"),
        (7, "must be a string"),
    ],
)
async def test_what_is_no_key_is_refused_unquoted(app: AdminApp, value: object, words: str) -> None:
    answer = await app.call("PUT", "/admin/providers/corp/key", {"value": value, "test": False})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "value")
    assert words in answer.json()["error"]["message"]
    assert CANARY not in answer.text
    assert await app.secrets.get_secret(NAME) == OLD


ACCOUNT = {
    "type": "service_account",
    "client_email": "a@b",
    "private_key": CANARY,
    "token_uri": "https://oauth2.googleapis.com/token",
}
FEDERATED = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/pool",
    "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
    "token_url": "https://sts.googleapis.com/v1/token",
}
VERTEX = """
[providers.google_vertex]
base_url = "https://vertex.invalid/v1"
[teams.search]
[keys.lead]
team = "search"
role = "team-admin"
key = "sk-lead-of-search"
"""


@pytest.mark.parametrize(
    ("whose", "document", "words"),
    [
        ("admin", ACCOUNT, None),
        ("admin", FEDERATED, None),
        ("team", ACCOUNT, None),
        ("admin", {**FEDERATED, "token_url": "https://["}, "its `token_url` is not Google's"),
        ("admin", {**ACCOUNT, "token_uri": "http://127.0.0.1:9001/"}, "its `token_uri` is not Google's"),
        ("admin", {**ACCOUNT, "quota_project_id": 5}, "its `quota_project_id` is no project"),
        ("team", FEDERATED, "proves the gateway's own AWS role"),
        ("team", {"keys": [{"key": FEDERATED}]}, "proves the gateway's own AWS role"),
        ("team", {**ACCOUNT, "token_uri": "https://evil.example/token"}, "its `token_uri` is not Google's"),
    ],
)
async def test_a_credential_file_is_looked_at_before_it_is_stored(whose: str, document: Any, words: str | None) -> None:
    app = AdminApp(VERTEX)
    key, path, name = (
        (ADMIN, "/admin/providers/google_vertex/key", "provider/google_vertex")
        if whose == "admin"
        else ("sk-lead-of-search", "/admin/teams/search/providers/google_vertex/key", "team/search/google_vertex")
    )
    answer = await app.call("PUT", path, {"value": json.dumps(document), "test": False}, key=key)
    stored = await app.secrets.get_secret(f"llm-gateway/{name}")
    if words is None:
        assert (answer.status_code, json.loads(stored or "")) == (200, document)
    else:
        assert (answer.status_code, answer.json()["error"]["param"], stored) == (400, "value", None)
        assert words in answer.json()["error"]["message"]
    assert CANARY not in answer.text
    await app.close()


async def test_a_key_may_come_with_its_provider(app: AdminApp, upstream: OpenAIUpstream) -> None:
    body = {"connection_params": {"base_url": upstream.base_url}, "api_key": {"value": CANARY}}
    made = await app.call("POST", "/admin/providers", {"provider_id": "new", **body})
    assert (made.status_code, made.json()["api_key"]["configured"]) == (201, True)
    assert await app.secrets.get_secret("llm-gateway/provider/new") == CANARY
    again = await app.call("PUT", "/admin/providers/new", made.json(), etag=made.headers["etag"])
    assert again.status_code == 200, "what says that there is a key is no key"
    assert await app.secrets.get_secret("llm-gateway/provider/new") == CANARY
    assert (await app.call("DELETE", "/admin/providers/new", etag=again.headers["etag"])).status_code == 204
    assert await app.secrets.get_secret("llm-gateway/provider/new") is None, "it goes with its provider"
    wrong = await app.call("POST", "/admin/providers", {"provider_id": "new", **body, "api_key": {"value": "a b"}})
    assert wrong.status_code == 400
    assert (await app.call("GET", "/admin/providers/new")).status_code == 404, "nothing was left half-way"


async def test_what_an_api_key_says_is_read_to_the_letter(app: AdminApp) -> None:
    for given, param in (
        ({}, "api_key.value"),
        ({"vaule": CANARY}, "api_key.vaule"),
        ({"value": CANARY, "test": True}, "api_key.test"),
        ({"rotate_at": None}, "api_key.value"),
    ):
        answer = await app.call("PATCH", "/admin/providers/corp", {"api_key": given})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert CANARY not in answer.text
    assert await app.secrets.get_secret(NAME) == OLD
    gone = await app.call("PATCH", "/admin/providers/corp", {"api_key": None})
    assert (gone.status_code, gone.json()["api_key"]["configured"]) == (200, False)
    assert await app.secrets.get_secret(NAME) is None
    assert [event.target_kind for event in app.events if event.outcome == "done"][-1] == "secret"


async def test_a_refused_address_is_not_quoted_with_its_query(app: AdminApp) -> None:
    for url in (f"https://x.example/v1?key={CANARY}", f"https://x.example/#{CANARY}", f"ftp://me:{CANARY}@x.example"):
        body = {"provider_id": "new", "connection_params": {"base_url": url}}
        answer = await app.call("POST", "/admin/providers", body)
        assert answer.status_code == 400
        assert CANARY not in answer.text
    assert CANARY not in str(app.events)


OF_TEAM = ("llm-gateway/team/search/corp", "llm-gateway/team/search/openai")


async def with_keys_of_a_team() -> AdminApp:
    config = '[providers.corp]\nbase_url = "https://c.example/v1"\n[teams.search]\n'
    stays = {"llm-gateway/provider/openai": OLD, "llm-gateway/team/ads/openai": OLD}
    return AdminApp(config, secrets={NAME: OLD, **dict.fromkeys(OF_TEAM, OLD), **stays})


async def left(app: AdminApp) -> set[str]:
    every = (NAME, *OF_TEAM, "llm-gateway/provider/openai", "llm-gateway/team/ads/openai")
    return {name for name in every if await app.secrets.get_secret(name) is not None}


async def test_a_teams_keys_go_with_it() -> None:
    app = await with_keys_of_a_team()
    assert (await app.call("DELETE", "/admin/teams/search", etag="*")).status_code == 204
    assert await left(app) == {NAME, "llm-gateway/provider/openai", "llm-gateway/team/ads/openai"}
    assert {(change.before or {})["secret_name"] for change in app.events[-1].changes} == set(OF_TEAM)
    await app.close()


async def test_what_apply_prunes_takes_its_keys_along() -> None:
    app = await with_keys_of_a_team()
    done = await app.call("POST", "/admin/apply?prune=true", {}, etag="*")
    assert done.status_code == 200, done.text
    assert await left(app) == {"llm-gateway/provider/openai", "llm-gateway/team/ads/openai"}
    assert (app.events[-1].target_kind, len(app.events[-1].changes)) == ("secret", 3)
    await app.close()


class Keeping(MemorySecrets):
    async def delete_secret(self, name: str) -> bool:
        raise Unavailable("The gateway's own store does not answer.")


async def test_keys_that_could_not_be_deleted_are_told() -> None:
    config = '[providers.corp]\nbase_url = "https://c.example/v1"\n[teams.search]\n'
    app = AdminApp(config, writer=Keeping(dict.fromkeys((NAME, *OF_TEAM), OLD)))
    deleted = await app.call("DELETE", "/admin/teams/search", etag="*")
    assert deleted.status_code == 503
    assert OF_TEAM[0] in deleted.json()["error"]["message"]
    done = await app.call("POST", "/admin/apply?prune=true", {}, etag="*")
    assert (done.status_code, done.json()["secrets_left"]) == (200, [NAME])
    assert [event.outcome for event in app.events] == ["done", "failed", "done", "failed"]
    await app.close()


class Refusing(MemorySecrets):
    async def put_secret(self, name: str, text: str) -> str:
        raise Unavailable("The gateway's own store does not answer.")


async def test_a_key_that_could_not_be_stored_is_no_success() -> None:
    app = AdminApp(writer=Refusing())
    body = {"provider_id": "new", "connection_params": {"base_url": "https://x.example"}, "api_key": {"value": CANARY}}
    answer = await app.call("POST", "/admin/providers", body)
    assert answer.status_code == 503
    assert "not its key" in answer.json()["error"]["message"]
    assert [event.outcome for event in app.events] == ["done", "failed"]
    await app.close()


async def test_rotation_is_noted(app: AdminApp) -> None:
    path = "/admin/providers/corp/rotation"
    assert (await app.call("GET", path)).json()["rotate_at"] is None
    noted = await app.call("PUT", path, {"in_days": 90})
    assert noted.json()["overdue"] is False
    assert (await app.call("GET", "/admin/providers/corp")).json()["api_key"]["rotate_at"] == noted.json()["rotate_at"]
    assert (await app.call("DELETE", path)).status_code == 204
    assert (await app.call("GET", path)).json()["rotate_at"] is None
    await app.secrets.schedule_rotation(NAME, 1)
    assert (await app.call("GET", path)).json()["overdue"] is True
    assert (await app.call("PUT", "/admin/providers/openai/rotation", {"in_days": 1})).status_code == 404
    assert (await app.call("PUT", path, {"in_days": 0})).status_code == 400


async def test_a_provider_is_tested_by_one_real_call(app: AdminApp, upstream: OpenAIUpstream) -> None:
    upstream.script("small-1", chat("ok"))
    good = (await app.call("POST", "/admin/providers/corp/test", {"model": "small-1"})).json()
    assert (good["ok"], good["status"], good["called"]) == (True, 200, "chat.completions")
    assert good["usage"]["output_tokens"] > 0
    assert upstream.requests[-1].json["model"] == "small-1"
    listed = (await app.call("POST", "/admin/providers/corp/test")).json()
    assert (listed["ok"], listed["called"]) == (True, "models")
    assert len(upstream.requests) == 2
    assert [event.action for event in app.events] == ["provider.test", "provider.test"]


async def test_a_failed_test_is_an_answer_without_the_key(app: AdminApp, upstream: OpenAIUpstream) -> None:
    upstream.script("small-1", error(401, f"Incorrect API key provided: {OLD}.", type="authentication_error"))
    answer = await app.call("POST", "/admin/providers/corp/test", {"model": "small-1"})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["ok"], told["status"], told["error"]["type"]) == (False, 401, "authentication_error")
    assert OLD not in answer.text
    down = AdminApp('[providers.down]\nbase_url = "http://127.0.0.1:1/v1"\ncredential = "none"\n')
    told = (await down.call("POST", "/admin/providers/down/test")).json()
    assert (told["ok"], told["status"], told["error"]["code"]) == (False, None, "upstream_unreachable")
    await down.close()


async def test_a_provider_without_a_key_is_not_called(app: AdminApp, upstream: OpenAIUpstream) -> None:
    await app.call("DELETE", "/admin/providers/corp/key")
    answer = await app.call("POST", "/admin/providers/corp/test")
    assert (answer.status_code, "no key yet" in answer.text) == (400, True)
    assert upstream.requests == []
    assert (await app.call("POST", "/admin/providers/bedrock/test")).status_code == 400, "it has no list: name a model"


async def test_models_are_refreshed_from_the_provider(app: AdminApp, upstream: OpenAIUpstream) -> None:
    for name in ("small-1", "vendor/large"):
        upstream.script(name, chat("ok"))
    await app.call("POST", "/admin/providers/corp/models", {"model_id": "gone", "context_window": 8})
    await app.call("POST", "/admin/providers/corp/models", {"model_id": "small-1", "context_window": 8})
    told = (await app.call("POST", "/admin/providers/corp/models/refresh")).json()
    assert (told["found"], told["added"], told["missing"]) == (2, ["vendor/large"], ["gone"])
    kept = (await app.call("GET", "/admin/providers/corp/models/small-1")).json()
    assert kept["context_window"] == 8
    assert (await app.call("GET", "/admin/providers/corp/models/vendor/large")).status_code == 200
    upstream.require_key("sk-another")
    failed = await app.call("POST", "/admin/providers/corp/models/refresh")
    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "upstream_error")


async def test_an_odd_name_in_a_providers_list_keeps_no_other_out(app: AdminApp, upstream: OpenAIUpstream) -> None:
    odd = (" lead", "trail ", ".", "..", "x" * 257, "a\nb", "a\u200bb", "a\u2028b", "")
    upstream.queue(Reply({"data": [{"id": name} for name in (*odd, "ok", "vendor/a:b", "x" * 256)]}))
    told = await app.call("POST", "/admin/providers/corp/models/refresh")
    assert told.status_code == 200, told.text
    assert told.json()["added"] == ["ok", "vendor/a:b", "x" * 256]
    assert (await app.call("GET", "/admin/providers/corp/models/ok")).status_code == 200


async def test_lists_are_read_to_their_end(app: AdminApp, upstream: OpenAIUpstream) -> None:
    upstream.queue(Reply(b'{"data": [{"id": "a"}], "has_more": true, "last_id": "a"}'))
    upstream.queue(Reply(b'{"data": [{"id": "b"}], "has_more": false}'))
    upstream.queue(Reply(b'{"models": [{"name": "models/c"}], "nextPageToken": "t"}'))
    upstream.queue(Reply(b'{"models": [{"name": "models/d"}]}'))
    for expected in (["a", "b"], ["c", "d"]):
        assert (await app.call("POST", "/admin/providers/corp/models/refresh")).json()["added"] == expected
    assert [one.target for one in upstream.requests] == [
        "/v1/models", "/v1/models?after_id=a", "/v1/models", "/v1/models?pageToken=t",
    ]  # fmt: skip


async def test_no_secret_is_in_any_event_or_revision(app: AdminApp, upstream: OpenAIUpstream) -> None:
    await app.call("PUT", "/admin/providers/corp/key", {"value": CANARY})
    await app.call("PATCH", "/admin/providers/corp", {"api_key": {"value": CANARY}})
    await app.call("PATCH", "/admin/providers/corp", {"api_key": CANARY})
    await app.call("PATCH", "/admin/providers/corp", {"description": "x", "api_key": {"value": CANARY, "other": 1}})
    shown = await app.call("GET", "/admin/providers/corp")
    audit = await app.call("GET", "/admin/audit")
    revisions = await app.call("GET", "/admin/revisions/1")
    for text in (shown.text, audit.text, revisions.text, repr(app.events), repr(await app.registry.read())):
        assert CANARY not in text
