"""Specifies whom a route's plan names, in which order, whom it leaves out, and why."""

from decimal import Decimal

import pytest

from llm_gateway.domain.catalog import Deployment
from llm_gateway.domain.strategies import Canary, Condition
from llm_gateway.routing.features import Features
from llm_gateway.routing.health import CircuitState, Health
from llm_gateway.routing.plan import Plan, plan
from llm_gateway.routing.route import Dropped, Group, Route, Ruled
from tests.fakes.known_health import KnownHealth, broken

A, B, C, D = (Deployment("corp", name) for name in "abcd")
ALL_WELL = KnownHealth()
ASKED = Features("req_1", key="search-prod", user="ann")


def group(name: str, *deployments: Deployment, canary: Canary | None = None) -> Group:
    return Group(name, deployments, strategy="priority", canary=canary)


def route(*groups: Group, rules: tuple[Ruled, ...] = (), **more: object) -> Route:
    return Route("fast", None, groups, rules=rules, **more)  # type: ignore[arg-type]


def names(made: Plan) -> list[str]:
    return [each.deployment.model for each in made.candidates]


def left_out(made: Plan) -> list[tuple[str, str, str]]:
    return [(each.deployment.model, each.group, each.reason) for each in made.dropped]


def test_groups_come_in_their_order_and_a_candidate_knows_its_group() -> None:
    first, second = group("fast", A), group("smart", B, C)
    made = plan(route(first, second), ASKED, ALL_WELL)
    assert [(each.deployment, each.candidate.group) for each in made.candidates] == [
        (A, first),
        (B, second),
        (C, second),
    ]
    assert (made.strategy, made.dropped, made.shadow, made.rule) == ("priority", (), None, None)


def test_a_deployment_of_two_groups_is_tried_once() -> None:
    elsewhere = Deployment("corp", "a", region="eu-central-1")
    made = plan(route(group("fast", A), group("smart", A, elsewhere)), ASKED, ALL_WELL)
    assert [each.deployment for each in made.candidates] == [A, elsewhere]


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        ("", "abc"),
        ("a", "bca"),
        ("ab", "cab"),
        ("abc", "abc"),
    ],
)
def test_an_open_circuit_comes_last_and_is_not_dropped(opened: str, expected: str) -> None:
    three = route(group("fast", A), group("b", B), group("c", C))
    made = plan(three, ASKED, broken(*(f"corp:{name}" for name in opened)))
    assert "".join(names(made)) == expected
    assert {each.deployment.model for each in made.candidates if each.open} == set(opened)
    assert made.dropped == ()


def test_the_only_deployment_is_tried_whatever_its_past_and_nobody_is_asked() -> None:
    class Nobody(Health):
        def open(self, name: str) -> bool:
            raise AssertionError

        def state(self, name: str) -> CircuitState:
            raise AssertionError

    (only,) = plan(route(group("fast", A)), ASKED, Nobody()).candidates
    assert (only.deployment, only.reason, dict(only.numbers)) == (A, "only", {})


def test_what_was_tried_does_not_come_again() -> None:
    made = plan(route(group("fast", A, B), group("c", C)), ASKED, ALL_WELL, tried={"corp:a"})
    assert names(made) == ["b", "c"]


def test_chains_have_groups_of_their_own() -> None:
    chained = route(group("fast", A), context_groups=(group("long", B),), content_groups=(group("mild", C),))
    assert names(plan(chained, ASKED, ALL_WELL)) == ["a"]
    assert names(plan(chained, ASKED, ALL_WELL, chain="context")) == ["b"]
    assert names(plan(chained, ASKED, ALL_WELL, chain="content")) == ["c"]
    assert names(plan(route(group("fast", A)), ASKED, ALL_WELL, chain="content")) == []


def test_each_request_draws_for_its_fallbacks_too() -> None:
    weighted = Group("long", (A, B))
    chained = route(group("fast", C), context_groups=(weighted,))
    plans = (plan(chained, Features(f"req_{number}"), ALL_WELL, chain="context") for number in range(50))
    assert {tuple(names(each)) for each in plans} == {("a", "b"), ("b", "a")}


RULES = (
    Ruled(Condition(team="search"), group("small", B)),
    Ruled(Condition(user="ann"), group("corp:c", C)),
    Ruled(Condition(stream=False), group("corp:d", D)),
)


def test_the_first_rule_that_holds_leads_and_the_rest_of_the_route_follows() -> None:
    made = plan(route(group("fast", A), rules=RULES), ASKED, ALL_WELL)
    assert (made.rule, names(made)) == (1, ["c", "a"])
    assert left_out(made) == [("b", "small", "rule"), ("d", "corp:d", "rule")]


def test_where_no_rule_holds_the_route_is_as_it_was() -> None:
    made = plan(route(group("fast", A), rules=RULES[:1]), ASKED, ALL_WELL)
    assert (made.rule, names(made), left_out(made)) == (None, ["a"], [("b", "small", "rule")])


def test_a_rule_to_a_deployment_of_the_route_moves_it_to_the_front() -> None:
    made = plan(route(group("fast", A, B, C), rules=RULES[1:2]), ASKED, ALL_WELL)
    assert (names(made), made.dropped) == (["c", "a", "b"], ())


def test_a_rule_that_leads_nowhere_still_holds() -> None:
    """So that no later one is taken for it."""
    nowhere = (Ruled(Condition(user="ann"), None), *RULES[2:])
    made = plan(route(group("fast", A), rules=nowhere), ASKED, ALL_WELL)
    assert (made.rule, names(made), left_out(made)) == (0, ["a"], [("d", "corp:d", "rule")])


def test_the_strategy_that_is_named_is_that_of_who_leads() -> None:
    sticky = Group("small", (B, C), strategy="sticky")
    made = plan(route(group("fast", A), rules=(Ruled(Condition(user="ann"), sticky),)), ASKED, ALL_WELL)
    assert made.strategy == "sticky"


def test_a_canary_is_first_for_whom_it_is_drawn_and_left_out_for_the_others() -> None:
    always, never = Canary(C, 100), Canary(C, 0)
    made = plan(route(group("fast", A, B, canary=always)), ASKED, ALL_WELL)
    assert names(made) == ["c", "a", "b"]
    assert (made.candidates[0].reason, dict(made.candidates[0].numbers)) == (
        "canary",
        {"percent": 100, "by": "key search-prod"},
    )
    made = plan(route(group("fast", A, B, canary=never)), ASKED, ALL_WELL)
    assert (names(made), left_out(made)) == (["a", "b"], [("c", "fast", "canary")])


def test_a_canary_that_serves_anyhow_is_only_moved() -> None:
    assert names(plan(route(group("fast", A, B, C, canary=Canary(C, 100))), ASKED, ALL_WELL)) == ["c", "a", "b"]
    made = plan(route(group("fast", A, B, C, canary=Canary(C, 0))), ASKED, ALL_WELL)
    assert (names(made), made.dropped) == (["a", "b", "c"], ())


def test_a_canary_whose_circuit_is_open_steps_back() -> None:
    made = plan(route(group("fast", A, B, canary=Canary(C, 100))), ASKED, broken("corp:c"))
    assert names(made) == ["a", "b", "c"]


def test_providers_without_a_key_are_passed_over_unless_nobody_else_is_left() -> None:
    other = Deployment("openai", "o")
    mixed = route(group("fast", A, other), group("b", B))
    made = plan(mixed, ASKED, ALL_WELL, keyless={"corp"})
    assert (names(made), left_out(made)) == (["o"], [("a", "fast", "no_key"), ("b", "b", "no_key")])
    assert names(plan(mixed, ASKED, ALL_WELL, keyless={"corp"}, tried={"openai:o"})) == []
    assert names(plan(mixed, ASKED, ALL_WELL, keyless={"corp", "openai"})) == ["a", "o", "b"]


def test_what_the_route_has_dropped_is_told_unless_it_is_tried_all_the_same() -> None:
    gone = (Dropped(A, "fast", "disabled"), Dropped(D, "fast", "not_allowed"))
    made = plan(route(group("fast", A), dropped=gone), ASKED, ALL_WELL)
    assert (names(made), left_out(made)) == (["a"], [("d", "fast", "not_allowed")])


def test_a_shadow_gets_its_share_and_is_no_candidate() -> None:
    shadowed = route(group("fast", A), shadow=group("fast", D), shadow_percent=25.0)
    made = [plan(shadowed, Features(f"req_{number}"), ALL_WELL) for number in range(4000)]
    drawn = [each.shadow for each in made if each.shadow is not None]
    assert len(drawn) / len(made) == pytest.approx(0.25, abs=0.03)
    assert {each.deployment for each in drawn} == {D}
    assert {tuple(names(each)) for each in made} == {("a",)}
    assert all(each.dropped == () for each in made)


def test_a_shadow_that_fails_or_has_no_key_is_spared() -> None:
    shadowed = route(group("fast", A), shadow=group("fast", D), shadow_percent=100.0)
    assert plan(shadowed, ASKED, ALL_WELL).shadow is not None
    assert plan(shadowed, ASKED, broken("corp:d")).shadow is None
    assert plan(shadowed, ASKED, ALL_WELL, keyless={"corp"}).shadow is None
    assert plan(shadowed, ASKED, ALL_WELL, chain="context").shadow is None


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return 5000


def test_a_request_is_measured_only_where_that_matters_and_once() -> None:
    counting = Counting()
    asked = Features("req_1", count_input_tokens=counting)
    plan(route(group("fast", A, B)), asked, ALL_WELL)
    assert counting.calls == 0
    sized = (Ruled(Condition(input_tokens_above=9000), group("long", C)), Ruled(Condition(input_tokens_above=1), None))
    assert plan(route(group("fast", A), rules=sized), asked, ALL_WELL).rule == 1
    assert counting.calls == 1


def test_prices_are_asked_for_under_the_strategy_that_needs_them() -> None:
    def never(_: Deployment) -> Decimal | None:
        raise AssertionError

    plan(route(group("fast", A, B)), ASKED, ALL_WELL, never)
