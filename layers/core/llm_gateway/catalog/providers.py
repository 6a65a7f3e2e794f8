"""The vendors that ship with the gateway: `providers.toml`, one row each."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llm_gateway.catalog.endpoints import BaseUrlStyle
from llm_gateway.domain.catalog import Credential, Dialect, Quirks

DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """One vendor as shipped; the comment at the head of `providers.toml` says what the fields mean."""

    name: str
    display_name: str
    dialect: Dialect
    docs: str
    base_url: str | None = None
    credential: Credential = "bearer"
    credential_header: str | None = None
    secret: str | None = None
    api_key_env: tuple[str, ...] = ()
    base_url_env: tuple[str, ...] = ()
    base_url_style: BaseUrlStyle = "as_given"
    api_version_env: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    header_env: Mapping[str, str] = field(default_factory=dict)
    quirks: Quirks = field(default_factory=Quirks)
    price_as: str | None = None


def canonical(name: str) -> str:
    """The one spelling of a provider's name: underscores. `azure-openai` is accepted wherever a name is read."""
    return name.replace("-", "_")


@cache
def provider_rows() -> Mapping[str, ProviderRow]:
    """Every row by name, in the file's order. Parsed once a process, in about a millisecond."""
    with Path(__file__).with_name("providers.toml").open("rb") as file:
        document = tomllib.load(file)
    return MappingProxyType({name: _row(name, fields) for name, fields in document.items()})


def _row(name: str, fields: dict[str, Any]) -> ProviderRow:
    quirks: dict[str, Any] = fields.get("quirks", {})
    for several in ("drop", "refuse", "drop_from_messages", "free"):
        quirks[several] = tuple(quirks.get(several, ()))
    fields["quirks"] = Quirks(**quirks)
    for many in ("api_key_env", "base_url_env", "api_version_env"):
        fields[many] = tuple(fields.get(many, ()))
    return ProviderRow(name=name, **fields)
