"""Who is tried for a request, in which order and why: a pure function of the request, its route, health and prices.

Nothing here is left to chance that is not in what it is given, so that what explains a request and what sends it come
to the same.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from llm_gateway.domain.catalog import Deployment
from llm_gateway.domain.strategies import Strategy
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.draws import draw
from llm_gateway.routing.features import Features, holds
from llm_gateway.routing.health import Health
from llm_gateway.routing.ordering import Planned, Prices, in_order, is_canary
from llm_gateway.routing.retries import Chain
from llm_gateway.routing.route import Dropped, Group, Route


@dataclass(frozen=True, slots=True)
class Plan:
    """Every deployment that the route knows of is once in `candidates` or in `dropped`, by its name."""

    strategy: Strategy
    """Of the first group."""
    candidates: tuple[Planned, ...]
    dropped: tuple[Dropped, ...] = ()
    shadow: Candidate | None = None
    """Who gets a copy of the request."""
    rule: int | None = None
    """Which of the alias's rules leads, counted from 0."""


def nobody_knows(_: Deployment) -> Decimal | None:
    return None


def plan(
    route: Route,
    features: Features,
    health: Health,
    prices: Prices = nobody_knows,
    *,
    chain: Chain = "general",
    tried: Container[str] = (),
    keyless: Container[str] = (),
) -> Plan:
    """The order of a chain's deployments but for those whose names are in `tried`.

    Groups come in their order, the group of a rule that holds before all; inside one, its strategy decides. Those whose
    circuit is open come last, in the order they had, and are never dropped. `keyless` are providers known to have no
    key: passed over, unless nobody else is left.
    """
    if chain != "general":
        groups = route.context_groups if chain == "context" else route.content_groups
        return _planned(groups, (), features, health, prices, tried, keyless)
    rule = next((at for at, each in enumerate(route.rules) if holds(each.when, features)), None)
    leading = None if rule is None else route.rules[rule].group
    groups = route.groups if leading is None else (leading, *route.groups)
    idle = [each.group for at, each in enumerate(route.rules) if each.group is not None and at != rule]
    made = _planned(groups, idle, features, health, prices, tried, keyless, route.dropped)
    shadow = _shadow(route, features, health, keyless)
    return made if rule is None and shadow is None else replace(made, rule=rule, shadow=shadow)


def _planned(
    groups: Sequence[Group],
    idle: Sequence[Group],
    features: Features,
    health: Health,
    prices: Prices,
    tried: Container[str],
    keyless: Container[str],
    dropped: tuple[Dropped, ...] = (),
) -> Plan:
    """`idle` are the groups of rules that do not lead."""
    found: dict[str, Planned] = {}
    for group in groups:
        for each in in_order(group, features, health, prices):
            found.setdefault(each.deployment.name, each)
    unkeyed = _unkeyed(found, keyless)
    reasons = [*dropped, *_not_drawn(groups, features), *_of_rules(idle), *_without_key(unkeyed)]
    for each in unkeyed:
        del found[each.deployment.name]
    left_out: dict[str, Dropped] = {}
    for out in reasons:
        if (name := out.deployment.name) not in found and name not in tried:
            left_out.setdefault(name, out)
    left = tuple(each for name, each in found.items() if name not in tried)
    strategy = groups[0].strategy if groups else "weighted"
    return Plan(strategy, _open_last(left, health), tuple(left_out.values()))


def _open_last(candidates: tuple[Planned, ...], health: Health) -> tuple[Planned, ...]:
    if len(candidates) < 2:
        return candidates
    opened = [each for each in candidates if health.open(each.deployment.name)]
    if not opened:
        return candidates
    return (*(each for each in candidates if each not in opened), *(replace(each, open=True) for each in opened))


def _unkeyed(found: dict[str, Planned], keyless: Container[str]) -> list[Planned]:
    unkeyed = [each for each in found.values() if each.deployment.provider in keyless]
    return unkeyed if len(unkeyed) < len(found) else []


def _not_drawn(groups: Iterable[Group], features: Features) -> list[Dropped]:
    return [
        Dropped(group.canary.deployment, group.name, "canary")
        for group in groups
        if group.canary is not None and not is_canary(group, features)
    ]


def _of_rules(groups: Iterable[Group]) -> list[Dropped]:
    return [Dropped(each, group.name, "rule") for group in groups for each in group.reached]


def _without_key(unkeyed: Iterable[Planned]) -> list[Dropped]:
    return [Dropped(each.deployment, each.candidate.group.name, "no_key") for each in unkeyed]


def _shadow(route: Route, features: Features, health: Health, keyless: Container[str]) -> Candidate | None:
    """One that fails, or has no key, is spared."""
    if route.shadow is None:
        return None
    deployment = route.shadow.deployments[0]
    if deployment.provider in keyless or health.open(deployment.name):
        return None
    drawn = draw(features.request_id, f"shadow {route.shadow.name}") < route.shadow_percent / 100
    return Candidate(deployment, route.shadow) if drawn else None
