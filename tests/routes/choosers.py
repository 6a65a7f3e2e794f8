"""Who is tried, in which order: the gateway's strategies, and the two that need no gateway."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from random import Random
from typing import Literal

from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider, Timeouts
from llm_gateway.domain.strategies import Hedge, Strategy
from llm_gateway.routing.features import Features
from llm_gateway.routing.health import Health
from llm_gateway.routing.plan import plan
from llm_gateway.routing.resolve import resolve
from llm_gateway.routing.route import Route
from tests.routes.world import FIRST_TOKEN_S, TOTAL_S, VENDORS, Order, World

Choose = Callable[[Order, float, Health], Sequence[Deployment]]
"""By the order, the time and what is known of the deployments: all of them, the first one first."""
ALIAS = "chat"
STRATEGIES: tuple[Strategy, ...] = (
    "weighted",
    "priority",
    "lowest_latency",
    "lowest_cost",
    "least_in_flight",
    "sticky",
)
Baseline = Literal["one try", "random", "round robin"]
BASELINES: tuple[Baseline, ...] = ("one try", "random", "round robin")
"""The last two on the gateway's circuits and retries, the first without."""


@dataclass(frozen=True, slots=True)
class Way:
    """What is measured: how deployments are chosen, and what is done when one is slow or fails."""

    name: str
    choose: Choose
    hedge: Hedge | None = None
    tries_on: bool = True
    """Whether a failure is followed by another try, and circuits are minded."""


def way(name: Strategy | Baseline, seed: int, world: World, hedge: Hedge | None = None) -> Way:
    if name == "one try":
        return Way(name, _random(seed), hedge, tries_on=False)
    if name == "random":
        return Way(name, _random(seed), hedge)
    if name == "round robin":
        return Way(name, _round_robin(), hedge)
    return Way(name, _planned(_route(name), world), hedge)


def _route(strategy: Strategy) -> Route:
    """Of an alias as `gateway.toml` would say it."""
    deployments = tuple(vendor.deployment for vendor in VENDORS)
    providers = {
        each.provider: Provider(each.provider, "openai_chat", "https://llm.example/v1") for each in deployments
    }
    timeouts = Timeouts(first_token_s=FIRST_TOKEN_S, total_s=TOTAL_S)
    alias = Alias(ALIAS, deployments, timeouts=timeouts, strategy=strategy)
    return resolve(ALIAS, Catalog(providers, {ALIAS: alias}), providers)


def _planned(route: Route, world: World) -> Choose:
    def choose(order: Order, now: float, health: Health) -> Sequence[Deployment]:
        def price(deployment: Deployment) -> Decimal:
            return world.tariff(deployment.name, now).cost(order.input_tokens, 0, order.max_output_tokens)

        features = Features(
            order.id,
            "chat.completions",
            ALIAS,
            order.key,
            user=order.user,
            count_input_tokens=lambda: order.input_tokens,
            max_output_tokens=order.max_output_tokens,
            stream=True,
        )
        return [each.deployment for each in plan(route, features, health, price).candidates]

    return choose


def _random(seed: int) -> Choose:
    chance = Random(seed)  # noqa: S311 - nothing secret
    deployments = [vendor.deployment for vendor in VENDORS]
    return lambda _order, _now, _health: chance.sample(deployments, len(deployments))


def _round_robin() -> Choose:
    turns = count()
    deployments = [vendor.deployment for vendor in VENDORS]

    def choose(_order: Order, _now: float, _health: Health) -> Sequence[Deployment]:
        at = next(turns) % len(deployments)
        return deployments[at:] + deployments[:at]

    return choose
