"""Usage read from the ledger's own requests, at every question: for a laptop, whose ledger is small.

The embedded AWS copies its tables, history included, for every transaction, so folding there would cost more with each
request. What is added up is the same as what the rollup folds (`domain.totals`), and it is never behind.

An item costs the embedded AWS some 3 ms to give out, and while it does nobody else is served. So requests that have
ended are remembered here, and only those that are new are asked for, a few at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

from llm_gateway.adapters.attributes import decode_record
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_totals import MemoryRows
from llm_gateway.domain.listing import Position, RequestPage, Wanted
from llm_gateway.domain.totals import Dimension, Group, Row, Totals, day_of
from llm_gateway.domain.usage import RequestRecord

_NAMES_AT_ONCE: Final = 500
_ITEMS_AT_ONCE: Final = 50
_FINAL: Final = frozenset({"settled", "failed"})


class ScannedUsage:
    """`ports.TotalsReader` and `ports.RequestIndex` on the Ledger table alone."""

    def __init__(self, aws: AwsJsonClient, ledger_table: str) -> None:
        self._aws = aws
        self._table = ledger_table
        self._ended = MemoryLedger()
        self._one_at_a_time = asyncio.Lock()

    async def read(
        self, group: Group, first_day: date, last_day: date, where: Mapping[Dimension, str | None] | None = None
    ) -> AsyncIterator[tuple[Row, Totals]]:
        """Raises `errors.Unavailable`."""
        await self._catch_up()
        rows = MemoryRows()
        rows.add_all([each for each in self._ended.records.values() if first_day <= day_of(each.at_ms) <= last_day])
        async for row in rows.read(group, first_day, last_day, where):
            yield row

    async def page(self, wanted: Wanted, after: Position | None, limit: int) -> RequestPage:
        await self._catch_up()
        return await self._ended.page(wanted, after, limit)

    async def every(self, first_ms: int, until_ms: int) -> AsyncIterator[Sequence[RequestRecord]]:
        await self._catch_up()
        async for batch in self._ended.every(first_ms, until_ms):
            yield batch

    async def _catch_up(self) -> None:
        """Learns of the requests that have ended since the last question, and forgets those that have expired."""
        async with self._one_at_a_time:
            known = self._ended.records
            there = {name.removeprefix("req#"): name async for name in self._names()}
            for gone in known.keys() - there.keys():
                del known[gone]
            new = [there[each] for each in there if each not in known or known[each].status not in _FINAL]
            for start in range(0, len(new), _ITEMS_AT_ONCE):
                for record in await self._records(new[start : start + _ITEMS_AT_ONCE]):
                    known[record.request_id] = record

    async def _names(self) -> AsyncIterator[str]:
        """Of the requests that have ended."""
        scan: dict[str, Any] = {
            "TableName": self._table,
            "ProjectionExpression": "pk, #status",
            "ExpressionAttributeNames": {"#status": "status"},
            "Limit": _NAMES_AT_ONCE,
        }
        while True:
            page = await self._aws.call("Scan", scan)
            for item in page["Items"]:
                if item["pk"]["S"].startswith("req#") and item.get("status", {}).get("S") != "open":
                    yield item["pk"]["S"]
            if "LastEvaluatedKey" not in page:
                return
            scan["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def _records(self, names: Iterable[str]) -> list[RequestRecord]:
        asked: dict[str, Any] = {self._table: {"Keys": [{"pk": {"S": name}} for name in names]}}
        found: list[RequestRecord] = []
        while asked:
            answer = await self._aws.call("BatchGetItem", {"RequestItems": asked})
            found += [decode_record(item) for item in answer["Responses"].get(self._table, ())]
            asked = answer.get("UnprocessedKeys", {})
        return found
