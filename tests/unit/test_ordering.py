"""Specifies each strategy's order, and the numbers that it is told by."""

import math
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise

import pytest

from llm_gateway.domain.catalog import Deployment
from llm_gateway.domain.strategies import By, Canary, Strategy
from llm_gateway.routing.draws import draw
from llm_gateway.routing.features import Features
from llm_gateway.routing.health import CircuitState
from llm_gateway.routing.ordering import EXPLORED, Planned, in_order, is_canary
from llm_gateway.routing.plan import nobody_knows
from llm_gateway.routing.route import Group
from tests.fakes.known_health import KnownHealth

A, B, C = (Deployment("corp", name) for name in "abc")
ALL_WELL = KnownHealth()
CALLS = 5_000


def shared(strategy: Strategy, *deployments: Deployment, by: By = "user") -> Group:
    return Group("fast", deployments, strategy=strategy, sticky_by=by)


def first_places(group: Group, features: Iterable[Features], health: KnownHealth = ALL_WELL) -> Counter[str]:
    return Counter(models(in_order(group, each, health, nobody_knows))[0] for each in features)


def models(planned: Iterable[Planned]) -> list[str]:
    return [each.deployment.model for each in planned]


def requests(count: int = CALLS) -> Iterable[Features]:
    return (Features(f"req_{number}") for number in range(count))


def unexplored(**of: object) -> Features:
    """A request under `lowest_latency` that does not explore."""
    return next(
        Features(name, **of)  # type: ignore[arg-type]
        for name in map(str, range(100))
        if draw(name, "explore fast") >= EXPLORED
    )


def is_share(count: int, share: float, of: int = CALLS) -> bool:
    """Within four standard deviations of a binomial."""
    deviation = math.sqrt(share * (1 - share) / of)
    return abs(count / of - share) <= 4 * deviation


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 2, 7), (1_000_000_000_000, 1)])
@pytest.mark.parametrize("strategy", ["weighted", "least_in_flight", "lowest_cost"])
def test_weights_share_the_first_place_among_equals(strategy: Strategy, weights: tuple[int, ...]) -> None:
    group = shared(strategy, *(Deployment("corp", str(index), weight) for index, weight in enumerate(weights)))
    first = first_places(group, requests())
    for index, weight in enumerate(weights):
        assert is_share(first[str(index)], weight / sum(weights))


def test_those_who_are_left_share_the_later_places_by_weight() -> None:
    group = shared("weighted", Deployment("corp", "a", 1), Deployment("corp", "b", 2), Deployment("corp", "c", 6))
    orders = [models(in_order(group, each, ALL_WELL, nobody_knows)) for each in requests()]
    second = Counter(order[1] for order in orders if order[0] == "c")
    assert is_share(second["b"], 2 / 3, second.total())


def test_a_deployment_that_is_given_twice_has_both_weights_and_one_place() -> None:
    group = shared("weighted", A, Deployment("corp", "a", 2), B)
    assert is_share(first_places(group, requests())["a"], 3 / 4)
    assert all(len(in_order(group, each, ALL_WELL, nobody_knows)) == 2 for each in requests(10))


def test_weights_are_told() -> None:
    group = shared("weighted", Deployment("corp", "a", 3), B)
    told = {
        each.deployment.model: dict(each.numbers) for each in in_order(group, Features("r"), ALL_WELL, nobody_knows)
    }
    assert told == {"a": {"weight": 3, "share": 0.75}, "b": {"weight": 1, "share": 0.25}}


def test_priority_is_the_configured_order_whatever_the_weights() -> None:
    group = shared("priority", C, Deployment("corp", "a", 1000), B, C)
    assert {tuple(models(in_order(group, each, ALL_WELL, nobody_knows))) for each in requests(50)} == {("c", "a", "b")}


def test_sticky_is_the_same_for_a_user_whatever_the_request() -> None:
    group = shared("sticky", A, B, C)
    orders = {
        tuple(models(in_order(group, Features(f"r{number}", key=f"k{number}", user="ann"), ALL_WELL, nobody_knows)))
        for number in range(50)
    }
    assert len(orders) == 1
    first = first_places(group, (Features("r", user=str(number)) for number in range(CALLS)))
    assert all(is_share(count, 1 / 3) for count in first.values())


def test_sticky_by_key_and_a_call_without_a_user_counts_as_its_keys() -> None:
    by_key, by_user = shared("sticky", A, B, C, by="key"), shared("sticky", A, B, C)
    for number in range(50):
        key = f"key-{number}"
        of_key = models(in_order(by_key, Features("r", key=key, user="ann"), ALL_WELL, nobody_knows))
        without_user = models(in_order(by_user, Features("s", key=key), ALL_WELL, nobody_knows))
        assert of_key == without_user


def test_a_deployment_that_is_added_takes_its_share_and_moves_nobody_else() -> None:
    before, after = shared("sticky", A, B, C), shared("sticky", A, B, C, Deployment("corp", "d"))
    moved = 0
    for number in range(CALLS):
        user = Features("r", user=str(number))
        was, now = (models(in_order(group, user, ALL_WELL, nobody_knows))[0] for group in (before, after))
        assert now in {was, "d"}
        moved += now != was
    assert is_share(moved, 1 / 4)


def test_the_lowest_cost_is_first_and_those_whose_price_nobody_knows_are_last() -> None:
    prices = {"a": Decimal("0.30"), "b": None, "c": Decimal("0.0000001")}
    for each in requests(20):
        planned = in_order(shared("lowest_cost", A, B, C), each, ALL_WELL, lambda one: prices[one.model])
        assert [(one.deployment.model, one.reason, dict(one.numbers)) for one in planned] == [
            ("c", "cost", {"usd": "0.0000001"}),
            ("a", "cost", {"usd": "0.30"}),
            ("b", "no_price", {}),
        ]


def test_nothing_is_a_price_too() -> None:
    prices = {"a": Decimal(1), "b": Decimal(0), "c": None}
    planned = in_order(shared("lowest_cost", A, B, C), Features("r"), ALL_WELL, lambda one: prices[one.model])
    assert models(planned) == ["b", "a", "c"]


def test_the_fewest_calls_in_flight_for_its_weight_is_first() -> None:
    health = KnownHealth({"corp:a": CircuitState(in_flight=4), "corp:b": CircuitState(in_flight=3)})
    group = shared("least_in_flight", Deployment("corp", "a", 2), B)
    planned = in_order(group, Features("r"), health, nobody_knows)
    assert [(each.deployment.model, dict(each.numbers)) for each in planned] == [
        ("a", {"in_flight": 4, "weight": 2}),
        ("b", {"in_flight": 3, "weight": 1}),
    ]


def timed(ttft: float | None = None, speed: float | None = None, latency: float = 1.0, **more: float) -> CircuitState:
    return CircuitState(latency_s=latency, ttft_s=ttft, tokens_per_s=speed, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quicker", "slower"),
    [
        (timed(0.2, 100), timed(0.3, 100)),
        (timed(2.0, 300), timed(0.2, 30)),
        (timed(0.2, 100), timed(0.2, 99)),
        (timed(None, 60), timed(1.0, 60)),
        (timed(0.2, 100), timed(0.3)),
        (timed(latency=0.5), timed(latency=0.6)),
        (timed(0.2, 100), timed(0.2, 100, error_rate=0.1)),
        (timed(0.3, 100), timed(0.2, 100, error_rate=1.0)),
    ],
)
def test_the_lowest_latency_is_first(quicker: CircuitState, slower: CircuitState) -> None:
    for one, other, expected in ((quicker, slower, ["a", "b"]), (slower, quicker, ["b", "a"])):
        health = KnownHealth({"corp:a": one, "corp:b": other})
        planned = in_order(shared("lowest_latency", A, B), unexplored(), health, nobody_knows)
        assert models(planned) == expected
        assert {each.reason for each in planned} == {"latency"}


def test_a_short_answer_is_judged_by_its_first_token() -> None:
    health = KnownHealth({"corp:a": timed(0.2, 30), "corp:b": timed(2.0, 300)})
    group = shared("lowest_latency", A, B)
    assert models(in_order(group, unexplored(max_output_tokens=10), health, nobody_knows)) == ["a", "b"]
    assert models(in_order(group, unexplored(max_output_tokens=100_000), health, nobody_knows)) == ["b", "a"]


def test_latency_is_told_by_its_numbers() -> None:
    health = KnownHealth({"corp:a": timed(0.5, 100, error_rate=0.5), "corp:b": timed(latency=9.0)})
    first, second = in_order(shared("lowest_latency", A, B), unexplored(), health, nobody_knows)
    assert dict(first.numbers) == {"expected_s": 7.0, "error_rate": 0.5, "ttft_s": 0.5, "tokens_per_s": 100}
    assert dict(second.numbers) == {"expected_s": 9.0, "error_rate": 0.0}


def test_one_that_was_never_measured_is_first_until_somebody_is_at_it() -> None:
    known = {"corp:a": timed(0.2, 100)}
    group = shared("lowest_latency", A, B)
    idle, busy = KnownHealth(known), KnownHealth({**known, "corp:b": CircuitState(in_flight=1)})
    failing = KnownHealth({**known, "corp:b": CircuitState(failures=1, error_rate=1.0)})
    for health, expected in ((idle, ["b", "a"]), (busy, ["a", "b"]), (failing, ["a", "b"])):
        planned = in_order(group, unexplored(), health, nobody_knows)
        assert models(planned) == expected
        assert {each.deployment.model: each.reason for each in planned} == {"a": "latency", "b": "unmeasured"}


def test_a_share_of_the_calls_explores() -> None:
    health = KnownHealth({"corp:a": timed(0.2, 100), "corp:b": timed(20, 1)})
    first = first_places(shared("lowest_latency", A, B), requests(), health)
    assert is_share(first["b"], EXPLORED / 2)


@pytest.mark.parametrize("by", ["key", "user"])
def test_a_canary_has_its_percent_of_callers_and_keeps_them_as_it_grows(by: By) -> None:
    def taken(percent: float) -> set[int]:
        group = Group("fast", (A,), canary=Canary(C, percent, by))
        callers = (Features(f"r{number}", **{by: str(number)}) for number in range(CALLS))  # type: ignore[arg-type]
        return {number for number, each in enumerate(callers) if is_canary(group, each)}

    shares = [0, 0.5, 5, 20, 100]
    drawn = [taken(percent) for percent in shares]
    for share, those in zip(shares, drawn, strict=True):
        assert is_share(len(those), share / 100)
    assert all(fewer <= more for fewer, more in pairwise(drawn))
    assert (len(drawn[0]), len(drawn[-1])) == (0, CALLS)


def test_each_canary_draws_callers_of_its_own() -> None:
    """So that it is not the same few who try whatever is new; and those who stick together are drawn apart."""

    def taken(name: str, deployment: Deployment) -> set[int]:
        group = Group(name, (A, B), canary=Canary(deployment, 50, "user"))
        return {number for number in range(4000) if is_canary(group, Features("r", user=str(number)))}

    one, other_alias, other_model = taken("fast", C), taken("smart", C), taken("fast", B)
    for other in (other_alias, other_model):
        assert is_share(len(one & other), 0.25, 4000)


def test_draws_stay_as_they_are() -> None:
    """Every environment draws the same, and so does the next version: users would move all at once."""
    assert [round(draw(subject, "corp:a"), 12) for subject in ("req_1", "user ann", "user Zoë", "")] == PINNED
    group = shared("sticky", A, B, C)
    users = ("ann", "bob", "cy", "dee", "eve")
    assert (
        "".join(models(in_order(group, Features("r", user=user), ALL_WELL, nobody_knows))[0] for user in users) == STUCK
    )


PINNED = [0.278573883665, 0.182301921138, 0.483303487322, 0.84003144859]
STUCK = "ccbab"
