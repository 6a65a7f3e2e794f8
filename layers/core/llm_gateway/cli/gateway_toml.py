"""gateway.toml, read as the document that a gateway is sent."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_gateway.admin.rendering import as_json
from llm_gateway.catalog.config import parse_config, read_text
from llm_gateway.catalog.providers import canonical


@dataclass(frozen=True, slots=True)
class GatewayToml:
    """A file that has passed every check. `document` is JSON-shaped, without the tokens of keys.

    `given` are the keys whose token the file gives: for `make run`. `secrets` are the environment's names of keys of
    providers, by (team, provider); the team is None for the gateway's own.
    """

    document: Mapping[str, Any]
    given: tuple[str, ...]
    secrets: Mapping[tuple[str | None, str], str]


def read_gateway_toml(path: Path) -> GatewayToml:
    """Raises `ConfigError`, with a line for every fault."""
    text = read_text(path)
    parse_config(text, path.name)
    document = as_json(tomllib.loads(text))
    given = [name for name, table in document.get("keys", {}).items() if table.pop("key", None) is not None]
    return GatewayToml(document, tuple(given), dict(_secrets(document)))


def _secrets(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str | None, str], str]]:
    for name, table in document.get("providers", {}).items():
        if "api_key_env" in table:
            yield (None, canonical(name)), table["api_key_env"]
    for team, table in document.get("teams", {}).items():
        for name, given in table.get("providers", {}).items():
            yield (team, canonical(name)), given["api_key_env"]
