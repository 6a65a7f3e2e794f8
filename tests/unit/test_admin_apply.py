"""Specifies `/admin/plan`, `/admin/apply` and `/admin/export`: a file planned, applied whole on the revision that was planned, told once."""

import asyncio
import tomllib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_gateway.domain.identity import lookup_id
from llm_gateway.errors import RevisionConflict, Unavailable
from tests.fakes.admin_app import AdminApp

FILE: dict[str, Any] = tomllib.loads("""
default_model = "fast"
[providers.corp]
base_url = "https://llm.corp.example/v1"
api_key_env = "CORP_API_KEY"
[models.fast]
deployments = [{ provider = "corp", model = "small-1", weight = 3 }]
[teams.search]
budget = { usd = "50", period = "month" }
[keys.ci]
team = "search"
""")


@pytest.fixture
async def app() -> AsyncIterator[AdminApp]:
    one = AdminApp()
    yield one
    await one.close()


async def apply(app: AdminApp, file: Any, query: str = "") -> Any:
    plan = await app.call("POST", f"/admin/plan{query}", file)
    assert plan.status_code == 200, plan.text
    return await app.call("POST", f"/admin/apply{query}", file, etag=plan.headers["etag"])


async def test_a_plan_changes_nothing_and_is_in_no_audit(app: AdminApp) -> None:
    plan = await app.call("POST", "/admin/plan", FILE)
    assert [(each["action"], each["kind"], each["name"]) for each in plan.json()["changes"]] == [
        ("change", "settings", None),
        ("create", "provider", "corp"),
        ("create", "model", "fast"),
        ("create", "team", "search"),
        ("create", "key", "ci"),
    ]
    assert plan.json()["new_keys"] == ["ci"]
    assert plan.json()["unnamed"] == [], "whoever asks keeps its key"
    assert (await app.registry.read()).revision == 0
    assert app.events == []


async def test_a_file_is_one_revision_and_one_event_and_its_keys_are_shown_once(app: AdminApp) -> None:
    done = await apply(app, FILE)
    assert done.status_code == 200, done.text
    assert done.json()["revision"] == 1
    (made,) = done.json()["keys"]
    assert made["name"] == "ci"
    found = await app.registry.find_key(lookup_id(made["key"]))
    assert found is not None
    assert found.matches(made["key"])
    assert found.team == "search"
    (event,) = app.events
    assert (event.action, event.target_kind, event.outcome, event.revision) == ("config.apply", "config", "done", 1)
    assert made["key"] not in repr(event)

    again = await apply(app, FILE)
    assert (again.json()["revision"], again.json()["changes"], again.json()["keys"]) == (1, [], [])
    assert app.events[-1].revision == 1, "that somebody applied it is told, and makes no revision"


async def test_it_is_applied_to_what_was_planned_on_or_not_at_all(app: AdminApp) -> None:
    plan = await app.call("POST", "/admin/plan", FILE)
    await app.call("POST", "/admin/teams", {"name": "search", "description": "somebody else's"})
    late = await app.call("POST", "/admin/apply", FILE, etag=plan.headers["etag"])
    assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    blind = await app.call("POST", "/admin/apply", FILE)
    assert blind.status_code == 428
    assert (await app.registry.read()).revision == 1
    assert [event.outcome for event in app.events] == ["done", "refused", "refused"]
    whatever = await app.call("POST", "/admin/apply", FILE, etag="*")
    assert whatever.status_code == 200


async def test_of_many_at_once_one_is_applied(app: AdminApp) -> None:
    plan = await app.call("POST", "/admin/plan", FILE)
    files = [FILE | {"default_model": f"m{number}"} for number in range(8)]
    answers = await asyncio.gather(
        *(app.call("POST", "/admin/apply", file, etag=plan.headers["etag"]) for file in files)
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    settings = await app.call("GET", "/admin/settings")
    assert settings.json()["default_model"] == f"m{winner}"
    tokens = [key for key in await app.registry.list_keys() if key.name == "ci"]
    assert len(tokens) == 1, "those who lost made no key"


async def test_prune_deletes_the_rest_but_the_callers_own_key(app: AdminApp) -> None:
    await apply(app, FILE)
    smaller: dict[str, Any] = {"teams": {"search": {}}}
    kept = await app.call("POST", "/admin/plan", smaller)
    assert {"kind": "key", "name": "ci"} in kept.json()["unnamed"]
    assert not [each for each in kept.json()["changes"] if each["action"] == "delete"]
    done = await apply(app, smaller, "?prune=true")
    assert {(each["kind"], each["name"]) for each in done.json()["changes"] if each["action"] == "delete"} == {
        ("provider", "corp"),
        ("model", "fast"),
        ("key", "ci"),
    }
    assert (await app.call("GET", "/admin/keys/admin")).status_code == 200
    assert (await app.call("GET", "/admin/keys/ci")).status_code == 404


async def test_what_is_exported_is_what_was_applied_and_changes_nothing(app: AdminApp) -> None:
    await apply(app, FILE)
    exported = await app.call("GET", "/admin/export")
    file = exported.json()["config"]
    assert file["models"] == FILE["models"]
    assert file["keys"] == {"admin": {"role": "admin"}, "ci": {"team": "search"}}
    assert file["providers"] == FILE["providers"], "with the name of the variable that `make run` reads"
    for query in ("", "?prune=true"):
        plan = await app.call("POST", f"/admin/plan{query}", file)
        assert (plan.json()["changes"], plan.json()["new_keys"], plan.json()["unnamed"]) == ([], [], [])
        assert plan.headers["etag"] == exported.headers["etag"]


@pytest.mark.parametrize(
    ("body", "query", "param", "words"),
    [
        (FILE | {"modles": {}}, "", "modles", "did you mean"),
        (
            {"models": {"m": {"deployments": [{"provider": "crop", "model": "x"}]}}},
            "",
            "models.m.deployments[0].provider",
            "not a provider",
        ),
        ({"keys": {"ci": {"key": "sk-canary-4711-of-a-key"}}}, "", "keys.ci.key", "shown once"),
        (FILE, "?prune=yes", "prune", "true or false"),
        (FILE, "?purge=true", "purge", "no parameter"),
    ],
)
async def test_a_faulty_file_is_refused_whole(
    app: AdminApp, body: dict[str, Any], query: str, param: str, words: str
) -> None:
    for path in ("plan", "apply"):
        answer = await app.call("POST", f"/admin/{path}{query}", body, etag="*" if path == "apply" else None)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert words in answer.json()["error"]["message"]
        assert "canary" not in answer.text
    assert (await app.registry.read()).revision == 0
    assert [event.action for event in app.events] == ["config.apply"]
    assert "canary" not in repr(app.events)


class Elsewhere:
    """An editor whose first commits lose against somebody else's, or that is away."""

    def __init__(self, inner: Any, error: Exception | None) -> None:
        self._inner = inner
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(self, *arguments: Any) -> int:
        if self._error is not None:
            raise self._error
        number: int = await self._inner.commit(*arguments)
        return number


@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable("the table is away"), 503), (RevisionConflict("somebody was quicker"), 503)]
)
async def test_a_store_that_cannot_take_it_has_nothing_of_it(error: Exception, status: int) -> None:
    first = AdminApp()
    app = AdminApp(editor=Elsewhere(first.registry, error))
    answer = await app.call("POST", "/admin/apply", FILE, etag="*")
    assert answer.status_code == status
    assert (await first.registry.read()).revision == 0
    await first.close()
    await app.close()


async def test_an_edit_of_a_provider_leaves_the_variable_that_only_a_file_can_name(app: AdminApp) -> None:
    await apply(app, FILE)
    edited = await app.call("PATCH", "/admin/providers/corp", {"description": "ours"}, etag="*")
    assert edited.status_code == 200, edited.text
    assert "CORP_API_KEY" not in edited.text
    file = (await app.call("GET", "/admin/export")).json()["config"]
    assert file["providers"]["corp"] == FILE["providers"]["corp"] | {"description": "ours"}
