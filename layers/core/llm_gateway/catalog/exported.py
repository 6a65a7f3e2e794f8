"""The registry as a gateway.toml that a person would write: what is the default is left out.

Applied again it changes nothing. Tokens of keys are not in it, nor are keys of providers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from llm_gateway.catalog.as_file import TABLE_OF, file_tables
from llm_gateway.catalog.schema import GatewayFile
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import RegistryEntry


def exported_file(entries: Iterable[RegistryEntry], keys: Iterable[VirtualKey]) -> dict[str, Any]:
    """The file's tables; times are `datetime`. What an earlier version stored and this one refuses comes as it is."""
    tables = _in_order(file_tables(entries, keys))
    try:
        file = GatewayFile.model_validate(tables).model_dump(exclude_defaults=True)
    except ValidationError:
        return {name: table for name, table in tables.items() if table != {}}
    for group in ("teams", "users", "keys"):
        for table in file.get(group, {}).values():
            _read_well(table)
    if "organisation" in file:
        _read_well(file["organisation"])
    for table in file.get("keys", {}).values():
        if table.get("enabled"):
            del table["enabled"]
    for table in file.get("models", {}).values():
        for rule in table.get("rules", ()):
            if "budget_used_above" in rule["when"]:
                rule["when"]["budget_used_above"] = float(rule["when"]["budget_used_above"])
    return file


def _in_order(tables: dict[str, Any]) -> dict[str, Any]:
    """Tables by name, whatever order the store gives them in: two exports of one configuration are one text."""
    file = {name: dict(sorted(table.items())) if name in TABLE_OF.values() else table for name, table in tables.items()}
    for provider in file["providers"].values():
        if isinstance(models := provider.get("models"), Mapping):
            provider["models"] = dict(sorted(models.items()))
    for key in file["keys"].values():
        for name in ("tags", "metadata"):
            if isinstance(pairs := key.get(name), Mapping):
                key[name] = dict(sorted(pairs.items()))
    return file


def _read_well(table: dict[str, Any]) -> None:
    """A budget's shares are numbers in a file, and one budget is a table."""
    budgets = table.get("budget")
    if budgets is None:
        return
    for budget in budgets:
        if "alerts" in budget:
            budget["alerts"] = [float(share) for share in budget["alerts"]]
    if len(budgets) == 1:
        table["budget"] = budgets[0]
