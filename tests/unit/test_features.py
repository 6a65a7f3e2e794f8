"""Specifies when a rule's condition holds."""

from dataclasses import replace
from decimal import Decimal

import pytest

from llm_gateway.domain.strategies import Condition
from llm_gateway.routing.features import Features, holds

ASKED = Features(
    "req_1",
    key="search-prod",
    team="search",
    user="ann",
    tags={"tier": "free", "app": "chat"},
    metadata={"thread": "7"},
    count_input_tokens=lambda: 1000,
    stream=True,
    budget_used=Decimal("0.8"),
)


@pytest.mark.parametrize(
    "condition",
    [
        Condition(),
        Condition(team="search"),
        Condition(user="ann"),
        Condition(stream=True),
        Condition(tags=(("tier", "free"),)),
        Condition(tags=(("tier", "free"), ("app", "chat"))),
        Condition(metadata=(("thread", "7"),)),
        Condition(input_tokens_above=999),
        Condition(input_tokens_below=1001),
        Condition(input_tokens_above=999, input_tokens_below=1001),
        Condition(budget_used_above=Decimal("0.79")),
        Condition(team="search", user="ann", stream=True, input_tokens_above=0),
    ],
)
def test_it_holds_where_all_is_so(condition: Condition) -> None:
    assert holds(condition, ASKED)


@pytest.mark.parametrize(
    "condition",
    [
        Condition(team="other"),
        Condition(user="Ann"),
        Condition(stream=False),
        Condition(tags=(("tier", "gold"),)),
        Condition(tags=(("tier", "free"), ("missing", ""))),
        Condition(metadata=(("thread", "8"),)),
        Condition(metadata=(("tier", "free"),)),
        Condition(input_tokens_above=1000),
        Condition(input_tokens_below=1000),
        Condition(budget_used_above=Decimal("0.8")),
        Condition(team="search", user="ann", stream=False),
    ],
)
def test_it_does_not_where_one_thing_is_not(condition: Condition) -> None:
    assert not holds(condition, ASKED)


def test_a_budget_that_nobody_has_seen_is_not_used() -> None:
    unseen = replace(ASKED, budget_used=None)
    assert not holds(Condition(budget_used_above=Decimal("0.000001")), unseen)


def test_a_caller_is_a_user_where_there_is_one_and_else_a_key() -> None:
    assert (ASKED.of("user"), ASKED.of("key")) == ("user ann", "key search-prod")
    for nobody in (None, ""):
        assert replace(ASKED, user=nobody).of("user") == "key search-prod"
    assert Features("r", user="a").of("user") != Features("r", key="a").of("key")
