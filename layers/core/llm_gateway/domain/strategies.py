"""How an alias shares its calls: its strategy, and what is done apart from it (rules, canary, shadow, hedge, queue)."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from llm_gateway.domain.catalog import Deployment

Strategy = Literal["weighted", "priority", "lowest_latency", "lowest_cost", "least_in_flight", "sticky"]
By = Literal["key", "user"]
"""Whose calls stay together. A call without a user counts as its key's."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a request must be like; what is None, or not named, does not matter. All that is said must hold."""

    tags: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    input_tokens_above: int | None = None
    input_tokens_below: int | None = None
    user: str | None = None
    team: str | None = None
    stream: bool | None = None
    budget_used_above: Decimal | None = None
    """A share of the tightest hard budget, such as 0.8."""


@dataclass(frozen=True, slots=True)
class Rule:
    when: Condition
    use: str
    """An alias or `provider:model`: who is tried before the alias's own deployments."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A deployment that gets the calls of `percent` of all keys or users, always the same ones."""

    deployment: "Deployment"
    percent: float
    by: By = "key"


@dataclass(frozen=True, slots=True)
class Shadow:
    """A deployment that gets a copy of `percent` of the calls; nobody sees its answers."""

    deployment: "Deployment"
    percent: float


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a second deployment is begun beside one that keeps silent: exactly one of the first two is given."""

    after_s: float | None = None
    percentile: float | None = None
    """Of the deployment's latest times to the first content, such as 0.95."""
    percent: float = 10.0
    """The most of the alias's calls that are hedged."""
