"""What operators configure, in DynamoDB.

Table: partition key `pk`, sort key `sk` (strings).

| pk | sk | holds |
|---|---|---|
| `catalog` | `<kind>#<name>` | one provider, model, price, team or setting; the gateway reads them all with one query |
| `keys#<0-15>` | `<key id>` | one virtual key |

Keys are one item each and not two (a record and an entry in a list): two would need a transaction, or could disagree.
They are spread over 16 partitions, so that strangers who guess keys cannot exhaust the 3,000 reads a second of the one
partition that everybody's key is in, and listing is 16 small queries, which only the control plane asks for.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, cast, get_args
from zlib import crc32

import orjson

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Kind, RegistryEntry
from llm_gateway.errors import InternalFailure, InvalidRequest

_CATALOG: Final = "catalog"
_SHARDS: Final = 16
_ITEM_LIMIT: Final = 400 * 1024
_ATTRIBUTE_NAMES: Final = len("pk" + "sk" + "document")
_KINDS: Final = frozenset(get_args(Kind))
_KEY_FIELDS: Final = frozenset(field.name for field in fields(VirtualKey))


class DynamoDBRegistry:
    """`ports.Registry` on the Registry table.

    Reads are consistent: what was put is what is found next. Every method raises `errors.Unavailable`; a document
    that cannot be read back raises `errors.InternalFailure`, which names it.
    """

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._aws = aws
        self._table = table

    async def load_catalog(self) -> Sequence[RegistryEntry]:
        return [_entry(item) async for item in self._query(_CATALOG)]

    async def put_entry(self, entry: RegistryEntry) -> None:
        """Raises `errors.InvalidRequest` for a document past the store's 400 KB."""
        await self._put(_CATALOG, f"{entry.kind}#{entry.name}", entry.document, f"{entry.kind} {entry.name!r}")

    async def delete_entry(self, kind: Kind, name: str) -> None:
        await self._delete(_CATALOG, f"{kind}#{name}")

    async def find_key(self, key_id: str) -> VirtualKey | None:
        if not key_id:
            return None
        answer = await self._aws.call(
            "GetItem", {"TableName": self._table, "Key": _key(_shard(key_id), key_id), "ConsistentRead": True}
        )
        item: Item | None = answer.get("Item")
        return None if item is None else _virtual_key(item)

    async def put_key(self, key: VirtualKey) -> None:
        """Raises `errors.InvalidRequest` for a key whose record is past the store's 400 KB."""
        document = {name: getattr(key, name) for name in _KEY_FIELDS if name != "key_id"}
        await self._put(_shard(key.key_id), key.key_id, document, f"key {key.name!r}")

    async def delete_key(self, key_id: str) -> None:
        await self._delete(_shard(key_id), key_id)

    async def list_keys(self) -> Sequence[VirtualKey]:
        """All of them, by id."""
        shards = await asyncio.gather(*(self._keys(f"keys#{shard}") for shard in range(_SHARDS)))
        return sorted((key for shard in shards for key in shard), key=lambda key: key.key_id)

    async def _keys(self, shard: str) -> list[VirtualKey]:
        return [_virtual_key(item) async for item in self._query(shard)]

    async def _query(self, pk: str) -> AsyncIterator[Item]:
        """Every item of a partition, in the order of `sk`; DynamoDB gives at most 1 MB at a time."""
        payload: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": pk}},
            "ConsistentRead": True,
        }
        while True:
            page = await self._aws.call("Query", payload)
            for item in page["Items"]:
                yield item
            last = page.get("LastEvaluatedKey")
            if not last:
                return
            payload["ExclusiveStartKey"] = last

    async def _put(self, pk: str, sk: str, document: Mapping[str, Any], what: str) -> None:
        text = orjson.dumps(dict(document))
        size = _ATTRIBUTE_NAMES + len(pk) + len(sk.encode()) + len(text)
        if size > _ITEM_LIMIT:
            raise InvalidRequest(f"{what} takes {size // 1024} KB; the most that can be stored of one is 400 KB.")
        item = {**_key(pk, sk), "document": {"S": text.decode()}}
        await self._aws.call("PutItem", {"TableName": self._table, "Item": item})

    async def _delete(self, pk: str, sk: str) -> None:
        await self._aws.call("DeleteItem", {"TableName": self._table, "Key": _key(pk, sk)})


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _shard(key_id: str) -> str:
    return f"keys#{crc32(key_id.encode()) % _SHARDS}"


def _document(item: Item) -> dict[str, Any]:
    try:
        document = orjson.loads(item["document"]["S"])
    except (KeyError, orjson.JSONDecodeError) as error:
        raise InternalFailure(f"The registry holds no readable document at {item['sk']['S']!r}.") from error
    if not isinstance(document, dict):
        raise InternalFailure(f"The registry's document at {item['sk']['S']!r} is no object.")
    return document


def _entry(item: Item) -> RegistryEntry:
    kind, _, name = item["sk"]["S"].partition("#")
    if kind not in _KINDS:
        raise InternalFailure(f"The registry holds an entry of an unknown kind: {kind!r}.")
    return RegistryEntry(cast("Kind", kind), name, _document(item))


def _virtual_key(item: Item) -> VirtualKey:
    """Fields that a later version added are passed over; those it has not are the defaults."""
    document = {name: value for name, value in _document(item).items() if name in _KEY_FIELDS}
    for patterns in ("models", "providers"):
        document[patterns] = None if document.get(patterns) is None else tuple(document[patterns])
    return VirtualKey(key_id=item["sk"]["S"], **{name: value for name, value in document.items() if name != "key_id"})
