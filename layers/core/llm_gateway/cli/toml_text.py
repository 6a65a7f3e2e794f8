"""gateway.toml, written as a person would write it.

TOML: https://toml.io/en/v1.0.0, written with tomlkit: https://tomlkit.readthedocs.io/en/latest/api/
"""

from collections.abc import Mapping
from typing import Any, Final

import tomlkit
from tomlkit.items import Item, Key, Table

_GROUPS: Final = ("circuit", "organisation", "providers", "models", "prices", "teams", "users", "keys")
"""The tables, in the order of a file; what else there is stands above them."""
_OF_NAMES: Final = _GROUPS[2:]


def gateway_toml(tables: Mapping[str, Any]) -> str:
    """The text of a file. Values are JSON-shaped, or `datetime`."""
    document = tomlkit.document()
    for name, value in tables.items():
        if name not in _GROUPS:
            document.add(name, _value(value))
    for group in _GROUPS:
        if group in tables:
            document.add(group, _named(tables[group]) if group in _OF_NAMES else _table(tables[group]))
    return tomlkit.dumps(document)


def _named(tables: Mapping[str, Any]) -> Table:
    """`[models.fast]` and its like: no line for `[models]` itself."""
    group = tomlkit.table(is_super_table=True)
    for name, table in tables.items():
        group.add(_key(name), _table(table))
    return group


def _table(members: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    for name, value in members.items():
        if not _of_tables(value):
            table.add(_key(name), _value(value))
    for name, value in members.items():
        if _of_tables(value):
            table.add(_key(name), _named(value))
    return table


def _of_tables(value: Any) -> bool:
    """Whether it is tables by name: those of a provider's models, say."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, Mapping) for each in value.values())


def _value(value: Any) -> Item:
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        for name, inner in value.items():
            inline.add(_key(name), _value(inner))
        return inline
    if isinstance(value, list):
        array = tomlkit.array()
        for each in value:
            array.append(_value(each))
        array.multiline(any(isinstance(each, Mapping) for each in value))
        return array
    item: Item = tomlkit.item(value)
    return item


def _key(name: str) -> Key:
    """Of a name that may hold anything: a text alone would be read as it stands."""
    return tomlkit.key(name)
