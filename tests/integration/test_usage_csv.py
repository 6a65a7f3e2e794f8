"""`GET /usage` as CSV, and what happens where its store is away."""

import asyncio
import csv
import io
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.memory_totals import MemoryTotals
from llm_gateway.errors import Unavailable
from tests.contract.records import plain_record
from tests.fakes.gateway_app import GatewayApp
from tests.integration.november import (
    NOVEMBER,
    Usages,
    at,
    fill,
)

# --- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["format=csv", "accept"])
def test_csv_says_what_json_says(usages: Usages, asked: str) -> None:
    path = f"/usage?{NOVEMBER}&group_by=team,model,day"
    answer = usages.get(path, accept="text/csv") if asked == "accept" else usages.get(f"{path}&format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage-2026-11-01-2026-11-30.csv"'
    rows = usages.ok(path)["data"]
    read = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [list(row) for row in read] == [list(row) for row in rows]
    assert read == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


def test_a_format_that_is_named_counts_more_than_what_is_accepted(usages: Usages) -> None:
    assert usages.get(f"/usage?{NOVEMBER}&format=json", accept="text/csv").json()["data"]
    assert usages.get(f"/usage?{NOVEMBER}", accept="text/csv;q=0.5, application/json").json()["data"]


def test_csv_without_rows_has_its_header(usages: Usages) -> None:
    text = usages.get("/usage?from=2026-01-01&to=2026-01-31&group_by=team&format=csv").text
    assert text.startswith("team,calls,errors,")
    assert text.count("\r\n") == 1


@pytest.mark.parametrize("query", ["group_by=colour", "from=x", "group_by=user&model=y"])
def test_csv_is_refused_with_a_status(usages: Usages, query: str) -> None:
    assert usages.refused(f"/usage?{query}&format=csv", 400)["type"] == "invalid_request_error"


def test_a_spreadsheet_takes_nobodys_words_for_a_formula() -> None:
    records = [
        plain_record(f"req_{number}", at_ms=at(1), user=user) for number, user in enumerate(("=1+1", "@x", "ok,\"'"))
    ]
    with GatewayApp() as app:
        asyncio.run(fill(app, records))
        answer = httpx.get(f"{app.root}/usage?{NOVEMBER}&group_by=user&format=csv", headers=app.auth)
    users = {row["user"] for row in csv.DictReader(io.StringIO(answer.text, newline=""))}
    assert users == {"'=1+1", "'@x", "ok,\"'"}


def test_csv_of_many_rows_is_streamed() -> None:
    records = [plain_record(f"req_{number}", at_ms=at(1), user=f"user-{number}") for number in range(1000)]
    with GatewayApp() as app:
        asyncio.run(fill(app, records))
        url = f"{app.root}/usage?{NOVEMBER}&group_by=user&format=csv"
        with httpx.stream("GET", url, headers=app.auth) as answer:
            assert "content-length" not in answer.headers
            text = answer.read().decode()
    assert len(text.splitlines()) == 1001


# --- A store that is away ---------------------------------------------------------------------------------------------


class TotalsThatAreAway(MemoryTotals):
    async def read(self, *given: Any, **named: Any) -> Any:
        raise Unavailable("The gateway's own store does not answer.")
        yield


@pytest.mark.parametrize("query", ["format=json", "format=csv"])
def test_a_store_that_is_away_is_a_503(query: str) -> None:
    with GatewayApp() as app:
        app.totals = TotalsThatAreAway(app.ledger)
        answer = httpx.get(f"{app.root}/usage?{query}", headers=app.auth)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")


# --- Its description --------------------------------------------------------------------------------------------------


def test_openapi_tells_every_parameter(usages: Usages) -> None:
    paths = usages.get("/openapi.json").json()["paths"]
    assert {"/usage", "/usage/requests", "/usage/requests/{request_id}"} <= paths.keys()
    assert not any(path.startswith("/v1/usage") for path in paths)
    told = {path: {one["name"] for one in paths[path]["get"]["parameters"]} for path in ("/usage", "/usage/requests")}
    common = {"from", "to", "limit", "next", "team", "key", "user", "provider", "model"}
    assert told == {"/usage": common | {"group_by", "tag", "format"}, "/usage/requests": common | {"status"}}
    row = paths["/usage"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["data"][
        "items"
    ]
    assert set(usages.ok(f"/usage?{NOVEMBER}&group_by=team,model,day")["data"][0]) <= row["properties"].keys()
