"""From the model's name that a caller gives to the deployments that may serve it.

    fast                                  an alias of the configuration, always first
    openai:gpt-4.1, openai/gpt-4.1        a configured provider, and its model
    gpt-4.1, llama3:8b, meta/llama-3      anything else goes to the default provider as it is

A prefix counts only where it names a configured provider, so names that hold ":" or "/" themselves stay whole.
"""

from collections.abc import Container
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider, Timeouts
from llm_gateway.errors import InvalidRequest, ModelNotFound

_SEPARATORS = str.maketrans("/", ":")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. `deployments` are in the configured order, and never empty."""

    requested: str
    """What the caller said, or the default model where they said nothing."""
    alias: Alias | None
    deployments: tuple[Deployment, ...]
    timeouts: Timeouts = field(default_factory=Timeouts)
    bare: bool = False
    """The name went to the default provider as it is, and names no provider of the catalog either."""


def resolve(model: str | None, catalog: Catalog, configured: Container[str]) -> Route:
    """The route for `model`; None or empty means the catalog's default model.

    `configured` holds the names of the providers that can be called: those that need no key or have one; it must be
    right about `named_providers`. Raises `InvalidRequest` where there is no model at all, `ModelNotFound` where
    nothing serves the name. An alias does not ask `configured`: the operator said who serves it.
    """
    requested = model or catalog.default_model
    if not requested:
        raise InvalidRequest("You must provide a model parameter.", param="model")
    if (alias := catalog.aliases.get(requested)) is not None:
        return _alias_route(requested, alias, catalog)

    prefix, rest = _split(requested)
    if prefix in configured and _serves(prefix, catalog):
        if not rest:
            raise _not_found(requested, f" Name a model of the provider: `{requested}…`.")
        if not _serves(prefix, catalog, rest):
            raise _not_found(requested)
        return Route(requested, None, (Deployment(prefix, rest),))

    default = catalog.default_provider
    if default is None or default not in configured or not _serves(default, catalog, requested):
        raise _not_found(requested, _without_key(prefix, catalog, configured))
    return Route(requested, None, (Deployment(default, requested),), bare=prefix not in catalog.providers)


def named_providers(model: str | None, catalog: Catalog) -> list[Provider]:
    """The providers that decide where `model` goes, best first: its prefix's, then the default; none for an alias."""
    requested = model or catalog.default_model
    if not requested or requested in catalog.aliases:
        return []
    names = dict.fromkeys((_split(requested)[0], catalog.default_provider))
    return [catalog.providers[name] for name in names if name is not None and _serves(name, catalog)]


def allowed(patterns: tuple[str, ...] | None, route: Route) -> bool:
    """Whether a key with these `models` may take `route`. None allows everything, an empty tuple nothing.

    Patterns are shell-style (`*`, `?`, `[…]`), case-sensitive. They are held against what the request would reach and
    not against how it was spelled: an alias by its name, or else every deployment (and fallback) as
    `provider:model`. A bare name counts as well, unless it begins like one of the catalog's providers: with
    `echo:*`, the name `echo:x` opens nothing while `echo` is switched off and `openai` would get it.
    """
    if patterns is None:
        return True
    spelled = _spellings(patterns)
    if route.alias is not None:
        if _matches(route.alias.name, patterns):
            return True
        reached = [_target(each) for each in route.deployments] + list(route.alias.fallbacks)
        return all(_matches(each, spelled) for each in reached)
    if route.bare and _matches(route.requested, patterns):
        return True
    return all(_matches(_target(each), spelled) for each in route.deployments)


def within(providers: tuple[str, ...] | None, route: Route) -> Route | None:
    """`route` with only the deployments at `providers`; None where none is left. None as providers allows all."""
    if providers is None:
        return route
    left = tuple(each for each in route.deployments if each.provider in providers)
    return replace(route, deployments=left) if left else None


def _alias_route(requested: str, alias: Alias, catalog: Catalog) -> Route:
    serving = tuple(each for each in alias.deployments if _serves(each.provider, catalog, each.model))
    if not serving:
        raise _not_found(requested)
    return Route(requested, alias, serving, alias.timeouts)


def _split(requested: str) -> tuple[str, str]:
    """Provider and model around the first ":" or "/". Providers' names hold neither, so no later one can matter."""
    at = requested.translate(_SEPARATORS).find(":")
    if at < 0:
        return "", requested
    return requested[:at].replace("-", "_"), requested[at + 1 :]


def _serves(provider: str, catalog: Catalog, model: str | None = None) -> bool:
    found = catalog.providers.get(provider)
    return found is not None and found.enabled and found.base_url is not None and model not in found.switched_off


def _target(deployment: Deployment) -> str:
    return f"{deployment.provider}:{deployment.model}"


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


def _not_found(requested: str, hint: str = "") -> ModelNotFound:
    said = f"The model `{requested}` does not exist or you do not have access to it."
    return ModelNotFound(said + hint, param="model")
