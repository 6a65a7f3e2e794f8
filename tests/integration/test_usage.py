"""`GET /usage` and `/usage/requests` over real HTTP: what they count, who sees what, pages, CSV, and what is refused."""

import asyncio
import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_totals import MemoryTotals
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import Unavailable
from tests.contract.records import plain_record
from tests.fakes.gateway_app import GatewayApp

CONFIG = """
[teams.search]
[teams.ads]
[keys.search-prod]
team = "search"
key = "sk-search-prod"
[keys.search-dev]
team = "search"
key = "sk-search-dev"
[keys.search-boss]
team = "search"
role = "team-admin"
key = "sk-search-boss"
[keys.ads-prod]
team = "ads"
key = "sk-ads-prod"
[keys.loner]
key = "sk-loner"
"""
ADMIN, BOSS, CALLER, OTHER, LONER = "sk-test-admin", "sk-search-boss", "sk-search-prod", "sk-ads-prod", "sk-loner"
NOVEMBER = "from=2026-11-01&to=2026-11-30"
KEYS = (("search-prod", "search"), ("search-dev", "search"), ("ads-prod", "ads"), ("loner", None))


def at(day: int, month: int = 11, hour: int = 12) -> int:
    return int(datetime(2026, month, day, hour, tzinfo=UTC).timestamp() * 1000)


def november() -> list[RequestRecord]:
    """Forty requests: four keys, two models, ten days; one in ten failed, one in ten has no price."""
    return [
        plain_record(
            f"req_{number:03}",
            at_ms=at(1 + number // 4),
            key=KEYS[number % 4][0],
            team=KEYS[number % 4][1],
            user=f"u{number % 3}",
            tags={"env": "prod" if number % 2 else "dev", "app": "x"} if number % 5 else {},
            provider="openai" if number % 3 else "echo",
            routed_model="small" if number % 3 else "large",
            requested_model="fast",
            status="failed" if number % 10 == 0 else "settled",
            usage=Usage(input_tokens=100 + number, output_tokens=10, cached_tokens=number, estimated=number % 7 == 0),
            cost_usd=None if number % 10 == 5 else Decimal("0.000000000000000000001") * number,
            latency_ms=1000 + number,
            ttft_ms=100 if number % 2 else None,
        )
        for number in range(40)
    ]


class Usages:
    """Asks as one of the keys."""

    def __init__(self, app: GatewayApp, client: httpx.Client) -> None:
        self.app, self._client = app, client

    def get(self, path: str, key: str = ADMIN, **headers: str) -> httpx.Response:
        return self._client.get(f"{self.app.root}{path}", headers={"authorization": f"Bearer {key}", **headers})

    def ok(self, path: str, key: str = ADMIN) -> Any:
        answer = self.get(path, key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, status: int, key: str = ADMIN) -> dict[str, Any]:
        answer = self.get(path, key)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    def all_pages(self, path: str, limit: int, key: str = ADMIN) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        page = self.ok(f"{path}&limit={limit}", key)
        for _ in range(500):
            assert len(page["data"]) <= limit
            rows += page["data"]
            if page["next"] is None:
                return rows
            page = self.ok(f"{path}&limit={limit}&next={page['next']}", key)
        raise AssertionError("the pages have no end")


@pytest.fixture(scope="module")
def records() -> list[RequestRecord]:
    return november()


@pytest.fixture(scope="module")
def usages(records: list[RequestRecord]) -> Iterator[Usages]:
    ledger = MemoryLedger()
    with GatewayApp(CONFIG, ledger=ledger, docs=True) as app, httpx.Client() as client:
        asyncio.run(fill(app, records))
        yield Usages(app, client)


async def fill(app: GatewayApp, records: list[RequestRecord]) -> None:
    for record in records:
        assert await app.ledger.settle(record)
    assert len((await app.totals.fold(records)).counted) == len(records)


def cost(records: list[RequestRecord]) -> str:
    total = sum((record.cost_usd for record in records if record.cost_usd is not None), Decimal(0))
    return "0" if not total else format(total.normalize(), "f")


# --- Totals -----------------------------------------------------------------------------------------------------------


def test_by_team_and_model(usages: Usages, records: list[RequestRecord]) -> None:
    answer = usages.ok(f"/usage?{NOVEMBER}&group_by=team,model")
    assert {name: answer[name] for name in ("from", "to", "group_by", "next")} == {
        "from": "2026-11-01",
        "to": "2026-11-30",
        "group_by": ["team", "model"],
        "next": None,
    }
    groups = [(team, model) for team in (None, "ads", "search") for model in ("large", "small")]
    assert [(row["team"], row["model"]) for row in answer["data"]] == groups
    for row in answer["data"]:
        mine = [one for one in records if (one.team, one.routed_model) == (row["team"], row["model"])]
        assert row["calls"] == len(mine)
        assert row["errors"] == sum(one.status == "failed" for one in mine)
        assert row["unpriced"] == sum(one.cost_usd is None for one in mine)
        assert row["estimated"] == sum(one.usage.estimated for one in mine)
        assert row["input_tokens"] == sum(one.usage.input_tokens for one in mine)
        assert row["cached_tokens"] == sum(one.usage.cached_tokens for one in mine)
        assert row["cost_usd"] == cost(mine)
        assert row["latency_mean_ms"] == pytest.approx(sum(one.latency_ms or 0 for one in mine) / len(mine), abs=1)
        assert 800 <= row["latency_p50_ms"] <= row["latency_p95_ms"] <= row["latency_p99_ms"] <= 1250


def test_the_order_of_dimensions_is_the_askers(usages: Usages) -> None:
    one = usages.ok(f"/usage?{NOVEMBER}&group_by=model,team")["data"]
    other = usages.ok(f"/usage?{NOVEMBER}&group_by=team,model")["data"]
    assert [list(row)[:2] for row in one] == [["model", "team"]] * 6
    assert sorted(map(str, map(sorted, (row.items() for row in one)))) != []
    assert {(row["team"], row["model"]): row["calls"] for row in one} == {
        (row["team"], row["model"]): row["calls"] for row in other
    }


@pytest.mark.parametrize(
    "group_by", ["organisation", "team", "key", "user", "provider", "model", "key,model", "provider,model", "team,key"]
)
@pytest.mark.parametrize("day", ["", ",day"])
def test_every_grouping_adds_up(usages: Usages, records: list[RequestRecord], group_by: str, day: str) -> None:
    rows = usages.ok(f"/usage?{NOVEMBER}&group_by={group_by}{day}")["data"]
    assert sum(row["calls"] for row in rows) == 40
    assert sum(row["output_tokens"] for row in rows) == 400
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(cost(records))
    assert ("day" in rows[0]) == bool(day)


def test_by_day_is_what_nobody_asked_for(usages: Usages) -> None:
    rows = usages.ok(f"/usage?{NOVEMBER}")["data"]
    assert [row["day"] for row in rows] == [f"2026-11-{day:02}" for day in range(1, 11)]
    assert [row["calls"] for row in rows] == [4] * 10
    assert rows[0]["ttft_p50_ms"] is not None


def test_by_tag_counts_a_request_for_each_of_its_tags(usages: Usages) -> None:
    rows = {row["tag"]: row["calls"] for row in usages.ok(f"/usage?{NOVEMBER}&group_by=tag")["data"]}
    assert rows == {"app=x": 32, "env=dev": 16, "env=prod": 16}


def test_days_are_included_at_both_ends(usages: Usages) -> None:
    assert usages.ok("/usage?from=2026-11-02&to=2026-11-04&group_by=organisation")["data"][0]["calls"] == 12
    assert usages.ok("/usage?from=2026-11-02&to=2026-11-02")["data"][0]["calls"] == 4
    assert usages.ok("/usage?from=2026-12-01&to=2026-12-31&group_by=team")["data"] == []


def test_thirty_days_until_today_where_none_are_given(usages: Usages) -> None:
    answer = usages.ok("/usage")
    today = datetime.now(UTC).date()
    assert answer["to"] in {str(today), str(today - timedelta(days=1))}
    assert datetime.fromisoformat(answer["to"]) - datetime.fromisoformat(answer["from"]) == timedelta(days=29)
    assert usages.ok("/usage?to=2026-11-30")["from"] == "2026-11-01"


@pytest.mark.parametrize(
    ("filters", "calls"),
    [
        ("group_by=model&team=search", 20),
        ("group_by=team&model=large", 14),
        ("group_by=day&user=u0", 14),
        ("group_by=day&tag=env%3Dprod", 16),
        ("group_by=organisation&team=search&key=search-dev", 10),
        ("group_by=model&provider=echo", 14),
        ("group_by=team&team=nobody", 0),
    ],
)
def test_filters(usages: Usages, filters: str, calls: int) -> None:
    assert sum(row["calls"] for row in usages.ok(f"/usage?{NOVEMBER}&{filters}")["data"]) == calls


def test_without_v1_and_with_it(usages: Usages) -> None:
    for path in (f"/usage?{NOVEMBER}", f"/usage/requests?{NOVEMBER}", "/usage/requests/req_001"):
        assert usages.ok(path) == usages.ok(f"/v1{path}")


# --- Who sees what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "group_by", "names"),
    [
        (BOSS, "key", {"search-prod", "search-dev"}),
        (BOSS, "team", {"search"}),
        (CALLER, "key", {"search-prod"}),
        (CALLER, "team", {"search"}),
        (OTHER, "key", {"ads-prod"}),
        (LONER, "key", {"loner"}),
    ],
)
def test_each_sees_its_own(usages: Usages, key: str, group_by: str, names: set[str]) -> None:
    rows = usages.ok(f"/usage?{NOVEMBER}&group_by={group_by}", key)["data"]
    assert {row[group_by] for row in rows} == names
    assert sum(row["calls"] for row in rows) == 10 * (2 if key == BOSS else 1)


@pytest.mark.parametrize(("key", "calls"), [(ADMIN, 40), (BOSS, 20), (CALLER, 10), (LONER, 10)])
def test_narrowed_without_a_word(usages: Usages, key: str, calls: int) -> None:
    for group_by in ("day", "organisation", "model", "model,day"):
        rows = usages.ok(f"/usage?{NOVEMBER}&group_by={group_by}", key)["data"]
        assert sum(row["calls"] for row in rows) == calls
    assert len(usages.ok(f"/usage/requests?{NOVEMBER}&limit=100", key)["data"]) == calls


@pytest.mark.parametrize(
    ("key", "query", "param"),
    [
        (CALLER, "key=search-dev", "key"),
        (CALLER, "team=ads", "team"),
        (BOSS, "team=ads", "team"),
        (LONER, "key=search-prod", "key"),
        (LONER, "team=search", "team"),
    ],
)
@pytest.mark.parametrize("path", ["/usage", "/usage/requests"])
def test_others_are_refused_by_name(usages: Usages, key: str, query: str, param: str, path: str) -> None:
    error = usages.refused(f"{path}?{NOVEMBER}&{query}", 403, key)
    assert (error["type"], error["param"]) == ("permission_error", param)


def test_a_team_admin_cannot_reach_past_its_team_by_a_key(usages: Usages) -> None:
    assert usages.ok(f"/usage?{NOVEMBER}&key=ads-prod", BOSS)["data"] == []
    assert usages.ok(f"/usage/requests?{NOVEMBER}&key=ads-prod", BOSS)["data"] == []


@pytest.mark.parametrize(
    ("key", "group_by"), [(CALLER, "provider"), (CALLER, "user"), (BOSS, "key,model"), (BOSS, "tag")]
)
def test_what_is_not_kept_for_their_view_says_why(usages: Usages, key: str, group_by: str) -> None:
    error = usages.refused(f"/usage?{NOVEMBER}&group_by={group_by}", 400, key)
    assert error["param"] == "group_by"
    assert "what this key may see" in error["message"]
    assert "team x model" in error["message"]


def test_one_request(usages: Usages) -> None:
    """`req_000` is of search-prod, `req_001` of search-dev, `req_002` of ads-prod."""
    seen = {
        key: [usages.get(f"/usage/requests/req_00{number}", key).status_code for number in range(3)]
        for key in (ADMIN, BOSS, CALLER, OTHER)
    }
    assert seen == {ADMIN: [200] * 3, BOSS: [200, 200, 404], CALLER: [200, 404, 404], OTHER: [404, 404, 200]}


@pytest.mark.parametrize("path", ["/usage", "/v1/usage", "/usage/requests", "/usage/requests/req_000"])
@pytest.mark.parametrize("key", ["sk-wrong", ""])
def test_nobody_without_a_key(usages: Usages, path: str, key: str) -> None:
    assert usages.refused(path, 401, key or "x")["code"] == "invalid_api_key"


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_requests_newest_first_as_one_reads_them_alone(usages: Usages, records: list[RequestRecord]) -> None:
    answer = usages.ok(f"/usage/requests?{NOVEMBER}&limit=7")
    newest = sorted(records, key=lambda one: (one.at_ms, one.request_id), reverse=True)
    assert [entry["request_id"] for entry in answer["data"]] == [one.request_id for one in newest[:7]]
    assert answer["data"][0] == usages.ok(f"/usage/requests/{newest[0].request_id}")
    assert usages.all_pages(f"/usage/requests?{NOVEMBER}", 7)[7:9] == [
        usages.ok(f"/usage/requests/{one.request_id}") for one in newest[7:9]
    ]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("team=search", 20),
        ("key=ads-prod", 10),
        ("user=u1", 13),
        ("model=large", 14),
        ("model=fast", 40),
        ("provider=echo&team=ads", 3),
        ("status=failed", 4),
        ("status=abandoned", 0),
        ("from=2026-11-02&to=2026-11-02", 4),
    ],
)
def test_requests_by(usages: Usages, query: str, count: int) -> None:
    days = "" if query.startswith("from") else f"{NOVEMBER}&"
    assert len(usages.all_pages(f"/usage/requests?{days}{query}", 5)) == count


# --- Pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/usage?group_by=key,model&", "/usage?group_by=team,day&", "/usage?", "/usage/requests?"]
)
@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("key", [ADMIN, CALLER])
def test_pages_join_without_a_seam(usages: Usages, path: str, limit: int, key: str) -> None:
    path = path.replace("team,day", "model,day").replace("key,model", "model") if key == CALLER else path
    whole = usages.ok(f"{path}{NOVEMBER}&limit=100", key)
    assert whole["next"] is None
    assert usages.all_pages(f"{path}{NOVEMBER}", limit, key) == whole["data"]


@pytest.mark.parametrize("path", ["/usage", "/usage/requests"])
def test_broken_page_tokens(usages: Usages, path: str) -> None:
    token = usages.ok(f"{path}?{NOVEMBER}&limit=2")["next"]
    assert usages.ok(f"{path}?{NOVEMBER}&limit=3&next={token}")["data"], "the limit may change"
    for broken in ("", "x", token[:-1], f"{token}A", token[1:], token.swapcase(), "%00", "null"):
        assert usages.refused(f"{path}?{NOVEMBER}&next={broken}", 400)["param"] == "next"
    for other in (f"{path}?from=2026-11-02&to=2026-11-30&next={token}", f"{path}?{NOVEMBER}&team=search&next={token}"):
        assert usages.refused(other, 400)["param"] == "next"
    assert usages.refused(f"{path}?{NOVEMBER}&next={token}", 400, BOSS)["param"] == "next"
    wrong = "/usage/requests" if path == "/usage" else "/usage"
    assert usages.refused(f"{wrong}?{NOVEMBER}&next={token}", 400)["param"] == "next"


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/usage", "/usage/requests"])
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("from=yesterday", "from"),
        ("to=2026-02-29", "to"),
        ("from=2026-13-01", "from"),
        ("from=20261101", "from"),
        ("from=2026-11-01T00:00:00Z", "from"),
        ("from=2026-11-1", "from"),
        ("from=٢٠٢٦-11-01", "from"),
        ("from=", "from"),
        ("from=2026-11-30&to=2026-11-01", "from"),
        ("from=2024-01-01&to=2026-11-01", "from"),
        ("from=0001-01-01&to=0001-01-02", "from"),
        ("from=9999-12-30&to=9999-12-31", "from"),
        ("to=0001-01-02", "to"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e2", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("from=2026-11-01&from=2026-11-02", "from"),
        ("group-by=team", "group-by"),
        ("team=", "team"),
        (f"team={'x' * 1025}", "team"),
        ("team=%FF", None),
        ("x=1&" * 60, None),
    ],
)
def test_bad_questions(usages: Usages, path: str, query: str, param: str | None) -> None:
    error = usages.refused(f"{path}?{query}", 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    "group_by", ["colour", "team,model,key", "user,model", "tag,team", "team,team", "day,day", "", "team,", "Team"]
)
def test_groupings_that_are_not_kept(usages: Usages, group_by: str) -> None:
    error = usages.refused(f"/usage?{NOVEMBER}&group_by={group_by}", 400)
    assert error["param"] == "group_by"


def test_the_kept_groups_are_named(usages: Usages) -> None:
    message = usages.refused(f"/usage?{NOVEMBER}&group_by=user&model=small", 400)["message"]
    for group in ("organisation", "team", "tag", "team x model", "key x model", "provider x model", "team x key"):
        assert group in message
    assert "`model`, for the filters" in message


@pytest.mark.parametrize(
    ("query", "param"),
    [("format=xml", "format"), ("format=csv&limit=5", "format"), ("status=failed", "status")],
)
def test_bad_parameters_of_totals(usages: Usages, query: str, param: str) -> None:
    assert usages.refused(f"/usage?{query}", 400)["param"] == param


@pytest.mark.parametrize(
    ("query", "param"),
    [("status=open", "status"), ("status=done", "status"), ("group_by=team", "group_by"), ("limit=101", "limit")],
)
def test_bad_parameters_of_lists(usages: Usages, query: str, param: str) -> None:
    assert usages.refused(f"/usage/requests?{query}", 400)["param"] == param


def test_only_get(usages: Usages) -> None:
    answer = httpx.post(f"{usages.app.root}/usage", headers=usages.app.auth)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


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
