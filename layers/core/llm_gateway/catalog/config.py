"""gateway.toml: configuration as code. Reads the file, checks it, and turns it into what the registry stores.

The file's tables are described in docs/configuration.md and modelled in `schema`; rules between tables are in
`checks`. TOML: https://toml.io/en/v1.0.0
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_gateway.catalog.checks import cross_faults, unenforced
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.catalog.providers import canonical, provider_rows
from llm_gateway.catalog.schema import GatewayFile, KeyTable, ProviderTable, TeamTable, TomlFloat
from llm_gateway.catalog.schema_faults import schema_faults
from llm_gateway.domain.identity import Role, VirtualKey, hash_key, lookup_id
from llm_gateway.domain.ports import RegistryEntry

__all__ = [
    "ConfigError",
    "GatewayConfig",
    "PendingKey",
    "entries",
    "keys",
    "load_config",
    "parse_config",
    "pending_keys",
]


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """A file that has passed every check. `warnings` name what is recorded and not enforced yet."""

    name: str
    file: GatewayFile
    warnings: tuple[str, ...] = ()

    @property
    def providers(self) -> Mapping[str, ProviderTable]:
        """The file's own providers, by their one spelling."""
        return {canonical(name): table for name, table in self.file.providers.items()}

    def api_key_env(self) -> Mapping[str, tuple[str, ...]]:
        """Environment names that may hold each provider's key, best first, by the name of the provider's secret.

        For local use: the file's `api_key_env` stands before the names that the vendor's row knows.
        """
        names = {row.secret or row.name: row.api_key_env for row in provider_rows().values() if row.api_key_env}
        for name, table in self.providers.items():
            if table.api_key_env:
                secret = self._secret_of(name)
                names[secret] = (table.api_key_env, *names.get(secret, ()))
        return names

    def team_key_env(self) -> Mapping[tuple[str, str], str]:
        """The environment name that holds a team's own key, by team and name of the provider's secret; local use."""
        return {
            (team, self._secret_of(canonical(name))): given.api_key_env
            for team, table in self.file.teams.items()
            for name, given in table.providers.items()
        }

    def _secret_of(self, provider: str) -> str:
        """As the catalog has it: a vendor's several rows share one secret, a provider that is like one has its own."""
        row, table = provider_rows().get(provider), self.providers.get(provider)
        if row is None or (table is not None and table.like):
            return provider
        return row.secret or provider


@dataclass(frozen=True, slots=True)
class PendingKey:
    """A key of the file that has no token yet: `issue` makes it one of ours."""

    name: str
    role: Role = "caller"
    team: str | None = None
    user: str | None = None
    models: tuple[str, ...] | None = None
    enabled: bool = True
    expires_at: int | None = None
    """Unix seconds."""
    tags: dict[str, str] = field(default_factory=dict)

    def issue(self, token: str) -> VirtualKey:
        return VirtualKey(
            key_id=lookup_id(token),
            name=self.name,
            key_hash=hash_key(token),
            role=self.role,
            team=self.team,
            user=self.user,
            models=self.models,
            enabled=self.enabled,
            expires_at=self.expires_at,
            tags=dict(self.tags),
        )


def load_config(path: Path) -> GatewayConfig:
    """Reads and checks a file. Raises `ConfigError` with a line for every fault, each led by the file's name."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path.name}: is not UTF-8, at byte {error.start}"]) from None
    return parse_config(text, path.name)


def parse_config(text: str, name: str) -> GatewayConfig:
    """Checks a file's text; `name` leads every error. Raises `ConfigError` with a line for every fault."""
    try:
        document = tomllib.loads(text, parse_float=TomlFloat)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: is not TOML: {error}"]) from None
    try:
        file = GatewayFile.model_validate(document)
    except ValidationError as error:
        # `from None`: pydantic's own message may show the key's text.
        raise ConfigError([f"{name}: {fault}" for fault in schema_faults(error)]) from None
    if faults := list(cross_faults(file)):
        raise ConfigError([f"{name}: {fault}" for fault in faults])
    return GatewayConfig(name, file, tuple(f"{name}: {warning}" for warning in unenforced(file)))


def entries(config: GatewayConfig) -> list[RegistryEntry]:
    """What the registry stores of the file: JSON-shaped documents that hold no key.

    `settings/gateway` holds the top level; what is not in the file is not in the document, so that the environment
    and the shipped rows can fill it. A key's limits are `settings/key_limits:<name>`.
    """
    file = config.file
    found = [RegistryEntry("settings", "gateway", _settings(file))]
    found += [RegistryEntry("provider", name, _provider(name, table)) for name, table in config.providers.items()]
    for alias, model in file.models.items():
        document = _document(model)
        for deployment in document["deployments"]:
            deployment["provider"] = canonical(deployment["provider"])
        document["fallbacks"] = [_fallback(target, file) for target in model.fallbacks]
        found.append(RegistryEntry("model", alias, document))
    for target, price in file.prices.items():
        found.append(RegistryEntry("price", _canonical_target(target), _document(price)))
    found += [RegistryEntry("team", team, _team(table)) for team, table in file.teams.items()]
    for key, table in file.keys.items():
        if table.limits or table.budget:
            limits = table.model_dump(mode="json", include={"limits", "budget"}, exclude_none=True)
            found.append(RegistryEntry("settings", f"key_limits:{key}", limits))
    return found


def keys(config: GatewayConfig) -> list[tuple[str, VirtualKey]]:
    """The keys whose token the file gives, with the token: `(token, key)`. Only the key may be stored."""
    given = (
        (table.key.get_secret_value(), _pending(name, table)) for name, table in config.file.keys.items() if table.key
    )
    return [(token, key.issue(token)) for token, key in given]


def pending_keys(config: GatewayConfig) -> list[PendingKey]:
    """The keys that still need a token, which is made once and shown once."""
    return [_pending(name, table) for name, table in config.file.keys.items() if table.key is None]


def deployed_keys(config: GatewayConfig) -> list[PendingKey]:
    """All keys of the file as a deployed stack takes them: a token that the file gives is for a laptop."""
    return [_pending(name, table) for name, table in config.file.keys.items()]


def _settings(file: GatewayFile) -> dict[str, Any]:
    document = file.model_dump(
        mode="json", include={"default_provider", "default_model", "cors_origins", "x_gateway"}, exclude_none=True
    )
    if file.default_provider is not None:
        document["default_provider"] = canonical(file.default_provider)
    return document


def _provider(name: str, table: ProviderTable) -> dict[str, Any]:
    document = table.model_dump(mode="json", exclude_none=True, exclude={"api_key_env"})
    if table.like is not None:
        document["like"] = canonical(table.like)
    row = provider_rows().get(canonical(table.like) if table.like else name)
    if table.api_key_env and table.credential is None and row is not None and row.credential == "none":
        # A local server that was given a key wants it: nobody names a variable for nothing.
        document["credential"] = "bearer"
    return document


def _team(table: TeamTable) -> dict[str, Any]:
    # Where a laptop finds a key is nobody else's business.
    return table.model_dump(mode="json", exclude_none=True, exclude={"providers"})


def _document(table: Any) -> dict[str, Any]:
    document: dict[str, Any] = table.model_dump(mode="json", exclude_none=True)
    return document


def _fallback(target: str, file: GatewayFile) -> str:
    return target if target in file.models else _canonical_target(target)


def _canonical_target(target: str) -> str:
    provider, _, model = target.partition(":")
    return f"{canonical(provider)}:{model}"


def _pending(name: str, table: KeyTable) -> PendingKey:
    return PendingKey(
        name=name,
        role=table.role,
        team=table.team,
        user=table.user,
        models=None if table.models is None else tuple(table.models),
        enabled=table.enabled,
        expires_at=None if table.expires_at is None else int(table.expires_at.timestamp()),
        tags=dict(table.tags),
    )
