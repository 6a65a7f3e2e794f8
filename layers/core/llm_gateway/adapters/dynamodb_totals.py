"""Daily totals in DynamoDB, folded exactly once: docs/ledger.md tells how.

Totals and the marks of the requests they count are written in one transaction, whose conditions are the marks: what has
been counted before cancels it, and the reasons hold the items as they are, so nothing is read in the ordinary case.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from llm_gateway.adapters.attributes import Item, request_key
from llm_gateway.adapters.aws_json import AwsError, AwsJsonClient, TransactionCanceled
from llm_gateway.adapters.total_attributes import (
    addition,
    day_prefix,
    decode_totals,
    group_key,
    marking,
    row_key,
    row_of,
    uncounted,
)
from llm_gateway.domain.ports import Folded
from llm_gateway.domain.totals import Dimension, Group, Row, Totals, difference
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import Unavailable

REBUILD_KEY: Final[Item] = {"pk": {"S": "rebuild"}, "sk": {"S": "rebuild"}}
"""An item that is there while the totals are being rebuilt; every fold checks that it is not."""
MALFORMED: Final = (KeyError, ValueError, TypeError, AttributeError, ArithmeticError)
"""What decoding raises for an item that is no record."""
_MOST_ACTIONS: Final = 100
_TRIES: Final = 8
_BACKOFF_BASE_S: Final = 0.05
_BACKOFF_CAP_S: Final = 2.0
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """A request to count, where `before` (its earlier state) counts already."""

    record: RequestRecord
    before: RequestRecord | None = None


@dataclass(slots=True)
class _Progress:
    """A fold under way. `tries` are the transactions that were cancelled by others since the last that was not."""

    waiting: deque[Subject]
    counted: list[RequestRecord]
    refused: list[str]
    largest: int = _MOST_ACTIONS
    tries: int = 0


class DynamoDBTotals:
    """`ports.TotalsStore` on the Usage table, with the marks in the Ledger. `DynamoDBRebuild` does the rebuilding."""

    def __init__(
        self,
        aws: AwsJsonClient,
        usage_table: str,
        ledger_table: str,
        rebuild: Callable[[date, date], Awaitable[int]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._aws = aws
        self._usage = usage_table
        self._ledger = ledger_table
        self._rebuild = rebuild
        self._sleep = sleep
        self._jitter = jitter

    async def fold(self, records: Sequence[RequestRecord]) -> Folded:
        progress = _Progress(deque(map(Subject, _latest(records))), [], [])
        while progress.waiting:
            batch, changes = _packed(progress.waiting, progress.largest)
            try:
                actions = self._actions(batch, changes)
            except ValueError:  # a cost of more digits than a number has
                _halve(progress, batch)
                continue
            try:
                await self._aws.call("TransactWriteItems", {"TransactItems": actions})
            except TransactionCanceled as error:
                await self._reconsider(progress, batch, error)
            except AwsError as error:
                if error.aws_code != "ValidationException":
                    raise
                _halve(progress, batch)
            else:
                progress.counted += [subject.record for subject in batch]
                progress.largest, progress.tries = _MOST_ACTIONS, 0
        return Folded(tuple(progress.counted), tuple(progress.refused))

    async def read(
        self, group: Group, first_day: date, last_day: date, where: Mapping[Dimension, str | None] | None = None
    ) -> AsyncIterator[tuple[Row, Totals]]:
        wanted = {group.index(dimension): value for dimension, value in (where or {}).items()}
        group_key(group)
        ranges = _ranges(first_day, last_day, wanted)
        async for item in self._items(group, ranges):
            row, totals = row_of(item), decode_totals(item)
            if totals and all(row.values[index] == value for index, value in wanted.items()):
                yield row, totals

    async def rebuild(self, first_day: date, last_day: date) -> int:
        if self._rebuild is None:
            raise Unavailable("The totals cannot be rebuilt from here.")
        return await self._rebuild(first_day, last_day)

    def _actions(self, batch: Sequence[Subject], changes: Mapping[Row, Totals]) -> list[dict[str, Any]]:
        """The marks first, in order: the reasons of a cancelled transaction are told by their place."""
        marks = [
            {
                "Update": {
                    "TableName": self._ledger,
                    "Key": request_key(subject.record.request_id),
                    **marking(subject.record, subject.before),
                }
            }
            for subject in batch
        ]
        totals = [
            {"Update": {"TableName": self._usage, "Key": row_key(row), **addition(change)}}
            for row, change in changes.items()
        ]
        nobody_rebuilds = {
            "TableName": self._usage,
            "Key": REBUILD_KEY,
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        return [*marks, {"ConditionCheck": nobody_rebuilds}, *totals]

    async def _reconsider(self, progress: _Progress, batch: Sequence[Subject], error: TransactionCanceled) -> None:
        """After a transaction that did nothing: what is to be counted of each request of it, if anything."""
        codes = [reason.get("Code") for reason in error.reasons]
        if len(codes) <= len(batch):
            raise error
        if codes[len(batch)] == "ConditionalCheckFailed":
            raise Unavailable("The totals are being rebuilt.", code="totals_rebuilding")
        failed = "ConditionalCheckFailed" in codes
        if "ValidationError" in codes:
            _halve(progress, batch)
            return
        if not failed:
            progress.tries += 1
            if progress.tries >= _TRIES:
                raise Unavailable("The totals are written by too many at once.") from error
            await self._sleep(self._jitter() * min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**progress.tries))
        again = []
        for subject, code, reason in zip(batch, codes, error.reasons, strict=False):
            if code != "ConditionalCheckFailed":
                again.append(subject)
                continue
            try:
                found = await self._as_it_is(subject.record.request_id, reason.get("Item"))
            except MALFORMED:
                progress.refused.append(subject.record.request_id)
                continue
            again += [] if found is None else [found]
        progress.waiting.extendleft(reversed(again))

    async def _as_it_is(self, request_id: str, item: Item | None) -> Subject | None:
        """What is to be counted of a request. `item` is its item; an engine may have left it out of its reasons."""
        if item is None:
            answer = await self._aws.call(
                "GetItem", {"TableName": self._ledger, "Key": request_key(request_id), "ConsistentRead": True}
            )
            item = answer.get("Item")
        found = None if item is None else uncounted(item)
        return None if found is None else Subject(*found)

    async def _items(self, group: Group, ranges: Sequence[tuple[str, str]]) -> AsyncIterator[Item]:
        """Of all ranges in their order; a few are read at once."""
        for first in range(0, len(ranges), _AT_ONCE):
            some = ranges[first : first + _AT_ONCE]
            if len(some) == 1:
                async for item in self._pages(group, *some[0]):
                    yield item
                continue
            for items in await asyncio.gather(*(self._whole(group, *one) for one in some)):
                for item in items:
                    yield item

    async def _whole(self, group: Group, first: str, last: str) -> list[Item]:
        return [item async for item in self._pages(group, first, last)]

    async def _pages(self, group: Group, first: str, last: str) -> AsyncIterator[Item]:
        query: dict[str, Any] = {
            "TableName": self._usage,
            "KeyConditionExpression": "pk = :group AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": {
                ":group": {"S": group_key(group)},
                ":first": {"S": first},
                ":last": {"S": last},
            },
        }
        while True:
            answer = await self._aws.call("Query", query)
            for item in answer.get("Items", ()):
                yield item
            if "LastEvaluatedKey" not in answer:
                return
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _latest(records: Sequence[RequestRecord]) -> list[RequestRecord]:
    """One of each request, since a transaction may touch an item once; the truth comes before an abandoned state."""
    found: dict[str, RequestRecord] = {}
    for record in records:
        held = found.get(record.request_id)
        if record.status != "open" and (held is None or held.status == "abandoned"):
            found[record.request_id] = record
    return list(found.values())


def _packed(waiting: deque[Subject], largest: int) -> tuple[list[Subject], dict[Row, Totals]]:
    """Takes as many as one transaction has room for, at least one, with what they change together."""
    batch: list[Subject] = []
    changes: dict[Row, Totals] = {}
    while waiting:
        given = difference(waiting[0].record, waiting[0].before)
        rows = len(changes.keys() | given.keys())
        if batch and len(batch) + 2 + rows > largest:
            break
        for row, change in given.items():
            changes[row] = changes[row] + change if row in changes else change
        batch.append(waiting.popleft())
    return batch, {row: change for row, change in changes.items() if change}


def _halve(progress: _Progress, batch: Sequence[Subject]) -> None:
    """A transaction that the store will never take: the fault is in one half, until there is but one."""
    if len(batch) == 1:
        progress.refused.append(batch[0].record.request_id)
        progress.largest = _MOST_ACTIONS
        return
    progress.waiting.extendleft(reversed(batch))
    actions = len(batch) + 1 + len({row for subject in batch for row in difference(subject.record, subject.before)})
    progress.largest = min(progress.largest, actions) // 2


def _ranges(first_day: date, last_day: date, wanted: Mapping[int, str | None]) -> list[tuple[str, str]]:
    """First and last sort key. Of one value there is one range a day; of all, one for all days."""
    after = "$"  # the character after "#", which ends a day and a value
    if 0 not in wanted:
        return [(first_day.isoformat(), f"{last_day.isoformat()}{after}")] if first_day <= last_day else []
    days = (first_day + timedelta(days=number) for number in range((last_day - first_day).days + 1))
    prefixes = (day_prefix(day, wanted[0]) for day in days)
    return [(prefix, f"{prefix}{after}") for prefix in prefixes]
