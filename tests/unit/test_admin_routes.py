"""Specifies the control plane's route table: every row has a rule, a handler and a description that holds together."""

import json
from typing import get_args

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from llm_gateway.admin import wire
from llm_gateway.admin.access import authorise
from llm_gateway.admin.route_table import ROUTES, Access, Route
from llm_gateway.catalog import schema
from llm_gateway.domain.identity import Role, VirtualKey
from llm_gateway.errors import PermissionDenied
from tests.fakes.admin_app import AdminApp


def may(route: Route, role: Role, team: str | None) -> bool:
    try:
        authorise(route, VirtualKey("id", "name", "", role=role, team=team))
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
def test_every_route_has_a_rule(route: Route) -> None:
    assert route.access in get_args(Access)
    assert may(route, "admin", None)
    assert not may(route, "caller", "search")
    assert may(route, "team-admin", "search") == (route.access == "team")
    assert not may(route, "team-admin", None), "who has no team is admin of none"
    assert route.path.startswith("/admin/")
    assert (route.answer is None) == (route.status == 204)
    secret = route.path.endswith(("/key", "/rotation"))  # nothing of it is read, so nothing can have been seen
    whole = route.path == "/admin/apply"
    assert route.if_match == (whole or (route.method in {"PUT", "DELETE"} and not secret))


def test_operations_and_paths_are_unique() -> None:
    assert len({route.operation for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


async def test_the_description_is_openapi_of_every_route() -> None:
    app = AdminApp()
    document = (await app.call("GET", "/admin/openapi.json")).json()
    await app.close()
    OpenAPIV31SpecValidator(document).validate()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == {(route.method, route.shown_path) for route in ROUTES}
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"], name


async def test_without_docs_there_is_no_description_and_all_routes() -> None:
    app = AdminApp(docs=False)
    for path in ("/admin/openapi.json", "/admin/docs"):
        assert (await app.call("GET", path)).status_code == 404
    assert (await app.call("GET", "/admin/teams")).status_code == 200
    wrong = await app.call("PUT", "/admin/audit")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert (await app.call("GET", "/admin/nothing")).json()["error"]["code"] == "unknown_url"
    await app.close()


@pytest.mark.parametrize(
    ("body", "table", "left_out"),
    [
        (wire.TeamBody, schema.TeamTable, {"providers"}),
        (wire.KeyBody, schema.KeyTable, {"key"}),
        (wire.UserBody, schema.UserTable, set()),
        (wire.OrganisationBody, schema.OrganisationTable, set()),
        (wire.ModelBody, schema.ModelTable, set()),
        (wire.PriceBody, schema.PriceTable, set()),
    ],
)
def test_a_body_has_its_tables_members(body: type[schema.Table], table: type[schema.Table], left_out: set[str]) -> None:
    """What a file can say, the control plane can; what only a laptop's file can, it cannot."""
    assert set(body.model_fields) == set(table.model_fields) - left_out


def test_a_provider_has_its_tables_members() -> None:
    of_provider = {*wire.ProviderBody.model_fields, *wire.ConnectionParams.model_fields}
    renamed = {"dialect": "provider_type"}
    expected = {renamed.get(name, name) for name in schema.ProviderTable.model_fields} - {"api_key_env"}
    assert of_provider - {"connection_params", "api_key"} == expected
    settings = set(schema.GatewayFile.model_fields) - {"organisation", *schema.ENTRIES}
    assert set(wire.SettingsBody.model_fields) == settings


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("providers?enabled=banana", None),
        ("providers?configured=1", None),
        ("providers?provider_type=telnet", None),
        ("keys?role=xyz", None),
        ("keys?state=gone", None),
        ("providers/corp/models?model_type=video", None),
        ("audit?outcome=maybe", None),
        ("keys?role=admin", ["admin"]),
        ("keys?team=nobody", []),
        ("prices?provider=corp", ["corp:a", "corp:b:1"]),
        ("prices?provider=cor", []),
    ],
)
async def test_a_list_is_filtered_by_what_there_can_be(query: str, found: list[str] | None) -> None:
    price = 'input = "1"\noutput = "2"\n'
    names = ("corp:a", "corp:b:1", "openai:a")
    app = AdminApp(
        '[providers.corp]\nbase_url = "https://c.example/v1"\n'
        + "".join(f'[prices."{name}"]\n{price}' for name in names)
    )
    answer = await app.call("GET", f"/admin/{query}")
    if found is None:
        member = query.partition("?")[2].partition("=")[0]
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, member)
    else:
        assert [each["name"] for each in answer.json()["data"]] == found
    await app.close()
