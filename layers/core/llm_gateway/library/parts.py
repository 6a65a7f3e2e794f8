"""What the library is made of: the pipeline's stages over stores that need no AWS."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.memory import MemoryRegistry, MemorySecrets
from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.price_files import load_prices, price_version
from llm_gateway.domain.catalog import Catalog, Provider
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.limits import Scope
from llm_gateway.domain.ports import HttpClient, Ledger, Registry, RegistryEntry, Scopes, SecretStore
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError
from llm_gateway.metering.prices import PriceBook
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.admission import Admission
from llm_gateway.pipeline.catalog_source import CatalogSource
from llm_gateway.pipeline.fallback import Fallback
from llm_gateway.pipeline.pricing import BookPricing
from llm_gateway.pipeline.provider_keys import EnvironmentKeys, FirstKeys, KeyResolver, SystemKeys, TeamKeys
from llm_gateway.pipeline.repair import Repair
from llm_gateway.pipeline.reservations import Reservations
from llm_gateway.upstream.authorize import Authorizer, Unauthorized
from llm_gateway.upstream.credentials import CredentialSource

if TYPE_CHECKING:
    from llm_gateway.catalog.config import GatewayConfig

log = logging.getLogger("llm_gateway.library")


def read_file(config: "str | PathLike[str] | GatewayConfig") -> "tuple[Registry, GatewayConfig]":
    """What the file configures, in memory. Raises `ConfigError` with a line for every fault of it."""
    from llm_gateway.catalog import config as files  # noqa: PLC0415 - pydantic, which a file alone needs

    loaded = config if isinstance(config, files.GatewayConfig) else files.load_config(Path(config))
    return MemoryRegistry(files.entries(loaded)), loaded


def open_keys(
    secrets: Mapping[str, str] | SecretStore, stack: str, environ: Mapping[str, str], file: "GatewayConfig | None"
) -> KeyResolver:
    """A team's own keys, then the system's, then those in the variables by which vendors are known."""
    if isinstance(secrets, Mapping):
        secrets = MemorySecrets({f"{stack}/{name}": text for name, text in secrets.items()})
    stored = CachedSecrets(secrets, warn=log.warning)
    if file is None:
        return FirstKeys(TeamKeys(stored, stack), SystemKeys(stored, stack), EnvironmentKeys(environ))
    from llm_gateway.library.key_variables import VariableKeys, of_providers, of_teams  # noqa: PLC0415 - as above

    return FirstKeys(
        TeamKeys(stored, stack),
        VariableKeys(of_teams(file), environ),
        SystemKeys(stored, stack),
        VariableKeys(of_providers(file), environ),
        EnvironmentKeys(environ),
    )


def open_accounts(ledger: Ledger, scopes: Scopes) -> tuple[Accounts, Admission]:
    pricing = BookPricing(PriceBook(load_prices, price_version()))
    repair = Repair(ledger, scopes, lambda: "charge")
    reservations = Reservations(ledger, scopes, repair, lambda alert: log.warning("%s", alert), _not_counted)
    return Accounts(ledger, pricing, Fallback(_lost, _unopened)), Admission(reservations, pricing)


def _not_counted(request_id: str, scope: Scope, error: GatewayError) -> None:
    log.error("the limits of %s could not be written for %s: %s", scope.id, request_id, error.message)


def _lost(lost: LostSettlement, error: GatewayError) -> None:
    log.error("the ledger could not take a record: %s %r", error.message, lost.record)


def _unopened(record: RequestRecord, error: GatewayError) -> None:
    log.warning("%s runs though the ledger has no entry of it yet: %s", record.request_id, error.message)


class Providers:
    """`catalog_source.Catalogs`: the registry's, with the providers that this process registered."""

    def __init__(self, registry: Registry, environment: Mapping[str, str]) -> None:
        self._registry = CachedRegistry(registry, warn=log.warning)
        self._source = CatalogSource(self._registry, build_catalog, environment)
        self._registered: dict[str, Provider] = {}
        self._made: tuple[Catalog, Catalog] | None = None

    def register(self, provider: Provider) -> None:
        self._registered[provider.name] = provider
        self._made = None

    async def current(self) -> Catalog:
        found = await self._source.current()
        if not self._registered:
            return found
        if self._made is None or self._made[0] is not found:
            self._made = found, replace(found, providers={**found.providers, **self._registered})
        return self._made[1]

    async def entries(self) -> Mapping[str, RegistryEntry]:
        """What the registry holds of providers, by their one spelling."""
        entries = await self._registry.load_catalog()
        return {entry.name.replace("-", "_"): entry for entry in entries if entry.kind == "provider"}


class FixedCatalog:
    """`catalog_source.Catalogs` for one call."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def current(self) -> Catalog:
        return self._catalog


class TeamCaller:
    """`auth.Identification` in this process: whoever runs the code is trusted, and says for which team."""

    def __init__(self, team: str, tags: Mapping[str, str]) -> None:
        self._key = VirtualKey("library", "library", "", role="admin", team=team, tags=dict(tags))

    async def identify(self, token: str | None) -> VirtualKey:  # noqa: ARG002 - there is none
        return self._key


class LazyOAuth:
    """The authorizer of Vertex, imported when a call first needs it."""

    needs_key = True

    def __init__(self, http: HttpClient, aws: CredentialSource, region: str, *, loopback: bool = False) -> None:
        """`loopback` as `GoogleOAuth` has it."""
        self._arguments = http, aws, region
        self._loopback = loopback
        self._made: Authorizer | None = None

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> Mapping[str, str]:
        if self._made is None:
            from llm_gateway.upstream.google_oauth import GoogleOAuth  # noqa: PLC0415 - see above

            self._made = GoogleOAuth(*self._arguments, loopback=self._loopback)
        return await self._made.authorize(provider, key, request)

    def renew(self, key: str | None, refused: Mapping[str, str]) -> bool:
        return self._made is not None and self._made.renew(key, refused)


def with_provider(catalog: Catalog, provider: Provider) -> Catalog:
    return replace(catalog, providers={**catalog.providers, provider.name: provider})
