"""The authorisation matrix of the control plane: every row of its route table x every caller, the exact status.

A row without an example here fails, and so does an example without a row. What is refused has changed nothing, and what a
team's admin may do it may do with its own team's things alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from llm_gateway.admin.route_table import ROUTES, Route
from tests.fakes.admin_app import AdminApp
from tests.fakes.callers import BY_KEY, CALLERS_CONFIG, OIDC_SETTINGS, Caller, Kind, by_token
from tests.fakes.identity_provider import IdentityProvider

CONFIG = f"""
{CALLERS_CONFIG}
[organisation]
name = "acme"
[users.ann]
[providers.corp]
dialect = "openai_chat"
base_url = "http://127.0.0.1:9/v1"
[providers.corp.models.small]
[providers.spare]
dialect = "openai_chat"
base_url = "http://127.0.0.1:9/v1"
[models.fast]
deployments = [{{ provider = "echo", model = "demo" }}]
[prices."corp:small"]
input = "0.10"
output = "0.40"
[teams.empty]
"""
SECRETS = {
    "llm-gateway/provider/corp": "sk-corp-as-it-is",
    "llm-gateway/team/search/corp": "sk-search-as-it-is",
}
BUDGET = {"budget": {"usd": "5", "period": "day"}}
PRICE = {"input": "0.10", "output": "0.40"}
SERVED = {"deployments": [{"provider": "echo", "model": "demo"}]}


@dataclass(frozen=True)
class Example:
    """A request that an admin may make. `other_team` is what a team-admin gets where it is not of the team."""

    path: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    status: int | None = None
    """Where it is not the route's own."""
    other_team: int = 404


CORP = {"provider_id": "corp"}
SMALL = {**CORP, "model_id": "small"}
SECRET = {"value": "sk-new-one-for-corp", "test": False}


def named(name: str, body: Mapping[str, Any] | None = None, **more: Any) -> Example:
    return Example({"name": name}, body, **more)


EXAMPLES: Mapping[str, Example] = {
    "list_providers": Example(),
    "create_provider": Example(
        body={"provider_id": "new", "connection_params": {"base_url": "https://new.example/v1"}}
    ),
    "get_provider": Example(CORP),
    "replace_provider": Example(
        {"provider_id": "spare"}, {"connection_params": {"base_url": "https://new.example/v1"}}
    ),
    "change_provider": Example(CORP, {"display_name": "Corp"}),
    "delete_provider": Example({"provider_id": "spare"}),
    "test_provider": Example({"provider_id": "echo"}, {"model": "echo"}),
    "replace_provider_key": Example(CORP, SECRET),
    "delete_provider_key": Example(CORP),
    "get_rotation": Example(CORP),
    "replace_rotation": Example(CORP, {"in_days": 30}),
    "delete_rotation": Example(CORP),
    "list_provider_models": Example(CORP),
    "create_provider_model": Example(CORP, {"model_id": "large"}),
    # The provider is not there: who may ask it is told so.
    "refresh_provider_model": Example(CORP, status=502),
    "get_provider_model": Example(SMALL),
    "replace_provider_model": Example(SMALL, {"display_name": "Small"}),
    "change_provider_model": Example(SMALL, {"display_name": "Small"}),
    "delete_provider_model": Example(SMALL),
    "list_models": Example(),
    "create_model": Example(body={"name": "slow", **SERVED}),
    "get_model": named("fast"),
    "replace_model": named("fast", SERVED),
    "change_model": named("fast", SERVED),
    "delete_model": named("fast"),
    "get_organisation": Example(),
    "replace_organisation": Example(body={"name": "acme", **BUDGET}),
    "change_organisation": Example(body=BUDGET),
    "delete_organisation": Example(),
    "list_teams": Example(other_team=200),
    "create_team": Example(body={"name": "new"}),
    "get_team": named("search"),
    "replace_team": named("search", {"description": "Finds things."}),
    "change_team": named("search", {"description": "Finds things."}),
    "delete_team": named("empty"),
    "list_team_provider_keys": named("search"),
    "replace_team_provider_key": Example({"name": "search", **CORP}, SECRET),
    "delete_team_provider_key": Example({"name": "search", **CORP}),
    "list_users": Example(),
    "create_user": Example(body={"name": "new"}),
    "get_user": named("ann"),
    "replace_user": named("ann", BUDGET),
    "change_user": named("ann", BUDGET),
    "delete_user": named("ann"),
    "list_keys": Example(other_team=200),
    "create_key": Example(body={"name": "new", "team": "search"}, other_team=403),
    "get_key": named("ann"),
    "replace_key": named("ann", {"team": "search"}),
    "change_key": named("ann", {"owner": "ops"}),
    "delete_key": named("ann"),
    "rotate_key": named("ann", {"overlap_s": 60}),
    "disable_key": named("ann"),
    "enable_key": named("ann"),
    "get_settings": Example(),
    "replace_settings": Example(body={"x_gateway": False}),
    "change_settings": Example(body={"x_gateway": False}),
    "delete_settings": Example(),
    "list_prices": Example(),
    "create_price": Example(body={"name": "corp:large", **PRICE}),
    "get_price": named("corp:small"),
    "replace_price": named("corp:small", PRICE),
    "change_price": named("corp:small", {"input": "0.20"}),
    "delete_price": named("corp:small"),
    "plan_config": Example(body={"teams": {"new": {}}}),
    "apply_config": Example(body={"teams": {"new": {}}}),
    "export_config": Example(),
    "list_audit": Example(),
    "list_revisions": Example(),
    "get_revision": Example({"revision": "{current}"}),
    "restore_revision": Example({"revision": "{current}"}),
}


def expected(route: Route, kind: Kind) -> int:
    example = EXAMPLES[route.operation]
    if kind == "nobody":
        return 401
    if kind == "admin":
        return example.status or route.status
    if route.access == "team" and kind == "team-admin":
        return example.status or route.status
    if route.access == "team" and kind == "other team-admin":
        return example.other_team
    return 403


def path_of(route: Route, current: int) -> str:
    path = route.shown_path
    for name, value in EXAMPLES[route.operation].path.items():
        path = path.replace(f"{{{name}}}", value.replace("{current}", str(current)))
    assert "{" not in path, f"{route.operation}: its example lacks a part of {path}"
    return path


class Doors:
    """A control plane with the same things in it, as often as one is needed."""

    def __init__(self, provider: IdentityProvider) -> None:
        self._provider = provider
        self.callers = (*BY_KEY, *by_token(provider))

    def open(self) -> AdminApp:
        return AdminApp(CONFIG, secrets=SECRETS, docs=False, oidc_issuer=self._provider.issuer, **OIDC_SETTINGS)


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    provider = IdentityProvider()
    with provider.serving():
        yield Doors(provider)


async def asked(app: AdminApp, route: Route, caller: Caller) -> int:
    current = (await app.registry.read()).revision
    etag = "*" if route.if_match else None
    answer = await app.call(
        route.method, path_of(route, current), EXAMPLES[route.operation].body, key=caller.token, etag=etag
    )
    return answer.status_code


def test_every_route_has_an_example_and_every_example_a_route() -> None:
    assert {route.operation for route in ROUTES} - set(EXAMPLES) == set(), (
        "a route without an example: say who may call it"
    )
    assert set(EXAMPLES) - {route.operation for route in ROUTES} == set()


def test_the_app_has_these_routes_and_no_others(doors: Doors) -> None:
    app: Any = doors.open().app
    while not hasattr(app, "routes"):
        app = app._app
    there_are = {(method, route.path) for route in app.routes for method in route.methods}
    assert there_are - {("HEAD", route.path) for route in ROUTES} == {(route.method, route.path) for route in ROUTES}


async def test_whoever_is_refused_gets_the_exact_status_and_has_changed_nothing(doors: Doors) -> None:
    app = doors.open()
    before = await app.registry.read()
    secrets = {name: await app.secrets.get_secret(name) for name in SECRETS}
    wrong, count, changes = [], 0, 0
    for route in ROUTES:
        for caller in doors.callers:
            if (status := expected(route, caller.kind)) < 400 or (
                caller.kind in ("admin", "team-admin") and status == 502
            ):
                continue
            count += 1
            changes += route.mutates and caller.kind not in ("nobody", "stranger")
            if (found := await asked(app, route, caller)) != status:
                wrong.append(f"{route.operation} by {caller}: {found}, not {status}")
    assert not wrong, "\n".join(wrong)
    assert count > 800
    after = await app.registry.read()
    assert (after.revision, after.entries) == (before.revision, before.entries)
    assert {name: await app.secrets.get_secret(name) for name in SECRETS} == secrets
    # Every attempt of somebody who belongs here is in the audit.
    assert len([event for event in app.events if event.outcome != "done"]) == changes
    await app.close()


@pytest.mark.parametrize("kind", ["admin", "team-admin", "other team-admin"])
async def test_whoever_may_gets_the_exact_status(doors: Doors, kind: Kind) -> None:
    wrong, reading = [], doors.open()
    for caller in [caller for caller in doors.callers if caller.kind == kind]:
        for route in ROUTES:
            status = expected(route, kind)
            if status >= 400 and status != EXAMPLES[route.operation].status:
                continue
            app = doors.open() if route.mutates else reading
            if (found := await asked(app, route, caller)) != status:
                wrong.append(f"{route.operation} by {caller}: {found}, not {status}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("token", "team"), [("sk-team-admin", "search"), ("sk-other-team-admin", "ads")])
async def test_a_teams_admin_lists_its_own_teams_things_alone(doors: Doors, token: str, team: str) -> None:
    app = doors.open()
    teams = (await app.call("GET", "/admin/teams", key=token)).json()["data"]
    assert [each["name"] for each in teams] == [team]
    keys = (await app.call("GET", "/admin/keys", key=token)).json()["data"]
    assert keys
    assert {each["team"] for each in keys} == {team}
    for wanted in ("team=search", "team=ads"):
        found = (await app.call("GET", f"/admin/keys?{wanted}", key=token)).json()["data"]
        assert bool(found) == (wanted == f"team={team}")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/admin/teams/search", {"budget": {"usd": "1000000", "period": "day"}}),
        ("PATCH", "/admin/teams/search", {"markup": "-100%"}),
        ("PATCH", "/admin/keys/ann", {"team": "ads"}),
        ("PATCH", "/admin/keys/ann", {"team": None}),
        ("PATCH", "/admin/keys/ann", {"role": "admin"}),
        ("PATCH", "/admin/keys/team-admin", {"role": "admin"}),
        ("POST", "/admin/keys", {"name": "mighty", "role": "admin"}),
        ("POST", "/admin/keys", {"name": "stray", "team": "ads"}),
    ],
)
async def test_a_teams_admin_makes_itself_no_mightier(
    doors: Doors, method: str, path: str, body: dict[str, Any]
) -> None:
    app = doors.open()
    before = (await app.registry.read()).entries
    assert (await app.call(method, path, body, key="sk-team-admin")).status_code == 403
    assert (await app.registry.read()).entries == before
