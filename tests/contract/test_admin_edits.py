"""The control plane on real engines: of two who edit the same thing at once one wins, and everybody hears how it went."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_audit import DynamoDBAuditTrail
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.domain.audit import AuditFilter
from tests.contract.conftest import create_registry_table
from tests.fakes.admin_app import AdminApp

RIVALS = 6


class Plane:
    """Several processes' control planes on one table."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self.trail = DynamoDBAuditTrail(aws, table)
        self.registry = DynamoDBRegistry(aws, table)
        self.apps = [
            AdminApp(editor=DynamoDBRegistry(aws, table), trail=DynamoDBAuditTrail(aws, table)) for _ in range(RIVALS)
        ]


@pytest.fixture
async def plane(dynamodb: AwsJsonClient) -> AsyncIterator[Plane]:
    one = Plane(dynamodb, await create_registry_table(dynamodb))
    made = await one.apps[0].call("POST", "/admin/teams", {"name": "search", "description": "as it was"})
    assert made.status_code == 201
    yield one
    for app in one.apps:
        await app.close()


async def test_of_those_who_saw_the_same_one_wins(plane: Plane) -> None:
    etag = (await plane.apps[0].call("GET", "/admin/teams/search")).headers["etag"]
    answers = await asyncio.gather(
        *(
            app.call("PUT", "/admin/teams/search", {"description": f"by {number}"}, etag=etag)
            for number, app in enumerate(plane.apps)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * (RIVALS - 1)
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    now = await plane.apps[0].call("GET", "/admin/teams/search")
    assert now.json()["description"] == f"by {winner}"
    page = await plane.trail.page(AuditFilter(action="team.replace"), None, 50)
    told = sorted((event.outcome, event.request_id) for event in page.events)
    expected = (
        ("done" if answer.status_code == 200 else "refused", answer.headers["x-request-id"]) for answer in answers
    )
    assert told == sorted(expected), "each attempt once, as its caller heard it"


async def test_those_who_edit_other_things_all_win(plane: Plane) -> None:
    answers = await asyncio.gather(
        *(app.call("POST", "/admin/users", {"name": f"u{number}"}) for number, app in enumerate(plane.apps))
    )
    assert [answer.status_code for answer in answers] == [201] * RIVALS
    snapshot = await plane.registry.read()
    assert {name for kind, name in snapshot.entries if kind == "user"} == {f"u{number}" for number in range(RIVALS)}
    assert snapshot.revision == RIVALS + 1, "one revision each"


async def test_a_provider_and_its_prices_are_one_revision(plane: Plane) -> None:
    models = [{"model_id": f"m{number}", "prices": {"input": "1", "output": "2"}} for number in range(20)]
    before = (await plane.registry.read()).revision
    body = {"provider_id": "corp", "connection_params": {"base_url": "https://x.example/v1"}, "models": models}
    made = await plane.apps[0].call("POST", "/admin/providers", body)
    assert made.status_code == 201, made.text
    snapshot = await plane.registry.read()
    assert snapshot.revision == before + 1
    assert len([name for kind, name in snapshot.entries if kind == "price"]) == 20
    back = await plane.apps[1].call("POST", f"/admin/revisions/{before}/rollback")
    assert back.json()["revision"] == before + 2
    assert (await plane.apps[2].call("GET", "/admin/providers/corp")).status_code == 404
