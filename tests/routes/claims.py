"""What docs/routing.md says of the strategies and of hedging, held against a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llm_gateway.domain.strategies import Strategy
from tests.routes.choosers import Baseline
from tests.routes.report import Summary, extra_cost, p99_factor

Played = Mapping[Strategy | Baseline, Summary]
"""Without hedging."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Of hedging after the 95th percentile, under one strategy."""

    p99_is: float
    """At most this share of what it is without, to the first content."""
    extra_cost: float
    """At most."""


HEDGING: Mapping[Strategy, Claim] = {
    "weighted": Claim(0.7, 0.06),
    "priority": Claim(0.95, 0.06),
    "lowest_latency": Claim(0.4, 0.05),
    "lowest_cost": Claim(0.7, 0.15),
    "sticky": Claim(0.7, 0.06),
}


def broken_claims(off: Played, on: Mapping[Strategy, Summary]) -> list[str]:
    """In words; `on` is hedged."""
    return [*_of_strategies(off), *_of_hedging(off, on)]


def _of_strategies(off: Played) -> Iterator[str]:
    others: tuple[Strategy | Baseline, ...] = ("random", "round robin", "weighted")
    for other in others:
        if off["lowest_latency"].whole_s[1] >= off[other].whole_s[1]:
            yield f"{other} has the lower p95 of whole answers than lowest_latency"
        if off["lowest_latency"].content_s[1] >= off[other].content_s[1]:
            yield f"{other} has the lower p95 of first contents than lowest_latency"
    for other in (name for name in off if name != "lowest_cost"):
        if off["lowest_cost"].cost >= off[other].cost:
            yield f"{other} is cheaper than lowest_cost"
    if off["least_in_flight"].whole_s[1] >= off["random"].whole_s[1]:
        yield "random has the lower p95 of whole answers than least_in_flight"
    if off["sticky"].cost >= off["weighted"].cost:
        yield "weighted is cheaper than sticky"
    if off["random"].errors * 10 >= off["one try"].errors:
        yield "another try saves fewer than nine of ten failures"


def _of_hedging(off: Played, on: Mapping[Strategy, Summary]) -> Iterator[str]:
    for name, hedged in on.items():
        claim, share, extra = HEDGING[name], p99_factor(off[name], hedged), extra_cost(off[name], hedged)
        if share > claim.p99_is:
            yield f"under {name}, hedging leaves {share:.2f} of the p99 to the first content, not {claim.p99_is}"
        if extra > claim.extra_cost:
            yield f"under {name}, hedging costs {extra:.1%} more, not {claim.extra_cost:.0%}"
        if hedged.hedged > 0.1:
            yield f"under {name}, {hedged.hedged:.1%} of the requests are hedged, not 10%"
