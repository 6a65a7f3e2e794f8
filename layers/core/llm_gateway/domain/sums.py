"""Adding up many totals quickly: `Totals` are frozen, and a month of them is thousands."""

from collections import defaultdict
from decimal import Context, Decimal
from operator import add, attrgetter
from typing import Any, Final

from llm_gateway.domain.totals import COUNTS, Histogram, Totals

_counts = attrgetter(*COUNTS)
_EXACT: Final = Context(prec=60)


class Sum:
    """The same as `Totals` added with `+`, exactly."""

    __slots__ = ("_cost", "_counts", "_latency", "_ttft")

    def __init__(self) -> None:
        self._counts: Any = (0,) * len(COUNTS)
        self._cost = Decimal(0)
        self._latency: defaultdict[int, int] = defaultdict(int)
        self._ttft: defaultdict[int, int] = defaultdict(int)

    def add(self, totals: Totals) -> None:
        self._counts = tuple(map(add, self._counts, _counts(totals)))
        self._cost = _EXACT.add(self._cost, totals.cost_usd)
        for bound, count in totals.latency.counts.items():
            self._latency[bound] += count
        for bound, count in totals.ttft.counts.items():
            self._ttft[bound] += count

    def totals(self) -> Totals:
        return Totals(
            **dict(zip(COUNTS, self._counts, strict=True)),
            cost_usd=self._cost,
            latency=_histogram(self._latency),
            ttft=_histogram(self._ttft),
        )


def _histogram(counts: dict[int, int]) -> Histogram:
    return Histogram({bound: count for bound, count in counts.items() if count})
