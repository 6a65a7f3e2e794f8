"""What a key may reach of a route: by its models, and by its providers."""

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from llm_gateway.routing.resolve import split
from llm_gateway.routing.route import Dropped, Group, Route


def allowed(patterns: tuple[str, ...] | None, route: Route) -> bool:
    """Whether a key with these `models` may take `route`. None allows everything, an empty tuple nothing."""
    return forbidden(patterns, route) is None


def forbidden(patterns: tuple[str, ...] | None, route: Route) -> Group | None:
    """The first group of `route` that a key with these `models` may not reach.

    Patterns are shell-style (`*`, `?`, `[…]`), case-sensitive. They are held against what the request would reach and
    not against how it was spelled: an alias by its name, which opens its configured fallbacks too, or else every
    deployment as `provider:model`. A bare name counts as well, unless it begins like one of the catalog's providers:
    with `echo:*`, the name `echo:x` opens nothing while `echo` is switched off and `openai` would get it.
    """
    if patterns is None:
        return None
    spelled = _spellings(patterns)
    ruled = (each.group for each in route.rules if each.group is not None)
    reached = (*route.groups, *route.context_groups, *route.content_groups, *ruled)
    return next((group for group in reached if not _opens(patterns, spelled, group)), None)


def within(providers: tuple[str, ...] | None, route: Route) -> Route | None:
    """`route` with only the deployments at `providers`; None where none is left. None as providers allows all.

    Where none of the first group is left, the first fallback leads.
    """
    if providers is None:
        return route
    groups = _groups_at(providers, route.groups)
    if not groups:
        return None
    return replace(
        route,
        groups=groups,
        context_groups=_groups_at(providers, route.context_groups),
        content_groups=_groups_at(providers, route.content_groups),
        rules=tuple(replace(each, group=_group_at(providers, each.group)) for each in route.rules),
        shadow=_group_at(providers, route.shadow),
        dropped=(*route.dropped, *_not_allowed(providers, route)),
    )


def _groups_at(providers: tuple[str, ...], groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(left for group in groups if (left := _group_at(providers, group)) is not None)


def _group_at(providers: tuple[str, ...], group: Group | None) -> Group | None:
    """`group` with only the deployments at `providers`; None where none of those that share it is left."""
    if group is None or all(each.provider in providers for each in group.reached):
        return group
    deployments = tuple(each for each in group.deployments if each.provider in providers)
    if not deployments:
        return None
    canary = group.canary
    if canary is not None and canary.deployment.provider not in providers:
        canary = None
    return replace(group, deployments=deployments, canary=canary)


def _not_allowed(providers: tuple[str, ...], route: Route) -> Iterable[Dropped]:
    for group in (*route.groups, *(each.group for each in route.rules if each.group is not None)):
        left = _group_at(providers, group)
        reached = () if left is None else left.reached
        yield from (Dropped(each, group.name, "not_allowed") for each in group.reached if each not in reached)


def _opens(patterns: tuple[str, ...], spelled: tuple[str, ...], group: Group) -> bool:
    if any(_matches(name, patterns) for name in group.names):
        return True
    return all(_matches(f"{each.provider}:{each.model}", spelled) for each in group.reached)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _spellings(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The patterns, and each with its provider in the one spelling: `azure-openai/*` as `azure_openai:*`."""
    spelled = list(patterns)
    for pattern in patterns:
        prefix, rest = split(pattern)
        if prefix:
            spelled.append(f"{prefix}:{rest}")
    return tuple(spelled)
