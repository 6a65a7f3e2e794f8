"""From the name a caller used to the deployments that may serve it."""

from llm_gateway.domain.catalog import Catalog, Provider
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import ModelNotFound, PermissionDenied
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.routing.resolve import Route, allowed, named_providers, resolve, within


class ModelChoice:
    """Resolves names, asking the dispatcher which of the providers that a name could mean can be called."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def choose(self, name: str | None, catalog: Catalog, key: VirtualKey) -> Route:
        """The way to `name` at the providers that the key may reach.

        Raises `ModelNotFound` for a name nobody serves, `PermissionDenied` for one that the key may not use.
        """
        configured = set()
        missing = []
        for provider in named_providers(name, catalog):
            if await self._dispatcher.is_configured(provider, key.team):
                configured.add(provider.name)
            else:
                missing.append(provider)
        try:
            route = resolve(name, catalog, configured)
        except ModelNotFound as error:
            if not missing or key.role != "admin":
                raise
            raise ModelNotFound(f"{error.message} {self._what_is_missing(missing)}", param="model") from None
        if not allowed(key.models, route):
            raise PermissionDenied(
                f"This key may not use the model `{route.requested}`.", param="model", code="model_not_allowed"
            )
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
        return " ".join(self._dispatcher.what_is_missing(provider) for provider in providers)
