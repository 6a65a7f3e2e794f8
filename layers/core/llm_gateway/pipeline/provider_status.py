"""How the providers are: what `GET /providers/status` tells."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from llm_gateway.domain.catalog import Catalog, Deployment
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import ModelNotFound, PermissionDenied
from llm_gateway.pipeline.catalog_source import Catalogs
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.pipeline.shared_health import SharedHealth
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.health import CircuitState


@dataclass(frozen=True, slots=True)
class DeploymentHealth:
    """One deployment's, as this process sees it. Times are Unix seconds."""

    deployment: Deployment
    state: CircuitState
    since: float | None
    """When it began to fail; None while its circuit is closed."""
    retry_at: float | None
    """When a call tries it again."""


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    name: str
    display_name: str
    deployments: tuple[DeploymentHealth, ...]
    obstacle: Literal["disabled", "no_key"] | None = None
    """Why it cannot be called at all."""

    @property
    def status(self) -> Literal["ok", "degraded", "down", "disabled", "no_key"]:
        """`down` where every deployment is passed over, `degraded` where some are or one is being tried again."""
        if self.obstacle is not None:
            return self.obstacle
        states = {each.state.state for each in self.deployments}
        if states <= {"closed"}:
            return "ok"
        return "down" if states == {"open"} else "degraded"


class ProviderStatus:
    """Reads what other processes have told, where it is time to, and the circuits of this one."""

    def __init__(
        self,
        catalog: Catalogs,
        choice: ModelChoice,
        circuits: Circuits,
        health: SharedHealth,
        clock: Clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._choice = choice
        self._circuits = circuits
        self._health = health
        self._clock = clock
        self._wall = wall

    async def of(self, key: VirtualKey) -> list[ProviderHealth]:
        """By provider. An admin's key sees every deployment, called ones without an alias too; others those that they
        may use by an alias."""
        catalog = await self._catalog.current()
        await self._health.look()
        seen = self._every(catalog) if key.role == "admin" else await self._usable(catalog, key)
        by_provider: dict[str, list[DeploymentHealth]] = {}
        for name in sorted(seen):
            by_provider.setdefault(seen[name].provider, []).append(self._of_one(name, seen[name]))
        return [
            ProviderHealth(
                name, _display_name(catalog, name), tuple(deployments), await self._obstacle(catalog, name, key)
            )
            for name, deployments in by_provider.items()
        ]

    async def _obstacle(self, catalog: Catalog, name: str, key: VirtualKey) -> Literal["disabled", "no_key"] | None:
        provider = catalog.providers.get(name)
        if provider is None or not provider.enabled:
            return "disabled"
        return None if await self._choice.is_configured(provider, key.team) else "no_key"

    def _of_one(self, name: str, deployment: Deployment) -> DeploymentHealth:
        opening = self._circuits.opening(name)
        state = self._circuits.state(name)
        if opening is None:
            return DeploymentHealth(deployment, state, None, None)
        behind = self._wall() - self._clock.now()
        return DeploymentHealth(deployment, state, opening.since + behind, opening.rests_until + behind)

    def _every(self, catalog: Catalog) -> Mapping[str, Deployment]:
        configured = _by_name(each for alias in catalog.aliases.values() for each in alias.all_deployments)
        called = {}
        for name in self._circuits.states():
            provider, _, model = name.partition(":")
            called[name] = Deployment(provider, model)
        return {**called, **configured}

    async def _usable(self, catalog: Catalog, key: VirtualKey) -> Mapping[str, Deployment]:
        usable: list[Deployment] = []
        for name in catalog.aliases:
            try:
                route = await self._choice.choose(name, catalog, key)
            except (ModelNotFound, PermissionDenied):
                continue
            groups = (*route.groups, *route.context_groups, *route.content_groups)
            usable += (each for group in groups for each in group.deployments)
        return _by_name(usable)


def _by_name(deployments: Iterable[Deployment]) -> dict[str, Deployment]:
    return {each.name: each for each in deployments}


def _display_name(catalog: Catalog, name: str) -> str:
    provider = catalog.providers.get(name)
    return (provider.display_name if provider is not None else "") or name
