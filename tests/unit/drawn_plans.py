"""Catalogs, requests and health of every kind, for what must be true of all plans."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple, get_args

from hypothesis import strategies as st

from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider
from llm_gateway.domain.strategies import By, Canary, Condition, Rule, Shadow, Strategy
from llm_gateway.routing.features import Features
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
bys: st.SearchStrategy[By] = st.sampled_from(get_args(By))
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


class Drawn(NamedTuple):
    catalog: Catalog
    providers: tuple[str, ...]
    """That the key may reach."""
    route: Route
    """To `fast`."""
    plan: Callable[..., Plan]
    """With all else given."""


@st.composite
def plans(draw: st.DrawFn) -> Drawn:
    catalog = draw(catalogs())
    providers = draw(st.sampled_from([PROVIDERS, ("corp",), ("corp", "openai")]))
    route = within(providers, resolve("fast", catalog, ()))
    assert route is not None
    known, prices, of, without = draw(health), draw(priced), draw(features), draw(keyless)

    def planned(**more: object) -> Plan:
        fresh = replace(of)  # with nothing remembered
        return plan(route, fresh, known, lambda one: prices.get(one.name), keyless=without, **more)  # type: ignore[arg-type]

    return Drawn(catalog, providers, route, planned)
