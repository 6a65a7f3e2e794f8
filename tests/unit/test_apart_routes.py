"""Specifies what of an alias's rules, canary and shadow is in its route, and whom a key may reach by them."""

import pytest

from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider, Timeouts
from llm_gateway.domain.strategies import Canary, Condition, Rule, Shadow
from llm_gateway.errors import ModelNotFound
from llm_gateway.routing.permission import forbidden, within
from llm_gateway.routing.resolve import resolve
from llm_gateway.routing.route import Dropped, Group, Route

A, B, C, D = Deployment("corp", "a"), Deployment("openai", "b"), Deployment("azure", "c"), Deployment("off", "d")
STREAMED, ANN = Condition(stream=True), Condition(user="ann")
SLOW = Timeouts(total_s=9)


def route_of(fast: Alias, *others: Alias, models: tuple[str, ...] = ()) -> Route:
    providers = {
        name: Provider(name, "openai_chat", "https://x/v1", enabled=name != "off")
        for name in ("corp", "openai", "azure", "off")
    }
    return resolve("fast", Catalog(providers, {each.name: each for each in (fast, *others)}), (), models)


def alias(*deployments: Deployment, name: str = "fast", **more: object) -> Alias:
    return Alias(name, deployments, **more)  # type: ignore[arg-type]


def test_a_group_has_its_aliass_strategy_and_canary() -> None:
    canary = Canary(C, 5)
    (group,) = route_of(alias(A, B, strategy="sticky", sticky_by="key", canary=canary)).groups
    assert (group.strategy, group.sticky_by, group.canary) == ("sticky", "key", canary)
    assert group.reached == (A, B, C)


def test_fallbacks_have_their_own() -> None:
    smart = alias(B, name="smart", strategy="lowest_cost", canary=Canary(C, 1))
    first, second, third = route_of(alias(A, strategy="priority", fallbacks=("smart", "azure:x")), smart).groups
    assert [group.strategy for group in (first, second, third)] == ["priority", "lowest_cost", "weighted"]
    assert (first.canary, second.canary, third.canary) == (None, Canary(C, 1), None)


def test_a_rule_leads_to_an_alias_or_to_a_deployment_with_the_ways_of_the_alias() -> None:
    rules = (Rule(STREAMED, "smart"), Rule(ANN, "azure:c"))
    smart = alias(B, name="smart", timeouts=SLOW, fallbacks=("azure:not-followed",))
    route = route_of(alias(A, rules=rules, timeouts=Timeouts(total_s=5), retries=3), smart)
    assert [each.when for each in route.rules] == [STREAMED, ANN]
    to_smart, to_azure = (each.group for each in route.rules)
    assert to_smart == Group("smart", (B,), SLOW, names=("smart", "fast"))
    assert to_azure == Group("azure:c", (C,), Timeouts(total_s=5), 3, names=("fast",))
    assert [group.name for group in route.groups] == ["fast"]


def test_names_of_the_request_leave_rules_and_shadow_in_place() -> None:
    route = route_of(
        alias(A, rules=(Rule(ANN, "azure:c"),), shadow=Shadow(B, 5)), alias(B, name="smart"), models=("smart",)
    )
    assert [group.name for group in route.groups] == ["fast", "smart"]
    assert (len(route.rules), route.shadow_percent) == (1, 5)


def test_who_cannot_be_called_is_dropped_wherever_the_name_stands() -> None:
    rules = (Rule(STREAMED, "off:x"), Rule(ANN, "small"))
    small = alias(D, name="small")
    route = route_of(alias(A, D, canary=Canary(Deployment("off", "e"), 5), rules=rules, fallbacks=("off:f",)), small)
    assert [each.group for each in route.rules] == [None, None]
    assert route.groups == (Group("fast", (A,), names=("fast",)),)
    assert {(each.deployment.name, each.group, each.reason) for each in route.dropped} == {
        ("off:d", "fast", "disabled"),
        ("off:e", "fast", "disabled"),
        ("off:f", "off:f", "disabled"),
        ("off:x", "off:x", "disabled"),
        ("off:d", "small", "disabled"),
    }


def test_a_canary_does_not_stand_in_for_its_alias() -> None:
    with pytest.raises(ModelNotFound):
        route_of(alias(D, canary=Canary(A, 100)))
    route = route_of(alias(D, canary=Canary(A, 100), fallbacks=("openai:b",)))
    assert [group.name for group in route.groups] == ["openai:b"]
    assert [each.deployment for each in route.dropped] == [D, A]


def test_a_shadow_has_the_time_of_its_alias_and_is_gone_with_its_provider() -> None:
    route = route_of(alias(A, shadow=Shadow(B, 12.5), timeouts=SLOW))
    assert route.shadow == Group("fast", (B,), SLOW, names=("fast",))
    assert route.shadow_percent == 12.5
    assert route_of(alias(A, shadow=Shadow(D, 12.5))).shadow is None


def test_a_key_that_may_use_the_alias_may_use_what_its_rules_and_canary_lead_to() -> None:
    smart = alias(B, name="smart")
    route = route_of(alias(A, canary=Canary(C, 5), rules=(Rule(ANN, "smart"), Rule(STREAMED, "azure:x"))), smart)
    assert forbidden(("fast",), route) is None
    assert forbidden(("corp:*", "azure:*", "openai:*"), route) is None
    for fewer, refused in ((("corp:*", "openai:*"), "fast"), (("corp:*", "azure:*"), "smart")):
        group = forbidden(fewer, route)
        assert group is not None
        assert group.name == refused


def test_a_shadow_is_no_matter_of_what_a_key_may_ask_for() -> None:
    assert forbidden(("corp:*",), route_of(alias(A, shadow=Shadow(B, 5)))) is None


def test_a_keys_providers_hold_for_all_of_it() -> None:
    rules = (Rule(STREAMED, "smart"), Rule(ANN, "azure:x"))
    smart = alias(A, B, name="smart", canary=Canary(C, 5))
    route = within(("corp",), route_of(alias(A, C, canary=Canary(B, 5), shadow=Shadow(B, 5), rules=rules), smart))
    assert route is not None
    assert route.groups == (Group("fast", (A,), names=("fast",)),)
    assert [each.group for each in route.rules] == [Group("smart", (A,), names=("smart", "fast")), None]
    assert route.shadow is None
    assert route.dropped == (
        Dropped(C, "fast", "not_allowed"),
        Dropped(B, "fast", "not_allowed"),
        Dropped(B, "smart", "not_allowed"),
        Dropped(C, "smart", "not_allowed"),
        Dropped(Deployment("azure", "x"), "azure:x", "not_allowed"),
    )


def test_where_nobody_is_left_to_share_with_the_canary_goes_too() -> None:
    route = within(("openai",), route_of(alias(A, canary=Canary(B, 100), fallbacks=("openai:x",))))
    assert route is not None
    assert [group.name for group in route.groups] == ["openai:x"]
    assert route.dropped == (Dropped(A, "fast", "not_allowed"), Dropped(B, "fast", "not_allowed"))
