"""`ports.TotalsStore` and `ports.AlertMarks` in dictionaries: the simplest things that keep the contracts."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import date
from itertools import count

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.domain.ports import Folded
from llm_gateway.domain.sums import Sum
from llm_gateway.domain.totals import (
    GROUPS,
    Dimension,
    Group,
    Row,
    Totals,
    call_totals,
    day_of,
    difference,
    rows_of,
)
from llm_gateway.domain.usage import RequestRecord


class MemoryRows:
    """`ports.TotalsReader` in a dictionary. Whoever adds to it sees to it that each request counts once."""

    def __init__(self) -> None:
        self._rows: dict[Row, Totals] = {}

    def add(self, record: RequestRecord, before: RequestRecord | None) -> None:
        """Counts `record`, which has counted as `before` so far."""
        for row, change in difference(record, before).items():
            self._rows[row] = self._rows.get(row, Totals()) + change

    def add_all(self, records: Iterable[RequestRecord]) -> None:
        """Counts records that have not counted: summed before they are added, which is several times as quick."""
        sums: defaultdict[Row, Sum] = defaultdict(Sum)
        for record in records:
            totals = call_totals(record)
            for row in rows_of(record):
                sums[row].add(totals)
        for row, summed in sums.items():
            self._rows[row] = self._rows.get(row, Totals()) + summed.totals()

    def forget(self, first_day: date, last_day: date) -> None:
        self._rows = {row: totals for row, totals in self._rows.items() if not first_day <= row.day <= last_day}

    async def read(
        self, group: Group, first_day: date, last_day: date, where: Mapping[Dimension, str | None] | None = None
    ) -> AsyncIterator[tuple[Row, Totals]]:
        if group not in GROUPS:
            raise ValueError(f"no totals are kept by {' and '.join(group)}")
        wanted = {group.index(dimension): value for dimension, value in (where or {}).items()}
        rows = [row for row in self._rows if row.group == group and first_day <= row.day <= last_day]
        for row in sorted(rows, key=lambda row: (row.day, [value or "" for value in row.values])):
            if self._rows[row] and all(row.values[index] == value for index, value in wanted.items()):
                yield row, self._rows[row]


class MemoryTotals(MemoryRows):
    """Nothing in it awaits, so every operation is atomic in its event loop."""

    def __init__(self, ledger: MemoryLedger) -> None:
        super().__init__()
        self._ledger = ledger
        self._counted: dict[str, RequestRecord] = {}

    async def fold(self, records: Sequence[RequestRecord]) -> Folded:
        counted = []
        for request_id in dict.fromkeys(record.request_id for record in records):
            record, before = self._ledger.records.get(request_id), self._counted.get(request_id)
            if record is None or record.status == "open" or (before is not None and before.status == record.status):
                continue
            self._count(record, before)
            counted.append(record)
        return Folded(tuple(counted))

    async def rebuild(self, first_day: date, last_day: date) -> int:
        self.forget(first_day, last_day)
        records = [
            record
            for record in self._ledger.records.values()
            if record.status != "open" and first_day <= day_of(record.at_ms) <= last_day
        ]
        for record in records:
            self._count(record, None)
        return len(records)

    def _count(self, record: RequestRecord, before: RequestRecord | None) -> None:
        self._counted[record.request_id] = record
        self.add(record, before)


class MemoryAlerts:
    """`ports.AlertMarks` in a dictionary: of the token and the end of each claim, or None once it is sent."""

    def __init__(self) -> None:
        self._marks: dict[str, tuple[str, int] | None] = {}
        self._tokens = count()

    async def claim(self, name: str, now: int, until: int) -> str | None:
        held = self._marks.get(name, ("", now - 1))
        if held is None or held[1] >= now:
            return None
        token = str(next(self._tokens))
        self._marks[name] = token, until
        return token

    async def release(self, name: str, token: str) -> None:
        held = self._marks.get(name)
        if held is not None and held[0] == token:
            del self._marks[name]

    async def sent(self, name: str, now: int) -> None:
        del now
        self._marks[name] = None
