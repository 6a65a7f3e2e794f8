"""From the model's name that a caller gives to the deployments that may serve it, in groups that are tried in order.

    fast                                  an alias of the configuration, always first
    openai:gpt-4.1, openai/gpt-4.1        a configured provider, and its model
    gpt-4.1, llama3:8b, meta/llama-3      anything else goes to the default provider as it is

A prefix counts only where it names a configured provider, so names that hold ":" or "/" themselves stay whole.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider, Recovery, Timeouts
from llm_gateway.errors import InvalidRequest, ModelNotFound

_SEPARATORS = str.maketrans("/", ":")


@dataclass(frozen=True, slots=True)
class Group:
    """Deployments that share a name's calls by weight, in the configured order; never empty."""

    name: str
    """The alias, or what was said instead: `provider:model`, or a bare name."""
    deployments: tuple[Deployment, ...]
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: int | None = None
    recovery: Recovery = "continue"
    names: tuple[str, ...] = ()
    """What a key's `models` may say to allow it: itself where it is an alias or a bare name, and the aliases that led
    to it as a fallback."""


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

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """The first group's."""
        return self.groups[0].deployments

    @property
    def timeouts(self) -> Timeouts:
        """The first group's."""
        return self.groups[0].timeouts


def resolve(model: str | None, catalog: Catalog, configured: Container[str], others: Sequence[str] = ()) -> Route:
    """The route for `model`; None or empty means the catalog's default model.

    `others` are the names that the request itself wants tried after `model`, in order; they stand in the place of all
    configured fallbacks, so that nothing leads round a refusal of the content policy then.

    `configured` holds the names of the providers that can be called: those that need no key or have one; it must be
    right about `named_providers` of each name. Raises `InvalidRequest` where there is no model at all, `ModelNotFound`
    where nothing serves a name. An alias does not ask `configured`: the operator said who serves it.
    """
    requested = model or catalog.default_model
    if not requested:
        raise InvalidRequest("You must provide a model parameter.", param="model")
    alias = catalog.aliases.get(requested)
    if others:
        names = dict.fromkeys((requested, *others))
        groups = tuple(_named(name, catalog, configured, "model" if name == requested else "models") for name in names)
        return Route(requested, alias, groups)
    if alias is None:
        return Route(requested, None, (_named(requested, catalog, configured),))
    return _alias_route(requested, alias, catalog)


def named_providers(model: str | None, catalog: Catalog) -> list[Provider]:
    """The providers that decide where `model` goes, best first: its prefix's, then the default; none for an alias."""
    requested = model or catalog.default_model
    if not requested or requested in catalog.aliases:
        return []
    names = dict.fromkeys((_split(requested)[0], catalog.default_provider))
    return [catalog.providers[name] for name in names if name is not None and _serves(name, catalog)]


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
    reached = (*route.groups, *route.context_groups, *route.content_groups)
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
    )


def _named(requested: str, catalog: Catalog, configured: Container[str], param: str = "model") -> Group:
    """The group of one name, without its fallbacks. `param` is the member of the request that said it."""
    if (alias := catalog.aliases.get(requested)) is not None:
        group = _alias_group(alias, catalog)
        if group is None:
            raise _not_found(requested, param=param)
        return group
    prefix, rest = _split(requested)
    if prefix in configured and _serves(prefix, catalog):
        if not rest:
            raise _not_found(requested, f" Name a model of the provider: `{requested}…`.", param)
        return Group(requested, (Deployment(prefix, rest),))
    default = catalog.default_provider
    if default is None or default not in configured or not _serves(default, catalog):
        raise _not_found(requested, _without_key(prefix, catalog, configured), param)
    bare = prefix not in catalog.providers
    return Group(requested, (Deployment(default, requested),), names=(requested,) if bare else ())


def _alias_route(requested: str, alias: Alias, catalog: Catalog) -> Route:
    if not alias.fallbacks and not alias.context_window_fallbacks and not alias.content_policy_fallbacks:
        return Route(requested, alias, (_named(requested, catalog, ()),))
    general = _Chain(catalog, lambda one: one.fallbacks)
    general.add(alias)
    if not general.groups:
        raise _not_found(requested)
    context = _Chain(catalog, lambda one: (*one.context_window_fallbacks, *one.fallbacks), without=alias)
    context.follow(alias, alias.context_window_fallbacks)
    content = _Chain(catalog, lambda one: one.content_policy_fallbacks, without=alias)
    content.follow(alias, alias.content_policy_fallbacks)
    return Route(requested, alias, tuple(general.groups), tuple(context.groups), tuple(content.groups))


class _Chain:
    """The groups that fallbacks lead to, each once: a target, right behind it what follows it, then the next target."""

    def __init__(self, catalog: Catalog, after: Callable[[Alias], Sequence[str]], without: Alias | None = None) -> None:
        self.groups: list[Group] = []
        self._catalog = catalog
        self._after = after
        self._seen = set() if without is None else {without.name}

    def add(self, alias: Alias, through: tuple[str, ...] = ()) -> None:
        """The alias's own group, where anybody serves it, and what comes after it.

        `through` are the aliases that led here, nearest first.
        """
        self._seen.add(alias.name)
        if (group := _alias_group(alias, self._catalog, through)) is not None:
            self.groups.append(group)
        self.follow(alias, self._after(alias), through)

    def follow(self, alias: Alias, targets: Sequence[str], through: tuple[str, ...] = ()) -> None:
        for target in targets:
            if target in self._seen:
                continue
            if (further := self._catalog.aliases.get(target)) is not None:
                self.add(further, (alias.name, *through))
            elif (group := self._target_group(target, alias, (alias.name, *through))) is not None:
                self._seen.add(target)
                self.groups.append(group)

    def _target_group(self, target: str, alias: Alias, through: tuple[str, ...]) -> Group | None:
        """Of `provider:model`: it has the ways of the alias that names it."""
        provider, model = _split(target)
        if not model or not _serves(provider, self._catalog):
            return None
        deployments = (Deployment(provider, model),)
        return Group(target, deployments, alias.timeouts, alias.retries, alias.stream_recovery, through)


def _alias_group(alias: Alias, catalog: Catalog, through: tuple[str, ...] = ()) -> Group | None:
    serving = tuple(each for each in alias.deployments if _serves(each.provider, catalog))
    if not serving:
        return None
    names = (alias.name, *through)
    return Group(alias.name, serving, alias.timeouts, alias.retries, alias.stream_recovery, names)


def _groups_at(providers: tuple[str, ...], groups: Iterable[Group]) -> tuple[Group, ...]:
    left = []
    for group in groups:
        deployments = tuple(each for each in group.deployments if each.provider in providers)
        if deployments:
            left.append(
                group if len(deployments) == len(group.deployments) else replace(group, deployments=deployments)
            )
    return tuple(left)


def _opens(patterns: tuple[str, ...], spelled: tuple[str, ...], group: Group) -> bool:
    if any(_matches(name, patterns) for name in group.names):
        return True
    return all(_matches(f"{each.provider}:{each.model}", spelled) for each in group.deployments)


def _split(requested: str) -> tuple[str, str]:
    """Provider and model around the first ":" or "/". Providers' names hold neither, so no later one can matter."""
    at = requested.translate(_SEPARATORS).find(":")
    if at < 0:
        return "", requested
    return requested[:at].replace("-", "_"), requested[at + 1 :]


def _serves(provider: str, catalog: Catalog) -> bool:
    found = catalog.providers.get(provider)
    return found is not None and found.enabled and found.base_url is not None


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _spellings(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The patterns, and each with its provider in the one spelling: `azure-openai/*` as `azure_openai:*`."""
    spelled = list(patterns)
    for pattern in patterns:
        prefix, rest = _split(pattern)
        if prefix:
            spelled.append(f"{prefix}:{rest}")
    return tuple(spelled)


def _without_key(prefix: str, catalog: Catalog, configured: Container[str]) -> str:
    known = prefix in catalog.providers and prefix not in configured
    return f" The provider `{prefix}` has no key here." if known else ""


def _not_found(requested: str, hint: str = "", param: str = "model") -> ModelNotFound:
    said = f"The model `{requested}` does not exist or you do not have access to it."
    return ModelNotFound(said + hint, param=param)
