"""The ledger in DynamoDB: one item per request, two writes in its life.

Table: partition key `pk` (string), time to live on `ttl`. Conditions and their return of the old item:
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html
"""

import secrets
from typing import Any, Final

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
_PLACEHOLDERS: Final = tuple((name, f"#{name}", f":{name}") for name in (*RECORD_ATTRIBUTES, "ttl", _SETTLED_BY))
_NAMES: Final = {placeholder: name for name, placeholder, _ in _PLACEHOLDERS}
_UNSETTLED: Final = {":open": {"S": "open"}, ":abandoned": {"S": "abandoned"}}
_SETTLE_CONDITION: Final = "attribute_not_exists(pk) OR #status IN (:open, :abandoned)"


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
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            await self._aws.call("PutItem", payload)
        except ConditionalCheckFailed as error:
            # Ours, written by an attempt whose answer was lost: that is what opening it again means.
            if not _same_request(error.item, record):
                raise InternalFailure("The request's id is taken by another request.") from error

    async def settle(self, record: RequestRecord) -> bool:
        """Raises `errors.Unavailable`."""
        settled_by = secrets.token_urlsafe(8)
        try:
            await self._aws.call("UpdateItem", self._settlement(record, settled_by))
        except ConditionalCheckFailed as error:
            # An attempt of this very call may have been committed and its answer lost: then the mark is ours.
            return error.item is not None and error.item.get(_SETTLED_BY) == {"S": settled_by}
        return True

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
        return item

    def _settlement(self, record: RequestRecord, settled_by: str) -> dict[str, Any]:
        """One update that makes the item say what the record says: what it leaves out goes, and nothing else."""
        item = self._item(record)
        item[_SETTLED_BY] = {"S": settled_by}
        values: Item = dict(_UNSETTLED)
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
            "ConditionExpression": _SETTLE_CONDITION,
            "ExpressionAttributeNames": _NAMES,
            "ExpressionAttributeValues": values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def _same_request(item: Item | None, record: RequestRecord) -> bool:
    """Whether `item` was opened for `record`: same moment, same key."""
    if item is None:
        return False
    key_id = None if record.key_id is None else {"S": record.key_id}
    return item.get("at") == {"N": str(record.at_ms)} and item.get("key_id") == key_id
