"""Reads and writes of the Registry table's items, many at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import AwsJsonClient, ConditionalCheckFailed
from llm_gateway.errors import Unavailable

_BATCH: Final = 32
"""Items of 300 KB in one answer: DynamoDB takes 100, and the client 16 MB."""
_ROUNDS: Final = 8
_AT_ONCE: Final = 8


class RegistryItems:
    """Every read is consistent. Every method raises `errors.Unavailable`."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._aws = aws
        self._table = table

    async def get(self, key: Item) -> Item | None:
        answer = await self._aws.call("GetItem", {"TableName": self._table, "Key": key, "ConsistentRead": True})
        item: Item | None = answer.get("Item")
        return item

    async def get_all(self, keys: Sequence[Item]) -> list[Item | None]:
        """In the order of the keys; None for what is not there."""
        if len(keys) == 1:
            return [await self.get(keys[0])]
        batches = [keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH)]
        found: dict[tuple[str, str], Item] = {}
        for batch in await asyncio.gather(*(self._batch(batch) for batch in batches)):
            found.update(batch)
        return [found.get(_place(key)) for key in keys]

    async def _batch(self, keys: Sequence[Item]) -> dict[tuple[str, str], Item]:
        found: dict[tuple[str, str], Item] = {}
        wanted: Mapping[str, Any] = {self._table: {"Keys": list(keys), "ConsistentRead": True}}
        for attempt in range(_ROUNDS):
            answer = await self._aws.call("BatchGetItem", {"RequestItems": wanted})
            found.update((_place(item), item) for item in answer["Responses"].get(self._table, []))
            wanted = answer.get("UnprocessedKeys") or {}
            if not wanted:
                return found
            await asyncio.sleep(0.05 * attempt)
        raise Unavailable("The gateway's own store does not give all of its configuration.")

    async def put_new(self, item: Item) -> None:
        """Leaves one that is there as it is: it may be this very one, sent before."""
        condition = "attribute_not_exists(pk)"
        with suppress(ConditionalCheckFailed):
            await self._aws.call("PutItem", {"TableName": self._table, "Item": item, "ConditionExpression": condition})

    async def put_all(self, items: Iterable[Item]) -> None:
        """Harmless when repeated; whatever breaks off has written some of them."""
        await self._side_by_side("PutItem", [{"TableName": self._table, "Item": item} for item in items])

    async def delete_all(self, keys: Iterable[Item]) -> None:
        await self._side_by_side("DeleteItem", [{"TableName": self._table, "Key": key} for key in keys])

    async def _side_by_side(self, operation: str, payloads: Sequence[Mapping[str, Any]]) -> None:
        """A few at a time: hundreds at once would be as many connections."""
        waiting = iter(payloads)

        async def work() -> None:
            for payload in waiting:
                await self._aws.call(operation, payload)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(payloads))):
                    group.create_task(work())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def query(self, pk: str, **more: Any) -> AsyncIterator[Item]:
        """Every item of a partition, in the order of `sk`; DynamoDB gives at most 1 MB at a time."""
        while True:
            page, last = await self.query_once(pk, **more)
            for item in page:
                yield item
            if not last:
                return
            more["ExclusiveStartKey"] = last

    async def query_once(self, pk: str, **more: Any) -> tuple[list[Item], Item | None]:
        """Some of them, and the last key where there may be others."""
        payload: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk",
            "ConsistentRead": True,
            **more,
            "ExpressionAttributeValues": {":pk": {"S": pk}, **more.get("ExpressionAttributeValues", {})},
        }
        page = await self._aws.call("Query", payload)
        return page["Items"], page.get("LastEvaluatedKey") or None

    async def transact(self, actions: Sequence[Mapping[str, Any]], token: str) -> None:
        """All of them or none, once for a token. Raises `TransactionCanceled`."""
        named = [{kind: {"TableName": self._table, **action}} for each in actions for kind, action in each.items()]
        await self._aws.call("TransactWriteItems", {"TransactItems": named, "ClientRequestToken": token})


def _place(item: Item) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]
