"""What `GET /usage` and `/usage/requests` refuse, and in which words."""

import httpx
import pytest

from tests.integration.november import NOVEMBER, Usages


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
