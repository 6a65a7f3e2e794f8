"""A route: the groups of deployments that a request may come to, and what is done apart from them."""

from dataclasses import dataclass, field
from typing import Literal

from llm_gateway.domain.catalog import Alias, Deployment, Recovery, Timeouts
from llm_gateway.domain.strategies import By, Canary, Condition, Strategy

DropReason = Literal["disabled", "not_allowed", "no_key", "rule", "canary"]
"""The provider is switched off or has no address; the key may not reach it; it has no key; the rule that names it does
not lead; the canary is not drawn."""


@dataclass(frozen=True, slots=True)
class Group:
    """Deployments that share a name's calls, in the configured order; never empty."""

    name: str
    """The alias, or what was said instead: `provider:model`, or a bare name."""
    deployments: tuple[Deployment, ...]
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: int | None = None
    recovery: Recovery = "continue"
    names: tuple[str, ...] = ()
    """What a key's `models` may say to allow it: itself where it is an alias or a bare name, and the aliases that led
    to it as a fallback."""
    strategy: Strategy = "weighted"
    sticky_by: By = "user"
    canary: Canary | None = None

    @property
    def reached(self) -> tuple[Deployment, ...]:
        """All that a call of the group may come to."""
        return self.deployments if self.canary is None else (*self.deployments, self.canary.deployment)


@dataclass(frozen=True, slots=True)
class Ruled:
    """A rule of the alias, and whom it leads to; None where nobody serves that."""

    when: Condition
    group: Group | None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A deployment that is not tried, of which group, and why."""

    deployment: Deployment
    group: str
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: the groups of its own name and of the fallbacks, never empty."""

    requested: str
    """What the caller said, or the default model where they said nothing."""
    alias: Alias | None
    groups: tuple[Group, ...]
    """What was asked for, and then the general fallbacks, each once."""
    context_groups: tuple[Group, ...] = ()
    """Instead of the fallbacks, for a request that is too long for the model; empty where none are configured."""
    content_groups: tuple[Group, ...] = ()
    """For a request that the provider's content policy refused."""
    rules: tuple[Ruled, ...] = ()
    shadow: Group | None = None
    """Of the deployment that gets copies of `shadow_percent` of the requests."""
    shadow_percent: float = 0.0
    dropped: tuple[Dropped, ...] = ()
    """Of the general groups and the rules."""

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """The first group's."""
        return self.groups[0].deployments

    @property
    def everybody(self) -> tuple[Deployment, ...]:
        """Whom a request may come to without an error that has a chain of its own, copies of it too."""
        ruled = [each.group for each in self.rules if each.group is not None]
        shadows = [] if self.shadow is None else [self.shadow]
        return tuple(one for group in (*self.groups, *ruled, *shadows) for one in group.reached)

    @property
    def timeouts(self) -> Timeouts:
        """The first group's."""
        return self.groups[0].timeouts
