"""The ledger in DynamoDB: one item per request, two writes in its life. docs/ledger.md has the whole scheme.

Table: partition key `pk` (string), time to live on `ttl`, sparse indexes `due` and `listed`. Conditions and their
return of the old item: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

from llm_gateway.adapters.attributes import (
    RECORD_ATTRIBUTES,
    Item,
    decode_record,
    encode_record,
    request_key,
)
from llm_gateway.adapters.aws_json import AwsJsonClient, ConditionalCheckFailed
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InternalFailure

_DAY_S: Final = 86_400
# Placeholders for every name: `status`, `usage`, `key`, `user` and more are reserved words in an expression.
_SETTLED_BY: Final = "settled_by"
_DUE: Final = "due"
LISTED: Final = "listed"
_PLACEHOLDERS: Final = tuple(
    (name, f"#{name}", f":{name}") for name in (*RECORD_ATTRIBUTES, "ttl", _SETTLED_BY, _DUE, LISTED)
)
_NAMES: Final = {placeholder: name for name, placeholder, _ in _PLACEHOLDERS}
_OPEN: Final = {":was_open": {"S": "open"}}
_UNSETTLED: Final = {**_OPEN, ":was_abandoned": {"S": "abandoned"}}
_SETTLE_CONDITION: Final = (
    "attribute_not_exists(pk) OR #status = :was_open OR (#status = :was_abandoned AND attribute_not_exists(closed))"
)
_OWN: Final = "#status = :open AND #at = :at AND key_id = :key"
_REOPENED: Final = f"attribute_not_exists(pk) OR ({_OWN})"
_OPENED: Final = f"attribute_not_exists(pk) OR ({_OWN} AND attribute_not_exists(holds))"
"""Our own may be there: from an attempt whose answer was lost, or with more reserved than fits. One with tags is the
later one: it was opened again when the request went on to another deployment."""
SHARDS: Final = 8
"""Of each index: a partition takes 1,000 writes a second. One key's requests are in one partition of `listed`."""


class DynamoDBLedger:
    """`ports.Ledger` on the Ledger table.

    An item lives `retention_days` from its request. Attributes that others keep on it (a `folded` mark) survive.
    """

    def __init__(self, aws: AwsJsonClient, table: str, *, retention_days: int = 400) -> None:
        self._aws = aws
        self._table = table
        self._retention_s = retention_days * _DAY_S

    async def open(self, record: RequestRecord) -> None:
        """Raises `errors.Unavailable`, and `errors.InternalFailure` where the id is another request's."""
        payload = {
            "TableName": self._table,
            "Item": self._item(record),
            "ConditionExpression": _REOPENED if record.holds else _OPENED,
            "ExpressionAttributeNames": {"#status": "status", "#at": "at"},
            "ExpressionAttributeValues": {
                ":open": {"S": "open"},
                ":at": {"N": str(record.at_ms)},
                ":key": {"S": record.key_id or ""},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            await self._aws.call("PutItem", payload)
        except ConditionalCheckFailed as error:
            if not _same_request(error.item, record):
                raise InternalFailure("The request's id is taken by another request.") from error

    async def settle(self, record: RequestRecord) -> bool:
        """Raises `errors.Unavailable`."""
        settled_by = secrets.token_urlsafe(8)
        try:
            await self._aws.call("UpdateItem", self._change(record, settled_by, _SETTLE_CONDITION, _UNSETTLED))
        except ConditionalCheckFailed as error:
            # An attempt of this very call may have been committed and its answer lost: then the mark is ours.
            return error.item is not None and error.item.get(_SETTLED_BY) == {"S": settled_by}
        return True

    async def abandon(self, record: RequestRecord) -> bool:
        """Raises `errors.Unavailable`."""
        try:
            await self._aws.call("UpdateItem", self._change(record, None, "#status = :was_open", _OPEN))
        except ConditionalCheckFailed as error:
            return error.item is not None and error.item["status"] == {"S": "abandoned"}
        return True

    async def close(self, request_id: str) -> None:
        """Raises `errors.Unavailable`."""
        payload = {
            "TableName": self._table,
            "Key": request_key(request_id),
            "UpdateExpression": "SET closed = :true",
            "ConditionExpression": "#status = :abandoned",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":true": {"BOOL": True}, ":abandoned": {"S": "abandoned"}},
        }
        with suppress(ConditionalCheckFailed):  # it was settled meanwhile
            await self._aws.call("UpdateItem", payload)

    async def due(self, now: float) -> AsyncIterator[str]:
        """Raises `errors.Unavailable`."""
        for shard in range(SHARDS):
            async for key in query_due(self._aws, self._table, f"open#{shard}", now):
                yield key.removeprefix("req#")

    async def get(self, request_id: str) -> RequestRecord | None:
        """Reads what was written last. Raises `errors.Unavailable`."""
        answer = await self._aws.call(
            "GetItem", {"TableName": self._table, "Key": request_key(request_id), "ConsistentRead": True}
        )
        item: Item | None = answer.get("Item")
        return None if item is None else decode_record(item)

    def _item(self, record: RequestRecord) -> Item:
        item = encode_record(record)
        item["ttl"] = {"N": str(record.at_ms // 1000 + self._retention_s)}
        if record.status == "open":
            item[_DUE] = {"S": f"open#{crc32(record.request_id.encode()) % SHARDS}"}
        else:
            item[LISTED] = {"S": listed_shard(record.key)}
        return item

    def _change(self, record: RequestRecord, settled_by: str | None, condition: str, known: Item) -> dict[str, Any]:
        """One update that makes the item say what the record says: what it leaves out goes, and nothing else."""
        item = self._item(record)
        if settled_by is not None:
            item[_SETTLED_BY] = {"S": settled_by}
        values: Item = dict(known)
        present: list[str] = []
        absent: list[str] = []
        for name, placeholder, value in _PLACEHOLDERS:
            attribute = item.get(name)
            if attribute is None:
                absent.append(placeholder)
            else:
                present.append(f"{placeholder}={value}")
                values[value] = attribute
        update = f"SET {','.join(present)}"
        if absent:
            update = f"{update} REMOVE {','.join(absent)}"
        return {
            "TableName": self._table,
            "Key": {"pk": item["pk"]},
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": _NAMES,
            "ExpressionAttributeValues": values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


async def query_due(aws: AwsJsonClient, table: str, shard: str, before: float) -> AsyncIterator[str]:
    """Keys (`pk`) of the index `due`, whose `expires` is less than `before`, earliest first."""
    payload: dict[str, Any] = {
        "TableName": table,
        "IndexName": _DUE,
        "KeyConditionExpression": "due = :due AND expires < :before",
        "ExpressionAttributeValues": {":due": {"S": shard}, ":before": {"N": str(int(before))}},
    }
    while True:
        page = await aws.call("Query", payload)
        for item in page["Items"]:
            yield item["pk"]["S"]
        last = page.get("LastEvaluatedKey")
        if not last:
            return
        payload["ExclusiveStartKey"] = last


def listed_shard(key: str | None) -> str:
    """The partition of the index `listed` that has the requests of the key of that name."""
    return str(crc32((key or "").encode()) % SHARDS)


def _same_request(item: Item | None, record: RequestRecord) -> bool:
    """Whether `item` was opened for `record`: same moment, same key."""
    if item is None:
        return False
    key_id = None if record.key_id is None else {"S": record.key_id}
    return item.get("at") == {"N": str(record.at_ms)} and item.get("key_id") == key_id
