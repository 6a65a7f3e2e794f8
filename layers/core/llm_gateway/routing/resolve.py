"""From the model's name that a caller gives to the deployments that may serve it, in groups that are tried in order.

    fast                                  an alias of the configuration, always first
    openai:gpt-4.1, openai/gpt-4.1        a configured provider, and its model
    gpt-4.1, llama3:8b, meta/llama-3      anything else goes to the default provider as it is

A prefix counts only where it names a configured provider, so names that hold ":" or "/" themselves stay whole.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import replace

from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider
from llm_gateway.errors import InvalidRequest, ModelNotFound
from llm_gateway.routing.route import Dropped, Group, Route, Ruled

_SEPARATORS = str.maketrans("/", ":")


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
        route = Route(requested, alias, groups)
    elif alias is None:
        return Route(requested, None, (_named(requested, catalog, configured),))
    else:
        route = _alias_route(requested, alias, catalog)
    return route if alias is None else _with_apart(route, alias, catalog)


def named_providers(model: str | None, catalog: Catalog) -> list[Provider]:
    """The providers that decide where `model` goes, best first: its prefix's, then the default; none for an alias."""
    requested = model or catalog.default_model
    if not requested or requested in catalog.aliases:
        return []
    names = dict.fromkeys((split(requested)[0], catalog.default_provider))
    return [catalog.providers[name] for name in names if name is not None and _serves(name, catalog)]


def meant_provider(model: str | None, catalog: Catalog) -> Provider | None:
    """The one provider that `model` means, whether it can be called or not: its prefix's, else the default.

    None for an alias, and for no model.
    """
    requested = model or catalog.default_model
    if not requested or requested in catalog.aliases:
        return None
    prefix = catalog.providers.get(split(requested)[0])
    return prefix or catalog.providers.get(catalog.default_provider or "")


def _named(requested: str, catalog: Catalog, configured: Container[str], param: str = "model") -> Group:
    """The group of one name, without its fallbacks. `param` is the member of the request that said it."""
    if (alias := catalog.aliases.get(requested)) is not None:
        group = _alias_group(alias, catalog)
        if group is None:
            raise _not_found(requested, param=param)
        return group
    prefix, rest = split(requested)
    if prefix in configured and _serves(prefix, catalog):
        if not rest:
            raise _not_found(requested, f" Name a model of the provider: `{requested}…`.", param)
        if not _serves(prefix, catalog, rest):
            raise _not_found(requested, param=param)
        return Group(requested, (Deployment(prefix, rest),))
    default = catalog.default_provider
    if default is None or default not in configured or not _serves(default, catalog, requested):
        raise _not_found(requested, _why_not(prefix, catalog, configured), param)
    bare = prefix not in catalog.providers
    return Group(requested, (Deployment(default, requested),), names=(requested,) if bare else ())


def _alias_route(requested: str, alias: Alias, catalog: Catalog) -> Route:
    if not alias.fallbacks and not alias.context_window_fallbacks and not alias.content_policy_fallbacks:
        return Route(requested, alias, (_named(requested, catalog, ()),), dropped=tuple(_disabled(alias, catalog)))
    general = _Chain(catalog, lambda one: one.fallbacks)
    general.add(alias)
    if not general.groups:
        raise _not_found(requested)
    context = _Chain(catalog, lambda one: (*one.context_window_fallbacks, *one.fallbacks), without=alias)
    context.follow(alias, alias.context_window_fallbacks)
    content = _Chain(catalog, lambda one: one.content_policy_fallbacks, without=alias)
    content.follow(alias, alias.content_policy_fallbacks)
    chains = tuple(general.groups), tuple(context.groups), tuple(content.groups)
    return Route(requested, alias, *chains, dropped=tuple(general.dropped))


def _with_apart(route: Route, alias: Alias, catalog: Catalog) -> Route:
    """The route with what its alias does apart from its own deployments: rules, and shadow traffic."""
    if not alias.rules and alias.shadow is None:
        return route
    rules, dropped = [], list(route.dropped)
    for rule in alias.rules:
        target = catalog.aliases.get(rule.use)
        if target is not None:
            group = _alias_group(target, catalog, (alias.name,))
            dropped += _disabled(target, catalog)
        elif (group := _target_group(rule.use, alias, catalog, (alias.name,))) is None:
            dropped.append(_disabled_target(rule.use))
        rules.append(Ruled(rule.when, group))
    shadow, percent = None, 0.0
    if alias.shadow is not None and _serves(alias.shadow.deployment.provider, catalog, alias.shadow.deployment.model):
        percent = alias.shadow.percent
        shadow = Group(alias.name, (alias.shadow.deployment,), alias.timeouts, names=(alias.name,))
    return replace(route, rules=tuple(rules), shadow=shadow, shadow_percent=percent, dropped=tuple(dropped))


class _Chain:
    """The groups that fallbacks lead to, each once: a target, right behind it what follows it, then the next target."""

    def __init__(self, catalog: Catalog, after: Callable[[Alias], Sequence[str]], without: Alias | None = None) -> None:
        self.groups: list[Group] = []
        self.dropped: list[Dropped] = []
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
        self.dropped += _disabled(alias, self._catalog)
        self.follow(alias, self._after(alias), through)

    def follow(self, alias: Alias, targets: Sequence[str], through: tuple[str, ...] = ()) -> None:
        for target in targets:
            if target in self._seen:
                continue
            if (further := self._catalog.aliases.get(target)) is not None:
                self.add(further, (alias.name, *through))
            elif (group := _target_group(target, alias, self._catalog, (alias.name, *through))) is not None:
                self._seen.add(target)
                self.groups.append(group)
            else:
                self.dropped.append(_disabled_target(target))


def _target_group(target: str, alias: Alias, catalog: Catalog, through: tuple[str, ...]) -> Group | None:
    """Of `provider:model`: it has the ways of the alias that names it."""
    provider, model = split(target)
    if not model or not _serves(provider, catalog, model):
        return None
    deployments = (Deployment(provider, model),)
    return Group(target, deployments, alias.timeouts, alias.retries, alias.stream_recovery, through)


def _alias_group(alias: Alias, catalog: Catalog, through: tuple[str, ...] = ()) -> Group | None:
    serving = tuple(each for each in alias.deployments if _serves(each.provider, catalog, each.model))
    if not serving:
        return None
    canary = alias.canary
    if canary is not None and not _serves(canary.deployment.provider, catalog, canary.deployment.model):
        canary = None
    return Group(
        alias.name,
        serving,
        alias.timeouts,
        alias.retries,
        alias.stream_recovery,
        (alias.name, *through),
        alias.strategy,
        alias.sticky_by,
        canary,
    )


def _disabled(alias: Alias, catalog: Catalog) -> list[Dropped]:
    """Where nobody is left to share with, the canary has no calls to take."""
    reached = alias.deployments if alias.canary is None else (*alias.deployments, alias.canary.deployment)
    gone = [each for each in reached if not _serves(each.provider, catalog, each.model)]
    if gone and all(each in gone for each in alias.deployments):
        gone = list(reached)
    return [Dropped(each, alias.name, "disabled") for each in gone]


def _disabled_target(target: str) -> Dropped:
    return Dropped(Deployment(*split(target)), target, "disabled")


def split(requested: str) -> tuple[str, str]:
    """Provider and model around the first ":" or "/". Providers' names hold neither, so no later one can matter."""
    at = requested.translate(_SEPARATORS).find(":")
    if at < 0:
        return "", requested
    return requested[:at].replace("-", "_"), requested[at + 1 :]


def _serves(provider: str, catalog: Catalog, model: str | None = None) -> bool:
    found = catalog.providers.get(provider)
    return found is not None and found.enabled and found.base_url is not None and model not in found.switched_off


def _why_not(prefix: str, catalog: Catalog, configured: Container[str]) -> str:
    provider = catalog.providers.get(prefix)
    if provider is None or prefix in configured:
        return ""
    if not provider.enabled:
        return f" The provider `{prefix}` is switched off here."
    return f" The provider `{prefix}` has no {'address' if provider.base_url is None else 'key'} here."


def _not_found(requested: str, hint: str = "", param: str = "model") -> ModelNotFound:
    said = f"The model `{requested}` does not exist or you do not have access to it."
    return ModelNotFound(said + hint, param=param)
