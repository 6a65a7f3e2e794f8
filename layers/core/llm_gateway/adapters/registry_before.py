"""The registry as it was stored before revisions were kept: read until the first commit, then in nobody's way.

| pk | sk | holds |
|---|---|---|
| `catalog` | `<kind>#<name>` | an entry |
| `keys#<0-15>` | `<key id>` | one virtual key |

Each has its `document`, JSON in a string.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast, get_args
from zlib import crc32

import orjson

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.registry_items import RegistryItems
from llm_gateway.adapters.registry_tree import Entries, item_key
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Kind, RegistryEntry
from llm_gateway.domain.revisions import EntryId, StoredEntry, etag_of, virtual_key
from llm_gateway.errors import InternalFailure

_PARTITIONS: Final = ("catalog", *(f"keys#{shard}" for shard in range(16)))
_KINDS: Final = frozenset(get_args(Kind))
_REMEMBERED: Final = 10_000


class BeforeRevisions:
    """`ports.RegistryView`, as old as itself: a key is looked up once."""

    revision = 0

    def __init__(self, items: RegistryItems, catalog: Sequence[RegistryEntry]) -> None:
        self._items = items
        self.catalog = catalog
        self._found: dict[str, VirtualKey | None] = {}

    @classmethod
    async def read(cls, items: RegistryItems) -> "BeforeRevisions":
        entries = [_entry(item) async for item in items.query("catalog")]
        return cls(items, [RegistryEntry(cast("Kind", kind), name, each.document) for (kind, name), each in entries])

    async def find_key(self, key_id: str) -> VirtualKey | None:
        if key_id in self._found or not key_id:
            return self._found.get(key_id)
        item = await self._items.get(item_key(f"keys#{crc32(key_id.encode()) % 16}", key_id))
        found = None if item is None else virtual_key(key_id, _document(item))
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[key_id] = found
        return found


async def entries_before(items: RegistryItems) -> Entries:
    """All there is, tokens too."""

    async def partition(pk: str) -> list[tuple[EntryId, StoredEntry]]:
        return [_entry(item) async for item in items.query(pk)]

    return dict(pair for pairs in await asyncio.gather(*map(partition, _PARTITIONS)) for pair in pairs)


async def remove_before(items: RegistryItems) -> None:
    """For a registry that has had revisions for long enough that nobody goes back behind them."""
    for partition in _PARTITIONS:
        found = items.query(partition, ProjectionExpression="pk, sk")
        await items.delete_all([key async for key in found])


def _document(item: Item) -> dict[str, Any]:
    try:
        document = orjson.loads(item["document"]["S"])
    except (KeyError, orjson.JSONDecodeError) as error:
        raise InternalFailure(f"The registry holds no readable document at {item['sk']['S']!r}.") from error
    if not isinstance(document, dict):
        raise InternalFailure(f"The registry's document at {item['sk']['S']!r} is no object.")
    return document


def _entry(item: Item) -> tuple[EntryId, StoredEntry]:
    if item["pk"]["S"] != "catalog":
        return ("token", item["sk"]["S"]), StoredEntry(_document(item), etag_of(0), None, None)
    kind, _, name = item["sk"]["S"].partition("#")
    if kind not in _KINDS:
        raise InternalFailure(f"The registry holds an entry of an unknown kind: {kind!r}.")
    return (cast("Kind", kind), name), StoredEntry(_document(item), etag_of(0), None, None)
