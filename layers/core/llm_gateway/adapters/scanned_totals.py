"""Totals read from the ledger's own requests, by a scan at every question: for a laptop, whose ledger is small.

The embedded AWS copies its tables, history included, for every transaction, so folding there would cost more with each
request. What is added up is the same as what the rollup folds (`domain.totals`), and it is never behind.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any

from llm_gateway.adapters.attributes import decode_record
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.memory_totals import MemoryRows
from llm_gateway.domain.totals import Dimension, Group, Row, Totals, day_of
from llm_gateway.domain.usage import RequestRecord


class ScannedTotals:
    """`ports.TotalsReader` on the Ledger table alone."""

    def __init__(self, aws: AwsJsonClient, ledger_table: str) -> None:
        self._aws = aws
        self._table = ledger_table

    async def read(
        self, group: Group, first_day: date, last_day: date, where: Mapping[Dimension, str | None] | None = None
    ) -> AsyncIterator[tuple[Row, Totals]]:
        """Raises `errors.Unavailable`."""
        rows = MemoryRows()
        rows.add_all([record async for record in self._ended(first_day, last_day)])
        async for row in rows.read(group, first_day, last_day, where):
            yield row

    async def _ended(self, first_day: date, last_day: date) -> AsyncIterator[RequestRecord]:
        scan: dict[str, Any] = {
            "TableName": self._table,
            "FilterExpression": "begins_with(pk, :request) AND #status <> :open",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":request": {"S": "req#"}, ":open": {"S": "open"}},
        }
        while True:
            page = await self._aws.call("Scan", scan)
            for item in page["Items"]:
                record = decode_record(item)
                if first_day <= day_of(record.at_ms) <= last_day:
                    yield record
            if "LastEvaluatedKey" not in page:
                return
            scan["ExclusiveStartKey"] = page["LastEvaluatedKey"]
