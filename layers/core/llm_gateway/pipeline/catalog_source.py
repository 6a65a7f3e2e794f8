"""The catalog as it is now: built anew only when the registry gives something new."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.ports import Registry, RegistryEntry

BuildCatalog = Callable[[Sequence[RegistryEntry], Mapping[str, str]], Catalog]


class Catalogs(Protocol):
    async def current(self) -> Catalog:
        """Raises `Unavailable` where there is none to be had."""
        ...


class CatalogSource:
    """The registry's catalog. `registry` caches: it returns the very same sequence while it has read nothing again."""

    def __init__(self, registry: Registry, build: BuildCatalog, environment: Mapping[str, str]) -> None:
        self._registry = registry
        self._build = build
        self._environment = environment
        self._entries: Sequence[RegistryEntry] | None = None
        self._catalog: Catalog | None = None

    async def current(self) -> Catalog:
        """Raises `Unavailable` where there has never been one to read."""
        entries = await self._registry.load_catalog()
        if self._catalog is None or entries is not self._entries:
            if self._catalog is None or entries != self._entries:
                self._catalog = self._build(entries, self._environment)
            self._entries = entries
        return self._catalog

    @property
    def latest(self) -> Catalog | None:
        """The last catalog that was built, without asking for a newer one."""
        return self._catalog
