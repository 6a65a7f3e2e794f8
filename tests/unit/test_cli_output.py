"""What is printed: tables, bars, and the words of others."""

import json
import string
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.cli.failures import visible
from llm_gateway.cli.models import matches
from llm_gateway.cli.output import Output
from llm_gateway.cli.teams import told_budgets, told_limits
from llm_gateway.cli.usage import _table as usage_table
from llm_gateway.cli.usage import bar, told_usd
from llm_gateway.cli.values import budget, where

if TYPE_CHECKING:
    from llm_gateway.cli.shell import Shell


def test_columns_are_aligned_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    Output().table(
        ("NAME", "CALLS", "OF"), [("a", 5, None), (long, 12345, ["b", "c"]), ("d", True, [])], right=("CALLS",)
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"{long}  12345  b,c"
    assert lines[1] == f"a{' ' * 299}      5  -"
    assert lines[3].split() == ["d", "yes", "none"]


def test_an_empty_table_says_so_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("NAME",), [], empty="nothing yet")
    assert capsys.readouterr() == ("", "nothing yet\n")


def test_json_is_exact_and_unescaped(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).show({"cost_usd": "0.10", "name": "größe"}, lambda: pytest.fail("people's"))
    out = capsys.readouterr().out
    assert json.loads(out) == {"cost_usd": "0.10", "name": "größe"}
    assert "größe" in out


@given(st.text())
def test_others_words_stay_on_a_line_and_give_no_orders(text: str) -> None:
    shown = visible(text)
    assert all(each.isprintable() for each in shown)
    assert len(shown.splitlines()) <= 1
    if text.isprintable():
        assert shown == text.strip()


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        ("0", "0"),
        ("1234.5678", "1,234.57"),
        ("1", "1.00"),
        ("0.5", "0.50"),
        ("0.000048", "0.000048"),
        ("0.0000000012345", "0.0000000012"),
    ],
)
def test_money_for_reading(cost: str, shown: str) -> None:
    assert told_usd(Decimal(cost)) == shown


def used(model: str, calls: int, unpriced: int, cost: str) -> dict[str, Any]:
    counts = {"calls": calls, "errors": 0, "input_tokens": 9, "output_tokens": 1, "unpriced": unpriced}
    return {"model": model, **counts, "cost_usd": cost}


def test_calls_without_a_price_are_told_apart_from_free_ones(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [used("known", 2, 0, "0.058"), used("free", 1, 0, "0"), used("some", 3, 1, "0.1"), used("none", 7, 7, "0")]
    usage_table(cast("Shell", SimpleNamespace(out=Output())), ["model"], rows)
    out, err = capsys.readouterr()
    header, *lines = (line.split() for line in out.splitlines())
    assert header == ["MODEL", "CALLS", "ERRORS", "INPUT", "OUTPUT", "UNPRICED", "COST", "$"]
    assert {line[0]: line[5:7] for line in lines} == {
        "known": ["0", "0.058"],
        "free": ["0", "0"],
        "some": ["1", "0.10"],
        "none": ["7", "-"],
        "total": ["8", "0.16"],
    }
    assert err.startswith("unpriced calls are in no cost")
    usage_table(cast("Shell", SimpleNamespace(out=Output())), ["model"], rows[:2])
    out, err = capsys.readouterr()
    assert ("UNPRICED" in out, err) == (False, "")


@given(st.decimals(min_value=0, max_value=10**6, places=9), st.decimals(min_value=0, max_value=10**6, places=9))
def test_a_bar_is_a_share_of_the_longest(one: Decimal, other: Decimal) -> None:
    most = max(one, other)
    bars = [bar(each, most) for each in (one, other)]
    assert all(len(each) <= 24 for each in bars)
    assert [bool(each) for each in bars] == [one > 0, other > 0]
    if most:
        assert "█" * 24 in bars


@pytest.mark.parametrize(
    ("name", "pattern", "is_one"),
    [
        ("openai:gpt-4.1", "GPT", True),
        ("openai:gpt-4.1", "gpt*", False),
        ("openai:gpt-4.1", "*gpt*", True),
        ("openai:gpt-4.1", "openai:*", True),
        ("a[b]", "a[b]*", True),
        ("ab", "a[b]*", False),
    ],
)
def test_patterns(name: str, pattern: str, *, is_one: bool) -> None:
    assert matches(name, pattern) is is_one


def test_budgets_and_filters() -> None:
    assert budget(None) is None
    assert budget("2.50/day") == {"usd": "2.50", "period": "day"}
    assert where(["team=a", "tag=feature=x"], ("team", "tag")) == {"team": "a", "tag": "feature=x"}
    for text in ("50", "50/", "/day", "-1/day", "nan/day", "inf/day", "1e4"):
        with pytest.raises(typer.BadParameter):
            budget(text)
    for text in ("team", "team=", "=a", "colour=red"):
        with pytest.raises(typer.BadParameter):
            where([text], ("team",))


@given(st.text(alphabet=string.printable))
def test_what_is_no_budget_is_never_a_crash(text: str) -> None:
    try:
        found = budget(text)
    except typer.BadParameter:
        return
    assert found is not None
    assert Decimal(found["usd"]) >= 0


def test_what_a_team_may() -> None:
    two = [{"usd": "50", "period": "month"}, {"usd": "5", "period": "day"}]
    assert told_budgets({"budget": two}) == "$50/month, $5/day"
    assert told_budgets({"budget": two[0]}) == "$50/month"
    assert told_budgets({}) is None
    assert told_limits({"limits": {"rpm": 600, "tpm": None, "parallel": 20}}) == "600 rpm, 20 parallel"
    assert told_limits({"limits": None}) is None
