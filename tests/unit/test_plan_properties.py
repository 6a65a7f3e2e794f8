"""Specifies what is true of every plan: nobody is lost, nobody is invented, and who plans again plans the same."""

from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.domain.catalog import Catalog
from llm_gateway.routing.features import Features, holds
from llm_gateway.routing.plan import Plan, plan
from llm_gateway.routing.resolve import resolve
from tests.fakes.known_health import KnownHealth
from tests.unit.drawn_plans import Drawn, catalogs, features, plans


def names(made: Plan) -> list[str]:
    return [each.deployment.name for each in made.candidates]


def reached(catalog: Catalog) -> set[str]:
    """Every deployment that `fast` says anything of, by name."""
    fast = catalog.aliases["fast"]
    found = set()
    for target in ("fast", *fast.fallbacks, *(rule.use for rule in fast.rules)):
        if (alias := catalog.aliases.get(target)) is None:
            found.add(target)
            continue
        found |= {each.name for each in alias.deployments}
        if alias.canary is not None:
            found.add(alias.canary.deployment.name)
    return found


@given(plans())
def test_every_deployment_is_once_a_candidate_or_dropped(drawn: Drawn) -> None:
    made = drawn.plan()
    assert sorted([*names(made), *(each.deployment.name for each in made.dropped)]) == sorted(reached(drawn.catalog))


@given(plans())
def test_nothing_goes_where_the_key_may_not_or_nobody_serves(drawn: Drawn) -> None:
    made = drawn.plan()
    used = [each.candidate for each in made.candidates] + ([] if made.shadow is None else [made.shadow])
    assert {each.deployment.provider for each in used} <= {*drawn.providers} - {"off"}


@given(plans(), plans())
def test_who_plans_again_plans_the_same(drawn: Drawn, other: Drawn) -> None:
    """Explaining a request and sending it are two plans: nothing that happens between them may matter."""
    explained = drawn.plan()
    other.plan()
    assert drawn.plan() == explained


@given(plans(), st.integers(1, 12))
def test_who_goes_on_after_some_goes_on_in_the_same_order(drawn: Drawn, count: int) -> None:
    explained = names(drawn.plan())
    assert names(drawn.plan(tried=explained[:count])) == explained[count:]


@given(plans())
def test_open_circuits_come_last_and_somebody_is_always_tried(drawn: Drawn) -> None:
    made = drawn.plan()
    opened = [each.open for each in made.candidates]
    assert opened
    assert len(opened) == 1 or opened == sorted(opened)


@given(plans())
def test_groups_keep_their_order_behind_the_rule_that_leads(drawn: Drawn) -> None:
    made = drawn.plan()
    leading = None if made.rule is None else drawn.route.rules[made.rule].group
    order = ([] if leading is None else [leading]) + list(drawn.route.groups)
    for opened in (True, False):
        places = [order.index(each.candidate.group) for each in made.candidates if each.open == opened]
        assert places == sorted(places)


@given(catalogs(), features)
def test_the_first_rule_that_holds_leads(catalog: Catalog, of: Features) -> None:
    held = [holds(rule.when, of) for rule in catalog.aliases["fast"].rules]
    made = plan(resolve("fast", catalog, ()), of, KnownHealth())
    assert made.rule == (held.index(True) if True in held else None)
