"""`GET /usage` and `/usage/requests` over real HTTP: what they count, who sees what, and pages."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from llm_gateway.domain.usage import RequestRecord
from llm_gateway.pipeline.page_tokens import PageTokens
from tests.integration.november import ADMIN, BOSS, CALLER, LONER, NOVEMBER, OTHER, Usages, cost


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


@pytest.mark.parametrize(
    ("path", "position"),
    [
        *(("/usage?", each) for each in (5, [], ["", ["x"], 1], ["", [5]], ["", ["x", "y"]], ["2026-11-05", ["x"]])),
        *(("/usage?group_by=team,day&", each) for each in (["", ["x"]], ["never", ["x"]], ["2025-11-05", ["x"]])),
        *(("/usage/requests?", each) for each in (None, ["x"], [1e300, "x"], [-1, "x"], [1, 2])),
    ],
)
def test_a_place_that_a_keys_holder_made_up(
    usages: Usages, monkeypatch: pytest.MonkeyPatch, path: str, position: object
) -> None:
    """A key's holder can compute what tokens are sealed with."""
    seal = PageTokens.seal
    monkeypatch.setattr(PageTokens, "seal", lambda tokens, question, _: seal(tokens, question, position))
    token = usages.ok(f"{path}{NOVEMBER}&limit=1")["next"]
    assert usages.refused(f"{path}{NOVEMBER}&next={token}", 400)["param"] == "next"


# --- What is refused --------------------------------------------------------------------------------------------------
