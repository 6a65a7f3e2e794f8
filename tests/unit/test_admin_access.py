"""Specifies what a team's admin sees and may do, and that every attempt is told to the audit."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from llm_gateway.adapters.memory import MemoryRegistry
from llm_gateway.adapters.memory_audit import MemoryAuditTrail
from llm_gateway.domain.audit import AuditEvent
from llm_gateway.domain.identity import hash_key
from llm_gateway.domain.revisions import Change
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline.page_tokens import PageTokens
from tests.fakes.admin_app import ADMIN, AdminApp

LEAD, MEMBER, BOSS = "sk-search-lead-key", "sk-search-member", "sk-search-boss-key"
CONFIG = f"""
[teams.search]
budget = {{ usd = "50", period = "month" }}
[teams.ads]

[keys.lead]
team = "search"
role = "team-admin"
key = "{LEAD}"
[keys.member]
team = "search"
key = "{MEMBER}"
[keys.boss]
team = "search"
role = "admin"
key = "{BOSS}"
[keys.seller]
team = "ads"
key = "sk-ads-seller-key"
"""


@pytest.fixture
async def app() -> AsyncIterator[AdminApp]:
    one = AdminApp(CONFIG)
    yield one
    await one.close()


async def test_a_teams_admin_sees_its_team_alone(app: AdminApp) -> None:
    teams = (await app.call("GET", "/admin/teams", key=LEAD)).json()["data"]
    assert [team["name"] for team in teams] == ["search"]
    keys = (await app.call("GET", "/admin/keys", key=LEAD)).json()["data"]
    assert [key["name"] for key in keys] == ["lead", "member"], "neither another team's nor an admin's"
    for path in ("/admin/teams/ads", "/admin/teams/ads/providers", "/admin/keys/seller", "/admin/keys/boss"):
        assert (await app.call("GET", path, key=LEAD)).status_code == 404
    for path in ("/admin/providers", "/admin/settings", "/admin/audit", "/admin/revisions", "/admin/users"):
        assert (await app.call("GET", path, key=LEAD)).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", "keys/boss/rotate", {}, 404, None),
        ("POST", "keys/seller/disable", None, 404, None),
        ("PATCH", "keys/seller", {"owner": "me"}, 404, None),
        ("POST", "keys", {"name": "k", "team": "ads"}, 403, "team"),
        ("POST", "keys", {"name": "k", "role": "admin"}, 403, "role"),
        ("PATCH", "keys/member", {"role": "admin"}, 403, "role"),
        ("PATCH", "keys/member", {"team": None}, 403, "team"),
        ("PATCH", "keys/member", {"team": "ads"}, 403, "team"),
        ("POST", "keys", {"name": "oidc:ann", "limits": {"rpm": 1}}, 403, "name"),
        ("PATCH", "keys/member", {"on_ledger_outage": "open"}, 403, "on_ledger_outage"),
        ("POST", "keys", {"name": "k", "without_max_tokens": "allow"}, 403, "without_max_tokens"),
        ("PATCH", "teams/search", {"on_ledger_outage": "open"}, 403, "on_ledger_outage"),
        ("PATCH", "teams/search", {"budget": None}, 403, "budget"),
        ("PATCH", "teams/search", {"limits": {"rpm": 1}}, 403, "limits"),
        ("PATCH", "teams/search", {"markup": "-50%"}, 403, "markup"),
        ("PATCH", "teams/ads", {"description": "mine"}, 404, None),
        ("PUT", "teams/ads/providers/openai/key", {"value": "sk-not-theirs", "test": False}, 404, None),
        ("POST", "teams", {"name": "new"}, 403, None),
        ("POST", "providers", {"provider_id": "p"}, 403, None),
    ],
)
async def test_what_a_teams_admin_may_not_do(
    app: AdminApp, method: str, path: str, body: Any, status: int, param: str | None
) -> None:
    before = await app.registry.read()
    answer = await app.call(method, f"/admin/{path}", body, key=LEAD)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert await app.registry.read() is before
    (event,) = app.events
    assert (event.actor, event.role, event.team, event.outcome) == ("lead", "team-admin", "search", "refused")
    assert event.reason == answer.json()["error"]["message"]


LEADS_OWN: dict[str, Any] = {
    "budget": None,
    "limits": {"rpm": 100},
    "shadow": True,
    "queue_s": 5,
    "models": None,
    "providers": ["openai"],
    "user": "ann",
    "expires_at": "2099-01-01T00:00:00Z",
}


async def test_what_bounds_a_teams_admin_is_not_its_own_to_change(app: AdminApp) -> None:
    given = {"budget": {"usd": "1", "period": "day"}, "limits": {"rpm": 1}, "models": ["echo:*"]}
    assert (await app.call("PATCH", "/admin/keys/lead", given)).status_code == 200
    before = await app.registry.read()
    for member, value in LEADS_OWN.items():
        answer = await app.call("PATCH", "/admin/keys/lead", {member: value}, key=LEAD)
        assert (answer.status_code, answer.json()["error"]["param"]) == (403, member), answer.text
    shown = await app.call("GET", "/admin/keys/lead", key=LEAD)
    etag = shown.headers["etag"]
    bare = {"team": "search", "role": "team-admin"}
    assert (await app.call("PUT", "/admin/keys/lead", bare, key=LEAD, etag=etag)).status_code == 403
    assert await app.registry.read() is before
    again = await app.call("PUT", "/admin/keys/lead", {**shown.json(), "owner": "Ann"}, key=LEAD, etag=etag)
    assert (again.status_code, again.json()["owner"], again.json()["limits"]) == (200, "Ann", {"rpm": 1})
    assert (await app.call("POST", "/admin/keys/lead/rotate", {"overlap_s": 60}, key=LEAD)).status_code == 200
    for member, value in LEADS_OWN.items():
        answer = await app.call("PATCH", "/admin/keys/member", {member: value}, key=LEAD)
        assert answer.status_code == 200, "within its team's budget it says who may spend what"


async def test_what_a_teams_admin_may_do(app: AdminApp) -> None:
    made = await app.call("POST", "/admin/keys", {"name": "new", "models": ["fast"]}, key=LEAD)
    assert (made.status_code, made.json()["team"]) == (201, "search")
    assert (await app.call("GET", "/admin/keys", key=made.json()["key"])).status_code == 403, "it is a caller's"
    second = await app.call("POST", "/admin/keys/new/rotate", {"overlap_s": 0}, key=LEAD)
    assert second.json()["key"] != made.json()["key"]
    assert (await app.call("PATCH", "/admin/teams/search", {"description": "ours"}, key=LEAD)).status_code == 200
    stored = await app.call(
        "PUT", "/admin/teams/search/providers/openai/key", {"value": "sk-ours-12345", "test": False}, key=LEAD
    )
    assert (stored.status_code, stored.json()["team"]) == (200, "search")
    listed = (await app.call("GET", "/admin/teams/search/providers", key=LEAD)).json()["data"]
    assert [(key["provider_id"], key["team"]) for key in listed] == [("openai", "search")]
    etag = (await app.call("GET", "/admin/keys/new")).headers["etag"]
    assert (await app.call("DELETE", "/admin/keys/new", key=LEAD, etag=etag)).status_code == 204
    assert {event.outcome for event in app.events if event.actor == "lead"} == {"done"}


async def test_who_is_nobody_is_refused_and_leaves_no_event(app: AdminApp) -> None:
    for key in (None, "sk-unknown-key"):
        answer = await app.call("POST", "/admin/teams", {"name": "t"}, key=key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert app.events == [], "strangers do not fill the trail"


async def test_the_audit_tells_before_and_after(app: AdminApp) -> None:
    await app.call("PATCH", "/admin/teams/search", {"description": "finds", "budget": None})
    event = (await app.call("GET", "/admin/audit?action=team")).json()["data"][0]
    assert (event["action"], event["target_kind"], event["target"]) == ("team.change", "team", "search")
    assert (event["actor"], event["source_ip"], event["outcome"], event["revision"]) == (
        "admin",
        "127.0.0.1",
        "done",
        1,
    )
    (change,) = event["changes"]
    assert change["before"]["budget"][0]["usd"] == "50"
    assert change["after"] == {"description": "finds"}
    made = await app.call("POST", "/admin/keys", {"name": "new"})
    told = (await app.call("GET", "/admin/audit?action=key.create&limit=1")).json()
    assert made.json()["key"] not in str(told)
    assert [
        (each["kind"], each["after"]["key_hash"]) for each in told["data"][0]["changes"] if each["kind"] == "token"
    ] == [("token", "***")]


@pytest.mark.parametrize(
    ("path", "operation", "position"),
    [
        ("keys", "list_keys", 5),
        ("teams", "list_teams", None),
        ("audit", "list_audit", ["x"]),
        ("audit", "list_audit", [1e300, "x"]),
        ("revisions", "list_revisions", "a"),
        ("revisions", "list_revisions", True),
    ],
)
async def test_a_page_that_a_keys_holder_made_up(app: AdminApp, path: str, operation: str, position: object) -> None:
    token = PageTokens(hash_key(ADMIN)).seal([operation, {}, {}], position)
    answer = await app.call("GET", f"/admin/{path}?next={token}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "next")


async def test_the_audit_is_read_in_pages_and_by_filters(app: AdminApp) -> None:
    for number in range(3):
        await app.call("POST", "/admin/users", {"name": f"u{number}"})
        await app.call("POST", "/admin/users", {"name": f"u{number}"})
    refused = (await app.call("GET", "/admin/audit?outcome=refused")).json()
    assert [event["target"] for event in refused["data"]] == ["u2", "u1", "u0"]
    first = (await app.call("GET", "/admin/audit?limit=4")).json()
    rest = (await app.call("GET", f"/admin/audit?limit=4&next={first['next']}")).json()
    ids = [event["id"] for event in first["data"] + rest["data"]]
    assert len(ids) == len(set(ids)) == 6
    assert rest["next"] is None
    assert (await app.call("GET", "/admin/audit?to=2020-01-01")).json()["data"] == []
    assert len((await app.call("GET", "/admin/audit?from=2020-01-01&target=u1")).json()["data"]) == 2


class Overtaken(MemoryRegistry):
    """Before the first commit somebody else commits."""

    other: AdminApp | None = None

    async def commit(self, changes: Sequence[Change], expected: int, audit: AuditEvent) -> int:
        if self.other is not None:
            other, self.other = self.other, None
            answer = await other.call("PATCH", "/admin/teams/search", {"description": "first"})
            assert answer.status_code == 200
        return await super().commit(changes, expected, audit)


async def overtaken() -> tuple[AdminApp, Overtaken]:
    plain = AdminApp(CONFIG)
    registry = Overtaken(
        await plain.registry.load_catalog(), list((await plain.registry.read()).keys()), audit=plain.trail
    )
    await plain.close()
    return AdminApp(CONFIG, editor=registry, trail=plain.trail), registry


async def test_of_two_admins_one_wins_and_the_stale_one_is_told_so() -> None:
    app, registry = await overtaken()
    etag = (await app.call("GET", "/admin/teams/search")).headers["etag"]
    registry.other = app
    answer = await app.call("PUT", "/admin/teams/search", {"description": "second"}, etag=etag)
    assert answer.status_code == 412
    assert (await app.call("GET", "/admin/teams/search")).json()["description"] == "first"
    assert [(event.action, event.outcome) for event in app.events] == [
        ("team.change", "done"),
        ("team.replace", "refused"),
    ]
    await app.close()


async def test_edits_of_different_things_do_not_refuse_each_other() -> None:
    app, registry = await overtaken()
    etag = (await app.call("GET", "/admin/teams/ads")).headers["etag"]
    registry.other = app
    answer = await app.call("PUT", "/admin/teams/ads", {"description": "second"}, etag=etag)
    assert answer.status_code == 200
    assert (await registry.read()).revision == 2
    assert (await app.call("GET", "/admin/teams/search")).json()["description"] == "first"
    await app.close()


class Away(MemoryAuditTrail):
    async def record(self, event: AuditEvent) -> None:
        raise Unavailable("The gateway's own store does not answer.")


async def test_a_trail_that_is_away_stops_changes_and_no_refusals() -> None:
    app = AdminApp(CONFIG, trail=Away())
    before = await app.registry.read()
    assert (await app.call("PATCH", "/admin/teams/search", {"markup": "nonsense"})).status_code == 400
    assert (await app.call("PATCH", "/admin/teams/search", {"description": "x"})).status_code == 503
    assert await app.registry.read() is before
    await app.close()


async def test_a_rollback_to_how_it_is_changes_nothing(app: AdminApp) -> None:
    answer = await app.call("POST", "/admin/revisions/0/rollback")
    assert (answer.status_code, answer.json()["revision"], answer.json()["at"]) == (200, 0, None)
    assert [(event.action, event.outcome) for event in app.events] == [("revision.restore", "done")]


BOUNDS: dict[str, Any] = {"budget": {"usd": "1", "period": "day"}, "limits": {"rpm": 1}}


async def bounds(app: AdminApp, name: str) -> tuple[Any, Any, Any]:
    key = (await app.call("GET", f"/admin/keys/{name}")).json()
    return key["state"], (key.get("budget") or [{}])[0].get("usd"), (key.get("limits") or {}).get("rpm")


async def test_a_rollback_takes_no_bounds_off_a_key_that_there_is(app: AdminApp) -> None:
    await app.call("POST", "/admin/keys", {"name": "new", "team": "ads", **BOUNDS})
    await app.call("PATCH", "/admin/keys/member", BOUNDS)
    await app.call("PATCH", "/admin/teams/search", {"description": "changed"})
    assert (await app.call("POST", "/admin/revisions/0/rollback")).status_code == 200
    assert "description" not in (await app.call("GET", "/admin/teams/search")).json()
    for name in ("new", "member"):
        assert await bounds(app, name) == ("active", "1", 1), "though there was none then"


async def test_a_rollback_gives_bounds_back_that_there_were(app: AdminApp) -> None:
    await app.call("POST", "/admin/keys", {"name": "new", "team": "ads", "limits": {"rpm": 5}})
    await app.call("PATCH", "/admin/keys/new", BOUNDS)
    assert (await app.call("POST", "/admin/revisions/1/rollback")).status_code == 200
    assert await bounds(app, "new") == ("active", "1", 5)
    etag = (await app.call("GET", "/admin/keys/new")).headers["etag"]
    await app.call("DELETE", "/admin/keys/new", etag=etag)
    assert (await app.call("POST", "/admin/revisions/0/rollback")).status_code == 200
    assert (await app.call("GET", "/admin/keys/new")).status_code == 404, "of one that is gone nothing stays"


async def test_a_rollback_leaves_no_key_in_a_team_that_is_gone(app: AdminApp) -> None:
    await app.call("POST", "/admin/teams", {"name": "late", "budget": {"usd": "5", "period": "month"}})
    await app.call("PUT", "/admin/teams/late/providers/openai/key", {"value": "sk-of-late-team", "test": False})
    await app.call("POST", "/admin/keys", {"name": "new", "team": "late", **BOUNDS})
    before = await app.registry.read()
    refused = await app.call("POST", "/admin/revisions/0/rollback")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "still_in_use")
    assert 'keys.new.team: "late" is not a team' in refused.json()["error"]["message"]
    assert "Delete or change that first" in refused.json()["error"]["message"]
    assert await app.registry.read() is before
    assert await app.secrets.get_secret("llm-gateway/team/late/openai") == "sk-of-late-team"
    assert (await app.call("PATCH", "/admin/keys/new", {"team": "ads"})).status_code == 200
    assert (await app.call("POST", "/admin/revisions/0/rollback")).status_code == 200
    assert (await app.call("GET", "/admin/teams/late")).status_code == 404
    assert await app.secrets.get_secret("llm-gateway/team/late/openai") is None, "another team of that name has it not"
    assert await bounds(app, "new") == ("active", "1", 1)
    exported = (await app.call("GET", "/admin/export")).json()["config"]
    assert (await app.call("POST", "/admin/plan", exported)).status_code == 200


async def test_a_rollback_is_a_new_revision_and_revives_no_key(app: AdminApp) -> None:
    made = await app.call("POST", "/admin/keys", {"name": "new", "team": "ads"})
    await app.call("PATCH", "/admin/teams/search", {"description": "changed"})
    etag = (await app.call("GET", "/admin/keys/new")).headers["etag"]
    await app.call("DELETE", "/admin/keys/new", etag=etag)
    contents = (await app.call("GET", "/admin/revisions/2")).json()
    assert contents["entries"]["team"]["search"]["description"] == "changed"
    assert "key_hash" not in str(contents)
    answer = await app.call("POST", "/admin/revisions/1/rollback")
    assert (answer.status_code, answer.json()["revision"], answer.json()["current"]) == (200, 4, True)
    assert "description" not in (await app.call("GET", "/admin/teams/search")).json()
    assert (await app.call("GET", "/admin/keys", key=made.json()["key"])).status_code == 401
    listed = (await app.call("GET", "/admin/revisions?limit=3")).json()
    assert [note["revision"] for note in listed["data"]] == [4, 3, 2]
    assert len((await app.call("GET", f"/admin/revisions?limit=3&next={listed['next']}")).json()["data"]) == 1
    assert (await app.call("POST", "/admin/revisions/99/rollback")).status_code == 404
    assert (await app.call("GET", "/admin/revisions/x")).status_code == 404
