"""Lists of requests, by the Ledger's index `listed`. docs/ledger.md says what the index costs.

Index: partition key `listed` (string), one of a few shards chosen by the key's name; sort key `at` (number). A request
enters it when it leaves `open`, and what the index holds of it changes no more, so that it is written once.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html#GSI.ThroughputConsiderations.Writes
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from llm_gateway.adapters.attributes import Item, decode_record
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import LISTED, SHARDS, listed_shard
from llm_gateway.domain.listing import Position, RequestPage, Wanted
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import Unavailable

_QUERIES: Final = 48
"""For one page."""
_LOOKED_AT: Final = 2000
"""Entries that one Query with a filter reads: about half a megabyte, so that it answers quickly."""
_BATCH: Final = 100
"""Items that one BatchGetItem takes."""
_BATCH_TRIES: Final = 8
_ATTRIBUTES: Final = {"team": "team", "key": "key", "user": "user", "provider": "provider", "status": "status"}


@dataclass
class _Shard:
    """What has been read of one partition. `frontier` is the time down to which; None once all of it has been."""

    name: str
    frontier: int | None
    start: Item | None = None
    found: list[Position] = field(default_factory=list)


class DynamoDBRequests:
    """`ports.RequestIndex` on the Ledger table. Every method raises `errors.Unavailable`."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._aws = aws
        self._table = table

    async def page(self, wanted: Wanted, after: Position | None, limit: int) -> RequestPage:
        if after is not None:
            wanted = replace(wanted, until_ms=min(wanted.until_ms, after.at_ms + 1))
        if wanted.until_ms <= wanted.first_ms:
            return RequestPage((), None)
        names = map(str, range(SHARDS)) if wanted.key is None else (listed_shard(wanted.key),)
        shards = [_Shard(name, wanted.until_ms) for name in names]
        queries = 0
        while True:
            front = max((shard.frontier for shard in shards if shard.frontier is not None), default=None)
            ready = [each for shard in shards for each in shard.found if front is None or each.at_ms > front]
            ready = sorted((each for each in ready if after is None or each < after), reverse=True)
            if len(ready) > limit:
                return RequestPage(await self._records(ready[:limit], wanted), ready[limit - 1])
            if front is None:
                return RequestPage(await self._records(ready, wanted), None)
            if queries >= _QUERIES:
                return RequestPage(await self._records(ready, wanted), Position(front + 1, ""))
            behind = [shard for shard in shards if shard.frontier == front]
            queries += len(behind)
            await asyncio.gather(*(self._read_on(shard, wanted, limit) for shard in behind))

    async def every(self, first_ms: int, until_ms: int) -> AsyncIterator[Sequence[RequestRecord]]:
        """All requests of the time, in batches, in no order."""
        wanted = Wanted(first_ms, until_ms)
        for name in map(str, range(SHARDS)):
            shard = _Shard(name, until_ms)
            while shard.frontier is not None:
                await self._read_on(shard, wanted, 10 * _BATCH)
                found, shard.found = shard.found, []
                batches = [found[start : start + _BATCH] for start in range(0, len(found), _BATCH)]
                for records in await asyncio.gather(*(self._records(batch, wanted) for batch in batches)):
                    yield records

    async def _read_on(self, shard: _Shard, wanted: Wanted, limit: int) -> None:
        """One Query more of the shard, newest first."""
        answer = await self._aws.call("Query", self._query(shard, wanted, limit))
        for item in answer["Items"]:
            shard.found.append(Position(int(item["at"]["N"]), item["pk"]["S"].removeprefix("req#")))
        shard.start = answer.get("LastEvaluatedKey")
        shard.frontier = None if shard.start is None else int(shard.start["at"]["N"])

    def _query(self, shard: _Shard, wanted: Wanted, limit: int) -> dict[str, Any]:
        values: Item = {
            ":shard": {"S": shard.name},
            ":first": {"N": str(wanted.first_ms)},
            ":last": {"N": str(wanted.until_ms - 1)},
        }
        names = {"#at": "at"}
        conditions = []
        for name, value in wanted.filters():
            values[f":{name}"] = {"S": value}
            if name == "model":
                names |= {"#model": "model", "#routed": "routed"}
                conditions.append("(#model = :model OR #routed = :model)")
            else:
                names[f"#{name}"] = _ATTRIBUTES[name]
                conditions.append(f"#{name} = :{name}")
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": LISTED,
            "KeyConditionExpression": f"{LISTED} = :shard AND #at BETWEEN :first AND :last",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ScanIndexForward": False,
        }
        if conditions:
            query["FilterExpression"] = " AND ".join(conditions)
        # With a filter it bounds what is looked at, not what is found.
        query["Limit"] = _LOOKED_AT if conditions else limit + 1
        if shard.start is not None:
            query["ExclusiveStartKey"] = shard.start
        return query

    async def _records(self, positions: Iterable[Position], wanted: Wanted) -> list[RequestRecord]:
        """The records in the order of `positions`, without those that have expired meanwhile."""
        ids = [position.request_id for position in positions]
        items: dict[str, Item] = {}
        for start in range(0, len(ids), _BATCH):
            async for item in self._items(ids[start : start + _BATCH]):
                items[item["pk"]["S"]] = item
        held = (items.get(f"req#{each}") for each in ids)
        records = (decode_record(item) for item in held if item is not None)
        # An abandoned request may have been settled since the index was read.
        return [record for record in records if wanted.has(record)]

    async def _items(self, ids: Sequence[str]) -> AsyncIterator[Item]:
        """DynamoDB may answer for some, and leave the rest to be asked for again.

        Consistent: an item older than its entry in the index would still be `open`, and be left out.
        """
        keys = [{"pk": {"S": f"req#{each}"}} for each in ids]
        asked: dict[str, Any] = {self._table: {"Keys": keys, "ConsistentRead": True}}
        for attempt in range(_BATCH_TRIES):
            if not asked:
                return
            if attempt:
                await asyncio.sleep(0.02 * 2**attempt)
            answer: dict[str, Any] = await self._aws.call("BatchGetItem", {"RequestItems": asked})
            for item in answer["Responses"].get(self._table, ()):
                yield item
            asked = answer.get("UnprocessedKeys", {})
        if asked:
            raise Unavailable("The gateway's own store does not answer.")
