"""What a gateway in this process has spent so far: the same questions and sums as behind `GET /usage`."""

from collections.abc import Sequence
from datetime import date

from llm_gateway.domain.ports import TotalsReader
from llm_gateway.domain.totals import Dimension, Totals
from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.usage_queries import UsageRow, usage_rows
from llm_gateway.pipeline.usage_question import DAY, Days, UsageQuestion


class GatewayUsage:
    """Of the calls that this gateway has settled; a stream counts once it is over.

    `first` and `last` are days of UTC, both included; left out they are the first and the last there are. Costs are
    exact Decimals, in US dollars. Raises `InvalidRequest` for days in the wrong order.
    """

    def __init__(self, totals: TotalsReader) -> None:
        self._totals = totals

    async def all(self, *, team_id: str | None = None, first: date | None = None, last: date | None = None) -> Totals:
        """Everything, or everything of a team, in one sum."""
        rows = await self._rows((), team_id, first, last)
        return rows[0].totals if rows else Totals()

    async def by_date(
        self, *, team_id: str | None = None, first: date | None = None, last: date | None = None
    ) -> Sequence[UsageRow]:
        """A row (`day`, `totals`) for each day with calls, oldest first."""
        return await self._rows((DAY,), team_id, first, last)

    async def by_provider(self, *, first: date | None = None, last: date | None = None) -> Sequence[UsageRow]:
        """A row (`values["provider"]`, `totals`) for each provider that was called, by name."""
        return await self._rows(("provider",), None, first, last)

    async def _rows(
        self, group_by: tuple[str, ...], team_id: str | None, first: date | None, last: date | None
    ) -> Sequence[UsageRow]:
        days = Days(first or date.min, last or date.max)
        if days.first > days.last:
            raise InvalidRequest(f"`first` ({first}) is after `last` ({last}).", param="first")
        where: dict[Dimension, str] = {} if team_id is None else {"team": team_id}
        return [row async for row in usage_rows(self._totals, UsageQuestion(days, group_by, where), None)]
