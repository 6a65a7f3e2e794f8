"""Specifies the order in which a route's deployments are tried."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.domain.catalog import Deployment
from llm_gateway.routing.candidates import ordered
from llm_gateway.routing.route import Group


class Broken:
    """Deployments whose circuit is open, by name."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def open(self, name: str) -> bool:
        return name in self.names


ALL_WELL = Broken()


def dice() -> Random:
    return Random(1)  # noqa: S311 - the same throws each time


def group(name: str, *deployments: Deployment) -> Group:
    return Group(name, deployments)


def drawn(
    *groups: Group, random: Random | None = None, broken: Broken = ALL_WELL, tried: tuple[str, ...] = ()
) -> list[str]:
    return [each.deployment.name for each in ordered(groups, (random or dice()).random, broken, tried)]


def test_a_name_says_all_that_a_circuit_is_kept_for() -> None:
    assert Deployment("bedrock", "m").name == "bedrock:m"
    assert Deployment("bedrock", "m", 3, "eu-central-1", "second").name == "bedrock:m@eu-central-1#second"
    assert Deployment("openai", "m", key="a").name == "openai:m#a"


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 2, 7), (1_000_000_000_000, 1)])
def test_weights_share_the_first_place(weights: tuple[int, ...]) -> None:
    of_weights = group("fast", *(Deployment("corp", str(index), weight) for index, weight in enumerate(weights)))
    random, calls = dice(), 20_000
    first = Counter(drawn(of_weights, random=random)[0] for _ in range(calls))
    for index, weight in enumerate(weights):
        share = weight / sum(weights)
        # Four standard deviations of a binomial.
        assert abs(first[f"corp:{index}"] / calls - share) <= 4 * (share * (1 - share) / calls) ** 0.5


def test_those_who_are_left_share_the_later_places_by_weight() -> None:
    three = group("fast", Deployment("corp", "a", 1), Deployment("corp", "b", 2), Deployment("corp", "c", 6))
    random, calls = dice(), 20_000
    orders = [drawn(three, random=random) for _ in range(calls)]
    second = Counter(order[1] for order in orders if order[0] == "corp:c")
    assert second["corp:b"] / sum(second.values()) == pytest.approx(2 / 3, abs=0.02)


def test_groups_come_in_their_order_and_a_candidate_knows_its_group() -> None:
    first, second = group("fast", Deployment("corp", "a")), group("smart", Deployment("corp", "b"))
    found = ordered((first, second), dice().random, ALL_WELL)
    assert [(each.deployment.name, each.group) for each in found] == [("corp:a", first), ("corp:b", second)]


def test_a_deployment_of_two_groups_is_tried_once() -> None:
    first = group("fast", Deployment("corp", "a"))
    second = group("smart", Deployment("corp", "a"), Deployment("corp", "a", region="eu-central-1"))
    assert drawn(first, second) == ["corp:a", "corp:a@eu-central-1"]


def test_what_was_tried_does_not_come_again() -> None:
    assert drawn(group("fast", Deployment("corp", "a"), Deployment("corp", "b")), tried=("corp:a",)) == ["corp:b"]


def test_an_open_circuit_comes_last_and_is_not_dropped() -> None:
    groups = [
        group("fast", Deployment("corp", "a")),
        group("b", Deployment("corp", "b")),
        group("c", Deployment("corp", "c")),
    ]
    assert drawn(*groups, broken=Broken("corp:a")) == ["corp:b", "corp:c", "corp:a"]
    assert drawn(*groups, broken=Broken("corp:a", "corp:b")) == ["corp:c", "corp:a", "corp:b"]
    assert drawn(*groups, broken=Broken("corp:a", "corp:b", "corp:c")) == ["corp:a", "corp:b", "corp:c"]
    assert drawn(groups[0], broken=Broken("corp:a")) == ["corp:a"]


def test_one_deployment_asks_neither_chance_nor_health() -> None:
    def never() -> float:
        raise AssertionError

    (only,) = ordered((group("fast", Deployment("corp", "a")),), never, ALL_WELL)
    assert only.deployment.name == "corp:a"


DEPLOYMENTS = st.builds(
    Deployment,
    st.sampled_from(["corp", "openai"]),
    st.sampled_from("abc"),
    st.integers(1, 5),
    st.none() | st.just("eu-central-1"),
)
GROUPS = st.lists(st.lists(DEPLOYMENTS, min_size=1, max_size=4).map(lambda some: group("g", *some)), max_size=4)


@given(GROUPS, st.randoms(use_true_random=False), st.data())
def test_every_deployment_comes_exactly_once(groups: list[Group], random: Random, data: st.DataObject) -> None:
    names = {each.name for one in groups for each in one.deployments}
    broken = data.draw(st.sets(st.sampled_from(sorted(names)))) if names else set()
    found = drawn(*groups, random=random, broken=Broken(*broken))
    assert sorted(found) == sorted(names)
    assert [name in broken for name in found] == sorted(name in broken for name in found)
    places = {each.name: place for place, one in reversed(list(enumerate(groups))) for each in one.deployments}
    for part in (broken, names - broken):
        in_part = [places[name] for name in found if name in part]
        assert in_part == sorted(in_part)
