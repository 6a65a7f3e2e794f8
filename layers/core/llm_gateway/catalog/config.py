"""gateway.toml: configuration as code. Reads the file, checks it, and turns it into what the registry stores.

The file's tables are described in docs/configuration.md and modelled in `schema`; rules between tables are in
`checks`. TOML: https://toml.io/en/v1.0.0
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_gateway.catalog.checks import FALLBACKS, cross_faults
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.catalog.providers import canonical, provider_rows
from llm_gateway.catalog.schema import (
    STRATEGY_KEYS,
    DeploymentTable,
    GatewayFile,
    KeyTable,
    LimitedTable,
    ModelTable,
    ProviderTable,
    SpendingTable,
    TeamTable,
    UserTable,
)
from llm_gateway.catalog.schema_faults import schema_faults
from llm_gateway.catalog.schema_values import TomlFloat
from llm_gateway.domain.identity import Role, VirtualKey, hash_key, lookup_id
from llm_gateway.domain.ports import RegistryEntry

__all__ = [
    "ConfigError",
    "GatewayConfig",
    "PendingKey",
    "check_document",
    "entries",
    "keys",
    "load_config",
    "parse_config",
    "pending_keys",
    "read_text",
]

_TOP_LEVEL = {"default_provider", "default_model", "cors_origins", "x_gateway", "abandoned", "circuit"}


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """A file that has passed every check."""

    name: str
    file: GatewayFile

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
    enabled: bool | None = None
    """None where the file does not say: a new key is enabled, one that was disabled stays so."""
    expires_at: int | None = None
    """Unix seconds."""
    tags: dict[str, str] = field(default_factory=dict)
    providers: tuple[str, ...] | None = None
    owner: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def issue(self, token: str) -> VirtualKey:
        return VirtualKey(
            key_id=lookup_id(token),
            name=self.name,
            key_hash=hash_key(token),
            role=self.role,
            team=self.team,
            user=self.user,
            models=self.models,
            enabled=self.enabled is not False,
            expires_at=self.expires_at,
            tags=dict(self.tags),
            providers=self.providers,
            owner=self.owner,
            metadata=dict(self.metadata),
        )

    def renew(self, before: VirtualKey) -> VirtualKey:
        """`before` with the token it has, and what the file says today. A rotated one ends when it was to end."""
        fresh = replace(self.issue(""), key_id=before.key_id, key_hash=before.key_hash, rotated=before.rotated)
        if before.rotated:
            ends = [each for each in (before.expires_at, self.expires_at) if each is not None]
            return replace(fresh, enabled=before.enabled and fresh.enabled, expires_at=min(ends, default=None))
        return replace(fresh, enabled=before.enabled) if self.enabled is None else fresh


def load_config(path: Path) -> GatewayConfig:
    """Reads and checks a file. Raises `ConfigError` with a line for every fault, each led by the file's name."""
    return parse_config(read_text(path), path.name)


def read_text(path: Path) -> str:
    """A file's text, unchecked. Raises `ConfigError`."""
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path.name}: is not UTF-8, at byte {error.start}"]) from None


def parse_config(text: str, name: str) -> GatewayConfig:
    """Checks a file's text; `name` leads every error. Raises `ConfigError` with a line for every fault."""
    try:
        document = tomllib.loads(text, parse_float=TomlFloat)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: is not TOML: {error}"]) from None
    except (ValueError, RecursionError):  # Python's own bounds, of an integer's digits and of nesting
        raise ConfigError([f"{name}: holds a number that is too long, or is nested too deeply"]) from None
    try:
        return check_document(document, name)
    except ConfigError as error:
        raise ConfigError([f"{name}: {fault}" for fault in error.faults]) from None


def check_document(document: Mapping[str, Any], name: str) -> GatewayConfig:
    """Checks a file's tables. Raises `ConfigError` with a line for every fault, not led by the name."""
    try:
        file = GatewayFile.model_validate(document)
    except ValidationError as error:
        # `from None`: pydantic's own message may show the key's text.
        raise ConfigError(schema_faults(error)) from None
    if faults := list(cross_faults(file)):
        raise ConfigError(faults)
    return GatewayConfig(name, file)


def entries(config: GatewayConfig) -> list[RegistryEntry]:
    """What the registry stores of the file: JSON-shaped documents that hold no key.

    A provider's `api_key_env` is the name of a variable: it is stored so that an export has it, and read by nothing
    here. Those of teams are not: a provider could not be deleted then that some laptop's file names.

    `settings/gateway` holds the top level; what is not in the file is not in the document, so that the environment
    and the shipped rows can fill it. What a key may spend is under its name, apart from its tokens. `policies` tells
    how limits and budgets are stored.
    """
    file = config.file
    found = [RegistryEntry("settings", "gateway", _settings(file))]
    found += [RegistryEntry("provider", name, _provider(name, table)) for name, table in config.providers.items()]
    found += [RegistryEntry("model", alias, _model(table, file)) for alias, table in file.models.items()]
    for target, price in file.prices.items():
        found.append(RegistryEntry("price", _canonical_target(target), _document(price)))
    if file.organisation is not None:
        found.append(RegistryEntry("organisation", file.organisation.name, _spending(file.organisation)))
    found += [RegistryEntry("team", team, _team(table)) for team, table in file.teams.items()]
    found += [RegistryEntry("user", user, _described(table)) for user, table in file.users.items()]
    of_keys = ((key, _spending(table)) for key, table in file.keys.items())
    found += [RegistryEntry("key", key, document) for key, document in of_keys if document]
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


def _settings(file: GatewayFile) -> dict[str, Any]:
    document = file.model_dump(mode="json", include=_TOP_LEVEL, exclude_none=True)
    if file.default_provider is not None:
        document["default_provider"] = canonical(file.default_provider)
    return document


def _provider(name: str, table: ProviderTable) -> dict[str, Any]:
    document = table.model_dump(mode="json", exclude_none=True)
    if table.like is not None:
        document["like"] = canonical(table.like)
    row = provider_rows().get(canonical(table.like) if table.like else name)
    if table.api_key_env and table.credential is None and row is not None and row.credential == "none":
        # A local server that was given a key wants it: nobody names a variable for nothing.
        document["credential"] = "bearer"
    return document


def _model(table: ModelTable, file: GatewayFile) -> dict[str, Any]:
    apart = {"deployments", "limits", "shadow", *STRATEGY_KEYS}
    document = table.model_dump(mode="json", exclude_none=True, exclude=apart)
    document["deployments"] = [_deployment(each) for each in table.deployments]
    for kind in FALLBACKS:
        document[kind] = [_fallback(target, file) for target in getattr(table, kind)]
    return {**document, **_strategy(table, file), **_limits(table)}


def _strategy(table: ModelTable, file: GatewayFile) -> dict[str, Any]:
    """What is said of how the alias shares its calls, and nothing of what is not said."""
    document = table.model_dump(mode="json", include=STRATEGY_KEYS, exclude_defaults=True)
    for rule in document.get("rules", ()):
        rule["use"] = _fallback(rule["use"], file)
    for kind in ("canary", "shadow_traffic"):
        if kind in document:
            document[kind]["provider"] = canonical(document[kind]["provider"])
    return document


def _deployment(table: DeploymentTable) -> dict[str, Any]:
    where = {"provider": canonical(table.provider), "model": table.model, "weight": table.weight}
    return {**where, **table.model_dump(mode="json", include={"region", "key"}, exclude_none=True), **_limits(table)}


def _team(table: TeamTable) -> dict[str, Any]:
    # `providers` stays here: where a laptop finds a key is nobody else's business.
    markup = {} if table.markup is None else {"markup": table.markup}
    return {**markup, **_described(table)}


def _described(table: TeamTable | UserTable) -> dict[str, Any]:
    described = {} if table.description is None else {"description": table.description}
    return {**described, **_spending(table)}


def _spending(table: SpendingTable) -> dict[str, Any]:
    document = _limits(table)
    if table.budgets:
        document["budget"] = [_document(budget) for budget in table.budgets]
    wishes = {"on_ledger_outage", "without_max_tokens", "queue_s"}
    return {**document, **table.model_dump(mode="json", include=wishes, exclude_none=True)}


def _limits(table: LimitedTable) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if table.limits is not None:
        document["limits"] = _document(table.limits)
    if table.shadow:
        document["shadow"] = True
    return document


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
        providers=None if table.providers is None else tuple(map(canonical, table.providers)),
        owner=table.owner,
        metadata=dict(table.metadata),
    )
