"""The totals of what one gateway in this process has settled, whatever its ledger is."""

from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import TYPE_CHECKING

from llm_gateway.domain.usage import RequestRecord

if TYPE_CHECKING:
    from llm_gateway.adapters.memory_totals import MemoryRows
    from llm_gateway.domain.totals import Dimension, Group, Row, Totals

_MOST_WAITING = 64


class SettledCalls:
    """`ports.TotalsReader`. A call settles once, so each record that is added counts.

    Records wait until somebody asks, or there are a few of them: totals are then kept, and the records are not.
    """

    def __init__(self) -> None:
        self._waiting: list[RequestRecord] = []
        self._rows: MemoryRows | None = None

    def add(self, record: RequestRecord) -> None:
        self._waiting.append(record)
        if len(self._waiting) >= _MOST_WAITING:
            self._fold()

    def read(
        self, group: "Group", first_day: date, last_day: date, where: "Mapping[Dimension, str | None] | None" = None
    ) -> "AsyncIterator[tuple[Row, Totals]]":
        return self._fold().read(group, first_day, last_day, where)

    def _fold(self) -> "MemoryRows":
        if self._rows is None:
            from llm_gateway.adapters.memory_totals import MemoryRows  # noqa: PLC0415 - importing the library is quick

            self._rows = MemoryRows()
        waiting, self._waiting = self._waiting, []
        self._rows.add_all(waiting)
        return self._rows
