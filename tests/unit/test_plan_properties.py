"""Specifies what is true of every plan: nobody is lost, nobody is invented, and who plans again plans the same."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider
from llm_gateway.domain.strategies import Canary, Condition, Rule, Shadow, Strategy
from llm_gateway.routing.features import Features, holds
from llm_gateway.routing.health import CircuitState
from llm_gateway.routing.permission import within
from llm_gateway.routing.plan import Plan, plan
from llm_gateway.routing.resolve import resolve
from llm_gateway.routing.route import Route
from tests.fakes.known_health import KnownHealth

ALIASES = ("fast", "smart", "long")
PROVIDERS = ("corp", "openai", "off")
MODELS = "abc"
NAMES = [f"{provider}:{model}" for provider in PROVIDERS for model in MODELS]

deployments = st.builds(Deployment, st.sampled_from(PROVIDERS), st.sampled_from(MODELS), st.integers(1, 5))
percents = st.sampled_from([0.0, 5.0, 50.0, 100.0])
bys = st.sampled_from(["key", "user"])
conditions = st.builds(
    Condition,
    tags=st.sampled_from([(), (("tier", "free"),)]),
    metadata=st.sampled_from([(), (("app", "chat"),)]),
    input_tokens_above=st.none() | st.sampled_from([0, 100]),
    input_tokens_below=st.none() | st.sampled_from([100, 10_000]),
    user=st.sampled_from([None, "ann"]),
    team=st.sampled_from([None, "search"]),
    stream=st.sampled_from([None, True, False]),
    budget_used_above=st.sampled_from([None, Decimal("0.8")]),
)
features = st.builds(
    Features,
    st.text(max_size=8),
    key=st.sampled_from(["k1", "k2"]),
    team=st.sampled_from([None, "search"]),
    user=st.sampled_from([None, "ann", "bob"]),
    tags=st.sampled_from([{}, {"tier": "free"}, {"tier": "gold"}]),
    metadata=st.sampled_from([{}, {"app": "chat", "x": "y"}]),
    count_input_tokens=st.sampled_from([lambda: 50, lambda: 5000]),
    max_output_tokens=st.sampled_from([None, 1, 4000]),
    stream=st.booleans(),
    budget_used=st.sampled_from([None, Decimal("0.5"), Decimal("0.9")]),
)
states = st.builds(
    CircuitState,
    st.sampled_from(["closed", "closed", "half_open", "open"]),
    failures=st.integers(0, 5),
    error_rate=st.floats(0, 1),
    latency_s=st.none() | st.floats(0, 60),
    ttft_s=st.none() | st.floats(0, 60),
    tokens_per_s=st.none() | st.floats(0, 500),
    in_flight=st.integers(0, 50),
)
health = st.builds(KnownHealth, st.dictionaries(st.sampled_from(NAMES), states))
priced = st.dictionaries(st.sampled_from(NAMES), st.decimals(0, 10, places=6))
keyless = st.sets(st.sampled_from(PROVIDERS), max_size=2)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """`fast` has anything that a model can have; the others may have canaries and strategies of their own."""
    targets = st.sampled_from([*NAMES, *ALIASES[1:]])

    def alias(name: str) -> Alias:
        return Alias(
            name,
            tuple(draw(st.lists(deployments, min_size=1, max_size=4))),
            strategy=draw(st.sampled_from(get_args(Strategy))),
            sticky_by=draw(bys),
            canary=draw(st.none() | st.builds(Canary, deployments, percents, bys)),
        )

    fast = replace(
        alias("fast"),
        fallbacks=tuple(draw(st.lists(targets, max_size=3))),
        rules=tuple(draw(st.lists(st.builds(Rule, conditions, targets), max_size=3))),
        shadow=draw(st.none() | st.builds(Shadow, deployments, percents)),
    )
    providers = {name: Provider(name, "openai_chat", "https://x/v1", enabled=name != "off") for name in PROVIDERS}
    # One that always serves, so that there is a route.
    fast = replace(fast, deployments=(*fast.deployments, Deployment("corp", "always")))
    return Catalog(providers, {"fast": fast, "smart": alias("smart"), "long": alias("long")})


@st.composite
def plans(draw: st.DrawFn) -> tuple[Catalog, Route, Callable[..., Plan]]:
    """A catalog, its route to `fast`, and what plans it, with all else given."""
    catalog = draw(catalogs())
    route = within(draw(st.sampled_from([None, ("corp",), ("corp", "openai")])), resolve("fast", catalog, ()))
    assert route is not None
    known, prices, of, without = draw(health), draw(priced), draw(features), draw(keyless)

    def planned(**more: object) -> Plan:
        fresh = replace(of)  # with nothing remembered
        return plan(route, fresh, known, lambda one: prices.get(one.name), keyless=without, **more)  # type: ignore[arg-type]

    return catalog, route, planned


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
def test_every_deployment_is_once_a_candidate_or_dropped(given: tuple[Catalog, Route, Callable[..., Plan]]) -> None:
    catalog, _, planned = given
    made = planned()
    assert sorted([*names(made), *(each.deployment.name for each in made.dropped)]) == sorted(reached(catalog))
    assert "off" not in {each.deployment.provider for each in made.candidates}


@given(plans(), plans())
def test_who_plans_again_plans_the_same(
    given: tuple[Catalog, Route, Callable[..., Plan]], other: tuple[Catalog, Route, Callable[..., Plan]]
) -> None:
    """Explaining a request and sending it are two plans: nothing that happens between them may matter."""
    planned = given[2]
    explained = planned()
    other[2]()
    assert planned() == explained


@given(plans(), st.integers(1, 12))
def test_who_goes_on_after_some_goes_on_in_the_same_order(
    given: tuple[Catalog, Route, Callable[..., Plan]], count: int
) -> None:
    planned = given[2]
    explained = names(planned())
    assert names(planned(tried=explained[:count])) == explained[count:]


@given(plans())
def test_open_circuits_come_last_and_nobody_is_lost_for_one(
    given: tuple[Catalog, Route, Callable[..., Plan]],
) -> None:
    made = given[2]()
    opened = [each.open for each in made.candidates]
    assert len(opened) == 1 or opened == sorted(opened)
    assert made.candidates


@given(plans())
def test_groups_keep_their_order_behind_the_rule_that_leads(
    given: tuple[Catalog, Route, Callable[..., Plan]],
) -> None:
    _, route, planned = given
    made = planned()
    leading = None if made.rule is None else route.rules[made.rule].group
    order = ([] if leading is None else [leading]) + list(route.groups)
    for opened in (True, False):
        places = [order.index(each.candidate.group) for each in made.candidates if each.open == opened]
        if len(made.candidates) > 1:
            assert places == sorted(places)


@given(catalogs(), features, health)
def test_the_first_rule_that_holds_leads(catalog: Catalog, of: Features, known: KnownHealth) -> None:
    held = [holds(rule.when, of) for rule in catalog.aliases["fast"].rules]
    assert plan(resolve("fast", catalog, ()), of, known).rule == (held.index(True) if True in held else None)


@given(plans())
def test_a_shadow_goes_where_the_key_may_go(given: tuple[Catalog, Route, Callable[..., Plan]]) -> None:
    catalog, route, planned = given
    shadow = planned().shadow
    if shadow is not None:
        assert catalog.aliases["fast"].shadow is not None
        assert shadow.deployment == catalog.aliases["fast"].shadow.deployment
        assert shadow.deployment.provider != "off"
        assert route.shadow is not None
