"""The registry as the tables of a gateway.toml: `config.entries` and `config.keys`, the other way round.

What comes out is what `tomllib` would have read from such a file, so that `GatewayFile` checks it, and an edit of the
registry is held to the rules that a file is held to.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from llm_gateway.catalog.schema_values import TomlFloat
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Kind, RegistryEntry

TABLE_OF: Final[Mapping[Kind, str]] = {
    "provider": "providers",
    "model": "models",
    "price": "prices",
    "team": "teams",
    "user": "users",
    "key": "keys",
}
"""The table behind which entries of a kind stand, by name. `settings` are the top level, `organisation` is one."""

_KEY_MEMBERS: Final = ("team", "user", "owner", "role", "enabled")


def file_tables(entries: Iterable[RegistryEntry], keys: Iterable[VirtualKey]) -> dict[str, Any]:
    """The tables, by name; those of kinds that are not there are empty. They share what the entries hold: to be read.

    A key's tokens are not in a file: of those with one name, the one in force (not `rotated`) says what it may do.
    """
    file: dict[str, Any] = {table: {} for table in TABLE_OF.values()}
    for entry in entries:
        document = {**entry.document, **_budget(entry.document), **_rules(entry.document)}
        if entry.kind == "settings":
            file.update(document)
        elif entry.kind == "organisation":
            file["organisation"] = {"name": entry.name, **document}
        else:
            file[TABLE_OF[entry.kind]][entry.name] = document
    in_force = {key.name: key for key in sorted(keys, key=lambda each: not each.rotated)}
    for name, key in in_force.items():
        file["keys"].setdefault(name, {}).update(key_table(key))
    return file


def key_table(key: VirtualKey) -> dict[str, Any]:
    """What a file says of a key, but for its limits and budgets; what is the default is left out."""
    table: dict[str, Any] = {name: value for name in _KEY_MEMBERS if (value := getattr(key, name)) is not None}
    for name in ("models", "providers"):
        patterns = getattr(key, name)
        if patterns is not None:
            table[name] = list(patterns)
    if key.expires_at is not None and not key.rotated:
        table["expires_at"] = datetime.fromtimestamp(key.expires_at, UTC)
    for name in ("tags", "metadata"):
        if pairs := getattr(key, name):
            table[name] = dict(pairs)
    return table


def _budget(document: Mapping[str, Any]) -> dict[str, Any]:
    """Stored shares of a budget are text, a file's are numbers that know theirs."""
    budgets = document.get("budget")
    if not isinstance(budgets, list):
        return {}
    return {"budget": [_with_numbers(each) if isinstance(each, Mapping) else each for each in budgets]}


def _rules(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a model's rules, whose condition may be a share of a budget."""
    rules = document.get("rules")
    if not isinstance(rules, list):
        return {}
    return {"rules": [_rule(each) if isinstance(each, Mapping) else each for each in rules]}


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    when = rule.get("when")
    if not isinstance(when, Mapping) or not isinstance(when.get("budget_used_above"), str):
        return dict(rule)
    return {**rule, "when": {**when, "budget_used_above": TomlFloat(when["budget_used_above"])}}


def _with_numbers(budget: Mapping[str, Any]) -> dict[str, Any]:
    shares = budget.get("alerts")
    if not isinstance(shares, list):
        return dict(budget)
    return {**budget, "alerts": [TomlFloat(each) if isinstance(each, str) else each for each in shares]}
