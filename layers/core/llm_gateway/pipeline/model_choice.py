"""From the name a caller used to the deployments that may serve it."""

from collections.abc import Sequence

from llm_gateway.domain.catalog import Catalog, Provider
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import ModelNotFound, PermissionDenied
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.routing.permission import forbidden, within
from llm_gateway.routing.resolve import meant_provider, named_providers, resolve
from llm_gateway.routing.route import Route


class ModelChoice:
    """Resolves names, asking the dispatcher which of the providers that a name could mean can be called."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def is_configured(self, provider: Provider, team: str | None) -> bool:
        """Whether `team` can call the provider: there is a credential for it, or it needs none."""
        return await self._dispatcher.is_configured(provider, team)

    async def choose(self, name: str | None, catalog: Catalog, key: VirtualKey, others: Sequence[str] = ()) -> Route:
        """The way to `name`, and then to the `others` that the request names, at the providers that the key may reach.

        Raises `ModelNotFound` for a name nobody serves, `PermissionDenied` for one that the key may not use.
        """
        configured = set()
        missing = []
        asked = {one.name: one for each in (name, *others) for one in named_providers(each, catalog)}
        for provider in asked.values():
            if await self._dispatcher.is_configured(provider, key.team):
                configured.add(provider.name)
            else:
                missing.append(provider)
        try:
            route = resolve(name, catalog, configured, others)
        except ModelNotFound as error:
            meant = [one for each in (name, *others) if (one := meant_provider(each, catalog)) is not None]
            lacking = [one for one in meant if one in missing or (one.enabled and one.base_url is None)]
            if not lacking or key.role != "admin":
                raise
            raise ModelNotFound(f"{error.message} {self._what_is_missing(lacking)}", param=error.param) from None
        if (group := forbidden(key.models, route)) is not None:
            named = group.name if group.name in others else route.requested
            param = "models" if group.name in others else "model"
            raise PermissionDenied(f"This key may not use the model `{named}`.", param=param, code="model_not_allowed")
        permitted = within(key.providers, route)
        if permitted is None:
            raise PermissionDenied(
                f"This key may not reach a provider that serves the model `{route.requested}`.",
                param="model",
                code="provider_not_allowed",
            )
        return permitted

    def _what_is_missing(self, providers: list[Provider]) -> str:
        """For the operator: other callers are not told what secrets are called."""
        return " ".join(dict.fromkeys(self._dispatcher.what_is_missing(provider) for provider in providers))
