"""The models a caller can name: aliases, and the priced models of every provider that can be called."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Protocol

from llm_gateway.domain.catalog import Catalog, Provider
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import ModelNotFound, PermissionDenied, Unavailable
from llm_gateway.pipeline.catalog_source import CatalogSource
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.routing.route import Route

_AT_ONCE = 8
_LONGEST_S: Final = 5.0
"""Of asking for all providers' keys: where their store hangs, each would be waited for in turn."""
_RETRY_AFTER_S: Final = 1.0
_REGION: Final = re.compile(r"bedrock-runtime\.([a-z0-9-]+)\.amazonaws\.com|/locations/([a-z0-9-]+)(?:/|$)")
"""In a base URL: where Bedrock, or Vertex, answers from."""


class KnownModels(Protocol):
    """The price book's names of a provider's models."""

    def models(self, price_as: str) -> Iterable[str]: ...


class ModelList:
    """What `GET /v1/models` shows, as OpenAI's model objects: `{id, object, created, owned_by}`.

    A provider for which only a team has a key is there for that team alone.

    Source: https://platform.openai.com/docs/api-reference/models/object
    """

    def __init__(self, catalog: CatalogSource, choice: ModelChoice, dispatcher: Dispatcher, known: KnownModels) -> None:
        self._catalog = catalog
        self._choice = choice
        self._dispatcher = dispatcher
        self._known = known

    async def all(self, key: VirtualKey) -> list[dict[str, Any]]:
        catalog = await self._catalog.current()
        shown = []
        async for name, route in self._routes(catalog, key):
            if (provider := await self._serving(route, catalog, key.team)) is not None:
                shown.append(_model(name, provider))
        return shown

    async def available(self, key: VirtualKey) -> list[dict[str, Any]]:
        """What the key may use now, and who would serve it.

        `{id, object, alias, deployments: [{provider, model, region}]}`, `region` being None where none is known.
        Deployments that cannot be called now are left out, and so are models that have no other.
        """
        catalog = await self._catalog.current()
        callable_now = {provider.name for provider in await self._configured(catalog, key.team)}
        shown = []
        async for name, route in self._routes(catalog, key):
            deployments = [
                {
                    "provider": each.provider,
                    "model": each.model,
                    "region": each.region or _region(catalog.provider_of(each)),
                }
                for group in route.groups
                for each in group.deployments
                if each.provider in callable_now
            ]
            if deployments:
                shown.append(
                    {"id": name, "object": "model", "alias": route.alias is not None, "deployments": deployments}
                )
        return shown

    async def one(self, name: str, key: VirtualKey) -> dict[str, Any]:
        """Raises `ModelNotFound`; what the key may not use is not there."""
        catalog = await self._catalog.current()
        try:
            route = await self._choice.choose(name, catalog, key)
        except PermissionDenied:
            raise ModelNotFound(
                f"The model `{name}` does not exist or you do not have access to it.", param="model"
            ) from None
        return _model(name, route.deployments[0].provider)

    async def _routes(self, catalog: Catalog, key: VirtualKey) -> AsyncIterator[tuple[str, Route]]:
        """Every name that the key may use, with where it leads: aliases first."""
        for name in [*catalog.aliases, *await self._of_providers(catalog, key.team)]:
            try:
                yield name, await self._choice.choose(name, catalog, key)
            except (ModelNotFound, PermissionDenied):
                continue

    async def _serving(self, route: Route, catalog: Catalog, team: str | None) -> str | None:
        """The first provider on the route, fallbacks included, that can be called."""
        for name in dict.fromkeys(each.provider for group in route.groups for each in group.deployments):
            if await self._dispatcher.is_configured(catalog.providers[name], team):
                return name
        return None

    async def _of_providers(self, catalog: Catalog, team: str | None) -> list[str]:
        names = []
        for provider in await self._configured(catalog, team):
            known = self._known.models(provider.price_as or provider.name)
            names += [f"{provider.name}:{model}" for model in known]
        return names

    async def _configured(self, catalog: Catalog, team: str | None) -> list[Provider]:
        """Those that can be called, in the catalog's order. A few at a time: each may ask for two secrets.

        Raises `Unavailable` where that takes too long.
        """
        turn = asyncio.Semaphore(_AT_ONCE)

        async def ask(provider: Provider) -> bool:
            async with turn:
                return await self._dispatcher.is_configured(provider, team)

        providers = list(catalog.providers.values())
        try:
            async with asyncio.timeout(_LONGEST_S):
                answers = await asyncio.gather(*map(ask, providers))
        except TimeoutError as error:
            message = "The store of the providers' keys does not answer."
            raise Unavailable(message, retry_after=_RETRY_AFTER_S) from error
        return [provider for provider, configured in zip(providers, answers, strict=True) if configured]


def _region(provider: Provider) -> str | None:
    """Where the provider answers from, if its address says so."""
    found = _REGION.search(provider.base_url or "")
    if found is not None:
        return found[1] or found[2]
    return provider.region if provider.credential == "sigv4" else None


def _model(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
