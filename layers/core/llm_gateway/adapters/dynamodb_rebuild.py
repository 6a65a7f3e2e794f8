"""Rebuilds days of totals from the ledger's requests. The one reader of the whole ledger, and nothing's hot path.

While it works, an item in the Usage table makes every fold fail (`REBUILD_KEY`), and the stream waits. What the scan
finds is marked as counted as it is counted, so whatever leaves `open` later is folded as ever. A rebuild that died has
left half of its work: the item stays, folding waits, the alarm on the stream's age rings, and the next rebuild takes
over.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from llm_gateway.adapters.attributes import Item, decode_record, request_key
from llm_gateway.adapters.aws_json import AwsJsonClient, ConditionalCheckFailed, TransactionCanceled
from llm_gateway.adapters.dynamodb_totals import MALFORMED, REBUILD_KEY
from llm_gateway.adapters.total_attributes import encode_totals, folded_mark, group_key, row_key, row_of
from llm_gateway.domain.totals import GROUPS, Row, Totals, call_totals, rows_of
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import Unavailable

_SEGMENTS: Final = 8
_WRITES: Final = 50
_AT_ONCE: Final = 16
_TRIES: Final = 6


@dataclass(slots=True)
class _Found:
    """What a scan has added up so far."""

    rows: dict[Row, Totals] = field(default_factory=dict)
    requests: int = 0

    def add(self, record: RequestRecord) -> None:
        self.requests += 1
        totals = call_totals(record)
        for row in rows_of(record):
            self.rows[row] = self.rows[row] + totals if row in self.rows else totals


class DynamoDBRebuild:
    """`told` hears of items that are no record, by their key, and of progress: requests counted so far."""

    def __init__(
        self,
        aws: AwsJsonClient,
        usage_table: str,
        ledger_table: str,
        warn: Callable[[str], None],
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._aws = aws
        self._usage = usage_table
        self._ledger = ledger_table
        self._warn = warn
        self._told = told

    async def __call__(self, first_day: date, last_day: date) -> int:
        """How many requests count. Raises `errors.Unavailable`, also where another rebuild has taken over."""
        owner = secrets.token_urlsafe(8)
        await self._aws.call("PutItem", {"TableName": self._usage, "Item": {**REBUILD_KEY, "owner": {"S": owner}}})
        found = _Found()
        await asyncio.gather(*(self._scan(found, segment, first_day, last_day) for segment in range(_SEGMENTS)))
        old = [row async for row in self._rows(first_day, last_day)]
        await self._write(owner, [self._put(row, totals) for row, totals in found.rows.items()])
        await self._write(owner, [self._delete(row) for row in old if row not in found.rows])
        await self._finish(owner)
        return found.requests

    async def _scan(self, found: _Found, segment: int, first_day: date, last_day: date) -> None:
        async for items in self._requests(segment, first_day, last_day):
            for some in _batches(items, _AT_ONCE):
                for record in await asyncio.gather(*(self._counted(item) for item in some)):
                    if record is not None:
                        found.add(record)
            self._told(found.requests)

    async def _counted(self, item: Item) -> RequestRecord | None:
        """The record as it counts now, and its item says so; None for one that does not count."""
        while True:
            try:
                record = decode_record(item)
                mark = folded_mark(record)
            except MALFORMED as error:
                self._warn(f"{item.get('pk', {}).get('S')} is no request, and counts nowhere: {error!r}")
                return None
            if record.status == "open":
                return None
            if item.get("folded") == mark:
                return record
            changed = await self._mark(record, mark)
            if changed is None:
                return record
            item = changed

    async def _mark(self, record: RequestRecord, mark: dict[str, Any]) -> Item | None:
        """None where it is marked; the item as it is where it has changed meanwhile."""
        payload = {
            "TableName": self._ledger,
            "Key": request_key(record.request_id),
            "UpdateExpression": "SET folded = :mark",
            "ConditionExpression": "#status = :status",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":mark": mark, ":status": {"S": record.status}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            await self._aws.call("UpdateItem", payload)
        except ConditionalCheckFailed as error:
            if error.item is None:
                return None  # it has expired since: it counted, like those that expire an instant later
            return error.item
        return None

    async def _requests(self, segment: int, first_day: date, last_day: date) -> AsyncIterator[Sequence[Item]]:
        """Pages of request items of these days that have left `open`."""
        scan: dict[str, Any] = {
            "TableName": self._ledger,
            "ConsistentRead": True,
            "Segment": segment,
            "TotalSegments": _SEGMENTS,
            "FilterExpression": "begins_with(pk, :request) AND #at BETWEEN :first AND :last AND #status <> :open",
            "ExpressionAttributeNames": {"#at": "at", "#status": "status"},
            "ExpressionAttributeValues": {
                ":request": {"S": "req#"},
                ":open": {"S": "open"},
                ":first": {"N": str(_begins_ms(first_day))},
                ":last": {"N": str(_begins_ms(last_day + timedelta(days=1)) - 1)},
            },
        }
        async for page in self._pages("Scan", scan):
            yield page

    async def _rows(self, first_day: date, last_day: date) -> AsyncIterator[Row]:
        for group in GROUPS:
            query: dict[str, Any] = {
                "TableName": self._usage,
                "ConsistentRead": True,
                "KeyConditionExpression": "pk = :group AND sk BETWEEN :first AND :last",
                "ProjectionExpression": "pk, sk",
                "ExpressionAttributeValues": {
                    ":group": {"S": group_key(group)},
                    ":first": {"S": first_day.isoformat()},
                    ":last": {"S": f"{last_day.isoformat()}$"},
                },
            }
            async for page in self._pages("Query", query):
                for item in page:
                    yield row_of(item)

    async def _pages(self, operation: str, payload: dict[str, Any]) -> AsyncIterator[Sequence[Item]]:
        while True:
            answer = await self._aws.call(operation, payload)
            yield answer.get("Items", ())
            if "LastEvaluatedKey" not in answer:
                return
            payload["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _put(self, row: Row, totals: Totals) -> dict[str, Any]:
        numbers = {name: {"N": value} for name, value in encode_totals(totals).items()}
        return {"Put": {"TableName": self._usage, "Item": {**row_key(row), **numbers}}}

    def _delete(self, row: Row) -> dict[str, Any]:
        return {"Delete": {"TableName": self._usage, "Key": row_key(row)}}

    async def _write(self, owner: str, actions: Sequence[dict[str, Any]]) -> None:
        """Each transaction holds the proof that nobody has taken over, so that no old total is written late."""
        still_ours = {
            "ConditionCheck": {
                "TableName": self._usage,
                "Key": REBUILD_KEY,
                "ConditionExpression": "#owner = :owner",
                "ExpressionAttributeNames": {"#owner": "owner"},
                "ExpressionAttributeValues": {":owner": {"S": owner}},
            }
        }
        for some in _batches(actions, _WRITES):
            await self._transact([still_ours, *some])

    async def _transact(self, actions: Sequence[dict[str, Any]]) -> None:
        """Folds that find the totals being rebuilt are in the way for a moment, so it is tried again."""
        for attempt in range(_TRIES):
            try:
                await self._aws.call("TransactWriteItems", {"TransactItems": actions})
            except TransactionCanceled as error:
                if error.reasons and error.reasons[0].get("Code") == "ConditionalCheckFailed":
                    raise Unavailable("Another rebuild of the totals has taken over.") from error
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(random.random() * 0.1 * 2**attempt)  # noqa: S311 - jitter, no secret
            else:
                return

    async def _finish(self, owner: str) -> None:
        payload = {
            "TableName": self._usage,
            "Key": REBUILD_KEY,
            "ConditionExpression": "#owner = :owner",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":owner": {"S": owner}},
        }
        with suppress(ConditionalCheckFailed):  # an attempt whose answer was lost has removed it
            await self._aws.call("DeleteItem", payload)


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _begins_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
