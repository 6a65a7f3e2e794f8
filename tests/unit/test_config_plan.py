"""What a gateway.toml makes of a configuration: planned whole, told member by member, and nothing the second time."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings

from llm_gateway.admin.draft import Faults, entries_of
from llm_gateway.admin.plan import MemberChange, Plan, plan_file
from llm_gateway.admin.rendering import as_json
from llm_gateway.catalog.config import entries, parse_config
from llm_gateway.catalog.exported import exported_file
from llm_gateway.cli.toml_text import gateway_toml
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.domain.revisions import Put, Snapshot, StoredEntry, changed, effective
from tests.fakes.gateway_files import gateway_files

EMPTY = Snapshot(0, {})
FILE = """
default_model = "fast"
x_gateway = false
[organisation]
name = "acme"
[providers.azure-openai]
base_url = "https://corp.openai.azure.com"
headers = { X-Title = "Search" }
[models.fast]
deployments = [
  { provider = "azure-openai", model = "gpt-4.1", weight = 3, key = "first" },
  { provider = "echo", model = "demo" },
]
[prices."azure-openai:gpt-4.1"]
input = "1"
output = "4"
[teams.search]
budget = { usd = "50", period = "month", alerts = [0.80] }
[keys.ci]
team = "search"
expires_at = 2027-01-31T00:00:00Z
"""


def document(text: str = FILE) -> dict[str, Any]:
    return tomllib.loads(text)


def applied(plan: Plan, before: Snapshot) -> Snapshot:
    made = effective(plan.changes, before.entries)
    return Snapshot(before.revision + 1, changed(before.entries, made, before.revision + 1, 0))


def made_of(file: Mapping[str, Any], before: Snapshot = EMPTY) -> Snapshot:
    return applied(plan_file(file, before, prune=False), before)


def exported(snapshot: Snapshot) -> dict[str, Any]:
    return exported_file(entries_of(snapshot), snapshot.keys())


def told(plan: Plan) -> list[tuple[str, str, str | None]]:
    return [(item.action, item.kind, item.name) for item in plan.items]


class TestAPlan:
    def test_all_is_created_where_nothing_is(self) -> None:
        plan = plan_file(document(), EMPTY, prune=False)
        assert told(plan) == [
            ("change", "settings", None),
            ("create", "organisation", None),
            ("create", "provider", "azure_openai"),
            ("create", "model", "fast"),
            ("create", "price", "azure_openai:gpt-4.1"),
            ("create", "team", "search"),
            ("create", "key", "ci"),
        ]
        assert set(plan.tokens) == {"ci"}
        assert plan.items[-1].members == (
            MemberChange("team", None, "search"),
            MemberChange("expires_at", None, plan.items[-1].members[1].after),
        )
        assert plan.tokens["ci"] not in repr([plan.items, plan.changes]), "a plan shows no token and stores its hash"

    def test_members_are_told_as_they_were_and_will_be(self) -> None:
        before = made_of(document())
        file = document()
        file["models"]["fast"]["deployments"][0] |= {"weight": 1, "key": "second"}
        file["teams"]["search"]["budget"]["usd"] = "60"
        file["x_gateway"] = True
        plan = plan_file(file, before, prune=False)
        assert {item.kind: item.members for item in plan.items} == {
            "settings": (MemberChange("x_gateway", False, True),),
            "model": (
                MemberChange("deployments[0].weight", 3, None),
                MemberChange("deployments[0].key", "first", "second"),
            ),
            "team": (MemberChange("budget.usd", "50", "60"),),
        }
        assert plan.tokens == {}

    def test_a_headers_value_is_told_to_change_and_not_shown(self) -> None:
        before = made_of(document())
        file = document()
        file["providers"]["azure-openai"]["headers"]["X-Title"] = "canary-4711"
        plan = plan_file(file, before, prune=False)
        assert [item.members for item in plan.items] == [(MemberChange("headers.X-Title", "***", "***"),)]

    def test_without_prune_what_is_not_named_stays(self) -> None:
        before = made_of(document())
        plan = plan_file({"default_model": "smart", "teams": {"ads": {}}}, before, prune=False)
        assert told(plan) == [("change", "settings", None), ("create", "team", "ads")]
        assert set(plan.unnamed) == {
            ("settings", "x_gateway"),
            ("organisation", None),
            ("provider", "azure_openai"),
            ("model", "fast"),
            ("price", "azure_openai:gpt-4.1"),
            ("team", "search"),
            ("key", "ci"),
        }
        after = applied(plan, before)
        assert set(before.entries) <= set(after.entries)
        assert after.entries["settings", "gateway"].document == {"default_model": "smart", "x_gateway": False}

    def test_with_prune_all_else_goes_but_the_key_it_is_asked_with(self) -> None:
        boss = VirtualKey(lookup_id("sk-boss-boss"), "boss", hash_key("sk-boss-boss"), role="admin")
        before = made_of(document())
        put = Put.token(boss)
        before = Snapshot(1, {**before.entries, ("token", put.name): StoredEntry(put.document, "r1", None, None)})
        plan = plan_file({"teams": {"search": {}}}, before, prune=True, kept={"boss"})
        assert told(plan) == [
            ("change", "settings", None),
            ("delete", "organisation", None),
            ("delete", "provider", "azure_openai"),
            ("delete", "model", "fast"),
            ("delete", "price", "azure_openai:gpt-4.1"),
            ("change", "team", "search"),
            ("delete", "key", "ci"),
        ]
        after = applied(plan, before)
        assert {entry for entry in after.entries if entry[0] != "settings"} == {("team", "search"), ("token", put.name)}
        assert plan.unnamed == ()

    def test_an_organisation_of_another_name_is_the_same_one_renamed(self) -> None:
        before = made_of(document())
        file = document() | {"organisation": {"name": "acme2"}}
        plan = plan_file(file, before, prune=False)
        assert told(plan) == [("change", "organisation", None)]
        assert [name for kind, name in applied(plan, before).entries if kind == "organisation"] == ["acme2"]

    def test_a_key_that_was_disabled_stays_so_until_the_file_says_otherwise(self) -> None:
        before = made_of(document())
        (key,) = before.keys()
        off = Put.token(replace(key, enabled=False))
        before = Snapshot(1, {**before.entries, ("token", key.key_id): StoredEntry(off.document, "r1", None, None)})
        assert plan_file(document(), before, prune=False).items == ()
        file = document()
        file["keys"]["ci"]["enabled"] = True
        plan = plan_file(file, before, prune=False)
        assert [item.members for item in plan.items] == [(MemberChange("enabled", False, None),)]
        assert plan.tokens == {}, "its token is the one it had"

    def test_a_default_that_an_earlier_version_did_not_store_is_told_as_a_change(self) -> None:
        before = made_of(document())
        stored = before.entries["model", "fast"]
        fewer = {name: value for name, value in stored.document.items() if name != "stream_recovery"}
        before = Snapshot(1, {**before.entries, ("model", "fast"): replace(stored, document=fewer)})
        plan = plan_file(document(), before, prune=False)
        assert [(item.action, item.name, item.members) for item in plan.items] == [("change", "fast", ())]

    @pytest.mark.parametrize(
        ("file", "line"),
        [
            ({"models": {"m": {"deployments": []}}}, "models.m.deployments: must not be empty"),
            ({"modles": {}}, "modles: is not a key here"),
            ({"models": []}, "models: must be a table"),
            ({"keys": {"a": 1}}, "keys.a: must be a table"),
            ({"keys": {"a.b": {"key": "sk-canary-4711"}}}, 'keys."a.b".key: a key\'s token is made here'),
            ({"keys": {"a": {"expires_at": "tomorrow"}}}, "keys.a.expires_at: must be a date and time"),
            (
                {"providers": {"a-b": {"like": "openai"}, "a_b": {"like": "openai"}}},
                "providers.a_b: is the same provider",
            ),
            ({"teams": {"t": {"budget": {"usd": 0.5, "period": "day"}}}}, "teams.t.budget.usd: must be a decimal"),
        ],
    )
    def test_a_faulty_file_is_told_by_its_places(self, file: dict[str, Any], line: str) -> None:
        with pytest.raises(Faults) as faults:
            plan_file(file, EMPTY, prune=False)
        assert faults.value.lines[0].startswith(line)
        assert "canary" not in str(faults.value)

    def test_a_file_that_does_not_go_with_what_stays_is_refused(self) -> None:
        before = made_of(
            {
                "models": {
                    "a": {"deployments": [{"provider": "echo", "model": "d"}], "fallbacks": ["b"]},
                    "b": {"deployments": [{"provider": "echo", "model": "d"}]},
                }
            }
        )
        circle = {
            "models": {
                "a": {"deployments": [{"provider": "echo", "model": "d"}]},
                "b": {"deployments": [{"provider": "echo", "model": "d"}], "fallbacks": ["a"]},
            }
        }
        assert plan_file(circle, before, prune=False).items, "all of the circle is in the file, which has none"
        half = {"keys": {"k": {"team": "gone"}}}
        with pytest.raises(Faults, match="gone"):
            plan_file(half, before, prune=False)
        using = made_of({"teams": {"search": {}}, "keys": {"boss": {"team": "search"}}})
        with pytest.raises(Faults, match="search"):
            plan_file({}, using, prune=True, kept={"boss"})


class TestAnyFile:
    """Over files made up by hypothesis."""

    @settings(max_examples=60, deadline=None)
    @given(gateway_files())
    def test_what_is_exported_changes_nothing(self, file: dict[str, Any]) -> None:
        there = made_of(file)
        tables = exported(there)
        for prune in (False, True):
            again = plan_file(tables, there, prune=prune)
            assert (again.items, again.changes, dict(again.tokens), again.unnamed) == ((), (), {}, ())
        assert plan_file(file, there, prune=True).items == ()
        over_json = json.loads(json.dumps(as_json(file)))
        assert plan_file(over_json, there, prune=True).items == (), "JSON says what TOML says"

    @settings(max_examples=60, deadline=None)
    @given(gateway_files())
    def test_what_is_exported_is_a_file_for_make_run(self, file: dict[str, Any]) -> None:
        there = made_of(file)
        tables = exported(there)
        text = gateway_toml(tables)
        assert tomllib.loads(text) == tables
        stored = {
            (each.kind, each.name): json.loads(json.dumps(each.document))
            for each in entries(parse_config(text, "gateway.toml"))
        }
        configured = {
            entry: json.loads(json.dumps(each.document)) for entry, each in there.entries.items() if entry[0] != "token"
        }
        stored.setdefault(("settings", "gateway"), {})
        configured.setdefault(("settings", "gateway"), {})
        assert stored == configured

    @settings(max_examples=60, deadline=None)
    @given(gateway_files(), gateway_files())
    def test_with_prune_it_is_what_the_file_says_whatever_was_there(
        self, first: dict[str, Any], second: dict[str, Any]
    ) -> None:
        there = made_of(first)
        plan = plan_file(second, there, prune=True)
        said = exported(made_of(second))
        after = exported(applied(plan, there))
        silent = {name for name, table in second.get("keys", {}).items() if "enabled" not in table}
        for file in (said, after):
            for name in silent:
                # Whether a key is on is not the file's business, where it does not say.
                file["keys"][name].pop("enabled", None)
        assert after == said
        assert bool(plan.changes) == bool(plan.items)

    @settings(max_examples=60, deadline=None)
    @given(gateway_files(), gateway_files())
    def test_without_prune_nothing_is_lost(self, first: dict[str, Any], second: dict[str, Any]) -> None:
        there = made_of(first)
        try:
            plan = plan_file(second, there, prune=False)
        except Faults:
            assume(False)
        assert not [item for item in plan.items if item.action == "delete"]
        after = applied(plan, there)
        gone = {entry for entry in there.entries if entry not in after.entries}
        assert {kind for kind, _ in gone} <= {"organisation", "key"}, "renamed; a key's limits that the file took away"
        assert _tokens(there) <= _tokens(after)


def _tokens(snapshot: Snapshot) -> set[str]:
    return {name for kind, name in snapshot.entries if kind == "token"}
