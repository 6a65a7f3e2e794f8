"""Usage as it is asked for: rows of totals, and lists of requests. The routes and the library stand on it."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.listing import Position, Wanted
from llm_gateway.domain.ports import Ledger, RequestIndex, TotalsReader
from llm_gateway.domain.sums import Sum
from llm_gateway.domain.totals import Dimension, Totals
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import PermissionDenied
from llm_gateway.pipeline.page_tokens import PageTokens, read_moment
from llm_gateway.pipeline.usage_question import Days, Plan, UsageQuestion, may_see, narrowed, plan

Place = tuple[str, tuple[str | None, ...]]
"""Where a row stands in the order of its answer: its day (empty without days) and its values."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What some calls came to. `day` is None where rows are not by day; a value is None where calls have none."""

    day: date | None
    values: Mapping[Dimension, str | None]
    totals: Totals

    @property
    def place(self) -> Place:
        return "" if self.day is None else self.day.isoformat(), tuple(self.values.values())


@dataclass(frozen=True, slots=True)
class UsagePage:
    rows: Sequence[UsageRow]
    next: str | None


@dataclass(frozen=True, slots=True)
class RequestList:
    """Newest first. A page may be short, even empty, and have a next one: what is read for it is bounded."""

    records: Sequence[RequestRecord]
    next: str | None


class UsageQueries:
    """`viewer` is whose view it is: a caller sees its own, a team-admin the team's, an admin, and None, all.

    Every method raises `InvalidRequest`, `PermissionDenied` and `Unavailable`.
    """

    def __init__(self, totals: TotalsReader, requests: RequestIndex, ledger: Ledger) -> None:
        self._totals = totals
        self._requests = requests
        self._ledger = ledger

    def rows(self, question: UsageQuestion, viewer: VirtualKey | None) -> AsyncIterator[UsageRow]:
        """All rows, by day and then by values. By day they come as they are read, a day's at once."""
        return usage_rows(self._totals, question, viewer)

    async def page(
        self, question: UsageQuestion, viewer: VirtualKey | None, limit: int, token: str | None
    ) -> UsagePage:
        """At most `limit` rows, from where `token` says."""
        planned = plan(question, viewer)
        tokens, about = _tokens(viewer), _about(planned)
        after = None if token is None else tokens.open(about, token, partial(_place, planned))
        if after is not None and planned.by_day:
            planned = replace(planned, days=Days(date.fromisoformat(after[0]), planned.days.last))
        found: list[UsageRow] = []
        async for row in _read(self._totals, planned):
            if after is not None and _order(row.place) <= _order(after):
                continue
            if len(found) == limit:
                return UsagePage(found, tokens.seal(about, found[-1].place))
            found.append(row)
        return UsagePage(found, None)

    async def requests(self, wanted: Wanted, viewer: VirtualKey | None, limit: int, token: str | None) -> RequestList:
        """At most `limit` requests that have ended, from where `token` says."""
        chosen = narrowed(wanted, viewer)
        tokens, about = _tokens(viewer), ["requests", chosen.first_ms, chosen.until_ms, list(chosen.filters())]
        after = None if token is None else Position(*tokens.open(about, token, read_moment))
        page = await self._requests.page(chosen, after, limit)
        further = None if page.after is None else tokens.seal(about, [page.after.at_ms, page.after.request_id])
        # No team is nothing that requests can be chosen by.
        records = [record for record in page.records if viewer is None or may_see(viewer, record)]
        return RequestList(records, further)

    async def request(self, request_id: str, viewer: VirtualKey) -> RequestRecord | None:
        """None also where the viewer may not see it: what one may not see is not there."""
        record = await self._ledger.get(request_id)
        return record if record is not None and may_see(viewer, record) else None


def usage_rows(totals: TotalsReader, question: UsageQuestion, viewer: VirtualKey | None) -> AsyncIterator[UsageRow]:
    """All rows, by day and then by values. Raises as `UsageQueries` does."""
    return _read(totals, plan(question, viewer))


async def _read(totals: TotalsReader, planned: Plan) -> AsyncIterator[UsageRow]:
    await _refuse_a_mix(totals, planned)
    places = [planned.group.index(name) if name in planned.group else None for name in planned.columns]
    sums: dict[tuple[str | None, ...], Sum] = {}
    current: date | None = None
    async for row, kept in totals.read(planned.group, planned.days.first, planned.days.last, planned.where):
        if planned.by_day and row.day != current:
            for done in _summed(current, planned, sums):
                yield done
            sums, current = {}, row.day
        # None is the organisation, which has no name.
        values = tuple(None if place is None else row.values[place] for place in places)
        if values not in sums:
            sums[values] = Sum()
        sums[values].add(kept)
    for done in _summed(current, planned, sums):
        yield done


async def _refuse_a_mix(totals: TotalsReader, planned: Plan) -> None:
    """Raises `PermissionDenied` where rows would hold what a key of the same name spent in another team."""
    if planned.wholly is None:
        return
    days = planned.days
    name: dict[Dimension, str | None] = {"key": planned.wholly["key"]}
    # In this order: what is counted meanwhile is in the second reading at least, and looks like nobody else's.
    of_name = {row.day: kept.calls async for row, kept in totals.read(("key",), days.first, days.last, name)}
    own: dict[date, int] = {}
    async for row, kept in totals.read(("team", "key"), days.first, days.last, planned.wholly):
        own[row.day] = kept.calls
    if mixed := [day for day, calls in of_name.items() if calls > own.get(day, 0)]:
        raise PermissionDenied(
            f"Until {max(mixed)} a key of this name was another team's too: usage by `model` can be seen from the day "
            "after.",
            param="from",
        )


def _summed(day: date | None, planned: Plan, sums: Mapping[tuple[str | None, ...], Sum]) -> Iterator[UsageRow]:
    for values in sorted(sums, key=_by_value):
        yield UsageRow(day, dict(zip(planned.columns, values, strict=True)), sums[values].totals())


def _by_value(values: Sequence[str | None]) -> list[tuple[bool, str]]:
    """What has no value comes first."""
    return [(value is not None, value or "") for value in values]


def _order(place: Place) -> tuple[str, list[tuple[bool, str]]]:
    return place[0], _by_value(place[1])


def _place(planned: Plan, position: Any) -> Place:
    """Raises `ValueError` for what is no row's place in such an answer."""
    match position:
        case [str(day), list(values)] if len(values) == len(planned.columns):
            pass
        case _:
            raise ValueError("no place")
    if planned.by_day != bool(day):
        raise ValueError("a day where there are none, or none where there are")
    if day and not planned.days.first <= date.fromisoformat(day) <= planned.days.last:
        raise ValueError("another day")
    if not all(value is None or isinstance(value, str) for value in values):
        raise ValueError("no values")
    return day, tuple(values)


def _tokens(viewer: VirtualKey | None) -> PageTokens:
    return PageTokens("" if viewer is None else viewer.key_hash)


def _about(planned: Plan) -> list[object]:
    days = [planned.days.first.isoformat(), planned.days.last.isoformat()]
    return ["totals", days, list(planned.columns), planned.by_day, sorted(planned.where.items())]
