"""Keys in the variables that a `gateway.toml` names: `api_key_env` of its providers, and of its teams'."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from llm_gateway.domain.catalog import Provider
from llm_gateway.pipeline.provider_keys import ProviderKey

if TYPE_CHECKING:
    from llm_gateway.catalog.config import GatewayConfig

Variable = Callable[[Provider, str | None], str | None]


class VariableKeys:
    """`KeyResolver` by variables; `variable` says which one holds a provider's key for a team, if any does."""

    def __init__(self, variable: Variable, environ: Mapping[str, str]) -> None:
        self._variable = variable
        self._environ = environ

    async def resolve(self, provider: Provider, team: str | None) -> Sequence[ProviderKey]:
        name = self._variable(provider, team)
        text = self._environ.get(name, "").strip() if name is not None else ""
        return (ProviderKey(text, "environment"),) if text else ()

    def refresh(self, provider: Provider, team: str | None) -> None:
        """Nothing is kept: `resolve` always looks."""

    def places(self, provider: Provider, team: str | None) -> Sequence[str]:
        name = self._variable(provider, team)
        return () if name is None else (f"the environment variable {name}",)


def of_teams(config: "GatewayConfig") -> Variable:
    named = config.team_key_env()
    return lambda provider, team: named.get((team, provider.secret or provider.name)) if team is not None else None


def of_providers(config: "GatewayConfig") -> Variable:
    named = {name: table.api_key_env for name, table in config.providers.items()}
    return lambda provider, _team: named.get(provider.name)
