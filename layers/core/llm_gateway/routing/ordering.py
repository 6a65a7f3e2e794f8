"""The order of one group's deployments, by its strategy. Why one stands where it does comes with it.

| strategy          | first is                                                                                  |
|-------------------|-------------------------------------------------------------------------------------------|
| `weighted`        | drawn by weight                                                                           |
| `priority`        | the first that is configured                                                              |
| `lowest_latency`  | the least time to the first content and to write an answer, longer by its share of errors |
| `lowest_cost`     | the least price of this request; those whose price nobody knows are last                  |
| `least_in_flight` | the fewest calls under way by weight, of this process                                     |
| `sticky`          | drawn by weight, always the same for a user or a key                                      |

Equals stand in the order of a draw by weight.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

from llm_gateway.domain.catalog import Deployment
from llm_gateway.domain.strategies import Strategy
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.draws import by_weight, draw
from llm_gateway.routing.features import Features
from llm_gateway.routing.health import CircuitState, Health
from llm_gateway.routing.route import Group

Prices = Callable[[Deployment], Decimal | None]
"""US dollars that this request is expected to cost there; None where nobody knows."""
Numbers = Mapping[str, float | str]
Reason = Literal[
    "only",
    "weight",
    "priority",
    "latency",
    "unmeasured",
    "explored",
    "cost",
    "no_price",
    "in_flight",
    "sticky",
    "canary",
]

EXPLORED: Final = 0.05
"""Of the calls under `lowest_latency` go by weight, so that one that was slow is seen to have become fast."""
ANSWER_TOKENS: Final = 300
"""How long an answer is taken to be, for how long it takes to write; less where the request allows less."""
_MOST_ERRORS: Final = 0.95


@dataclass(frozen=True, slots=True)
class Planned:
    """A deployment that may be tried, why it stands where it does, and by which numbers."""

    candidate: Candidate
    reason: Reason
    numbers: Numbers = field(default_factory=lambda: NO_NUMBERS)
    open: bool = False
    """Its circuit was open, so that it comes after all whose circuits were not."""

    @property
    def deployment(self) -> Deployment:
        return self.candidate.deployment


NO_NUMBERS: Final[Numbers] = MappingProxyType({})


def in_order(group: Group, features: Features, health: Health, prices: Prices) -> list[Planned]:
    """The group's deployments, each once by its name; the canary first for whom it is drawn."""
    if len(group.deployments) == 1:
        ordered = [Planned(Candidate(group.deployments[0], group), "only")]
    else:
        ordered = _ORDERS[group.strategy](group, features, health, prices)
    if group.canary is None or not is_canary(group, features):
        return ordered
    canary = group.canary
    first = Planned(
        Candidate(canary.deployment, group), "canary", {"percent": canary.percent, "by": features.of(canary.by)}
    )
    return [first, *(each for each in ordered if each.deployment.name != canary.deployment.name)]


def is_canary(group: Group, features: Features) -> bool:
    """Whether the group's canary gets this call. Who gets it at 5 % gets it at 6 % too."""
    canary = group.canary
    if canary is None:
        return False
    return draw(features.of(canary.by), f"canary {group.name} {canary.deployment.name}") < canary.percent / 100


def _weighted(group: Group, features: Features, _: Health, __: Prices) -> list[Planned]:
    return _by_weight(group, features.request_id, "weight")


def _by_weight(group: Group, subject: str, reason: Reason) -> list[Planned]:
    total = sum(each.weight for each in group.deployments)
    return [
        Planned(Candidate(each, group), reason, {"weight": each.weight, "share": each.weight / total})
        for each in by_weight(group.deployments, subject)
    ]


def _sticky(group: Group, features: Features, _: Health, __: Prices) -> list[Planned]:
    return _by_weight(group, features.of(group.sticky_by), "sticky")


def _priority(group: Group, _: Features, __: Health, ___: Prices) -> list[Planned]:
    each_once: dict[str, Deployment] = {}
    for each in group.deployments:
        each_once.setdefault(each.name, each)
    return [
        Planned(Candidate(each, group), "priority", {"place": place})
        for place, each in enumerate(each_once.values(), 1)
    ]


def _least_in_flight(group: Group, features: Features, health: Health, _: Prices) -> list[Planned]:
    loads = [(health.state(each.name).in_flight, each) for each in by_weight(group.deployments, features.request_id)]
    loads.sort(key=lambda load: load[0] / load[1].weight)
    return [
        Planned(Candidate(each, group), "in_flight", {"in_flight": load, "weight": each.weight}) for load, each in loads
    ]


def _lowest_cost(group: Group, features: Features, _: Health, prices: Prices) -> list[Planned]:
    priced = [(prices(each), each) for each in by_weight(group.deployments, features.request_id)]
    priced.sort(key=lambda one: (one[0] is None, one[0] or 0))
    return [
        Planned(Candidate(each, group), "no_price")
        if price is None
        else Planned(Candidate(each, group), "cost", {"usd": format(price, "f")})
        for price, each in priced
    ]


def _lowest_latency(group: Group, features: Features, health: Health, _: Prices) -> list[Planned]:
    if draw(features.request_id, f"explore {group.name}") < EXPLORED:
        return _by_weight(group, features.request_id, "explored")
    drawn = by_weight(group.deployments, features.request_id)
    states = {each.name: health.state(each.name) for each in drawn}
    speeds = [state.tokens_per_s for state in states.values() if state.tokens_per_s]
    usual = sum(speeds) / len(speeds) if speeds else None
    tokens = min(ANSWER_TOKENS, features.max_output_tokens or ANSWER_TOKENS)
    expected = {name: _expected_s(state, tokens, usual) for name, state in states.items()}
    drawn.sort(key=lambda each: _place(states[each.name], expected[each.name]))
    return [_timed(Candidate(each, group), states[each.name], expected[each.name]) for each in drawn]


def _expected_s(state: CircuitState, tokens: int, usual_speed: float | None) -> float | None:
    """Seconds until a whole answer of `tokens` is there; None before the first success.

    A whole answer's speed has its waiting in it, so that there is none to add.
    """
    if state.latency_s is None:
        return None
    if state.ttft_s is None and not state.tokens_per_s:
        took = state.latency_s
    else:
        speed = state.tokens_per_s or usual_speed
        took = (state.ttft_s or 0.0) + (tokens / speed if speed else 0.0)
    # A failed call is tried again, and takes its time on top.
    return took / (1 - min(state.error_rate, _MOST_ERRORS))


def _place(state: CircuitState, expected: float | None) -> tuple[int, float]:
    """One that was never measured comes first, until somebody is at it or it has failed: then it comes last."""
    if expected is not None:
        return 1, expected
    return (0 if state.in_flight == 0 and state.failures == 0 else 2), 0.0


def _timed(candidate: Candidate, state: CircuitState, expected: float | None) -> Planned:
    if expected is None:
        return Planned(candidate, "unmeasured", {"in_flight": state.in_flight})
    numbers: dict[str, float | str] = {"expected_s": round(expected, 4), "error_rate": round(state.error_rate, 4)}
    for name, value in (("ttft_s", state.ttft_s), ("tokens_per_s", state.tokens_per_s)):
        if value is not None:
            numbers[name] = round(value, 4)
    return Planned(candidate, "latency", numbers)


_ORDERS: Final[Mapping[Strategy, Callable[[Group, Features, Health, Prices], list[Planned]]]] = {
    "weighted": _weighted,
    "priority": _priority,
    "lowest_latency": _lowest_latency,
    "lowest_cost": _lowest_cost,
    "least_in_flight": _least_in_flight,
    "sticky": _sticky,
}
