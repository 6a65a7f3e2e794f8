"""What a way of choosing comes to, and how it is shown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.routes.play import Got
from tests.routes.world import VENDORS

_ANSWERED = "content: seconds to the first content; whole: to the last. Of the requests that were answered."


@dataclass(frozen=True, slots=True)
class Summary:
    """Seconds, US dollars, shares of 1. Times are those of requests that were answered."""

    name: str
    content_s: tuple[float, float, float]
    """p50, p95 and p99 of the time to the first content."""
    whole_s: tuple[float, float, float]
    cost: Decimal
    """Of 1,000 requests."""
    given_up_whole: Decimal
    """Of 1,000: what would come on top, had every provider written to its end what was given up."""
    errors: float
    calls: float
    """Of one request."""
    hedged: float
    shares: Mapping[str, float]
    """Of the answers, by provider."""


def summary(name: str, all_got: Sequence[Got]) -> Summary:
    answered = [got for got in all_got if got.whole_s is not None]
    return Summary(
        name,
        _percentiles([got.content_s for got in answered if got.content_s is not None]),
        _percentiles([got.whole_s for got in answered if got.whole_s is not None]),
        sum((got.cost for got in all_got), Decimal(0)) * 1000 / len(all_got),
        sum((got.given_up_whole for got in all_got), Decimal(0)) * 1000 / len(all_got),
        1 - len(answered) / len(all_got),
        sum(got.calls for got in all_got) / len(all_got),
        sum(got.hedged for got in all_got) / len(all_got),
        {
            vendor.deployment.provider: sum(got.by == vendor.deployment.provider for got in answered) / len(answered)
            for vendor in VENDORS
        },
    )


def strategies_table(summaries: Sequence[Summary]) -> Table:
    table = _table("Who is chosen, and what comes of it", times=("content", "whole"))
    _add_columns(table, "$ per\n1,000", "errors", "calls", *(f"{name}\n%" for name in summaries[0].shares))
    for each in summaries:
        times = [*map(_seconds, each.content_s), *map(_seconds, each.whole_s)]
        shares = [f"{share:.0%}".rstrip("%") for share in each.shares.values()]
        table.add_row(each.name, *times, f"{each.cost:.3f}", f"{each.errors:.2%}", f"{each.calls:.3f}", *shares)
    return table


def hedging_table(pairs: Sequence[tuple[Summary, Summary]]) -> Table:
    """Of each strategy, without hedging and with it."""
    table = _table("A second deployment after the 95th percentile of the first one's times", times=("content",))
    _add_columns(table, "p99\nis", "hedged", "$ per\n1,000", "extra\ncost", "if all is\nwritten out")
    for off, on in pairs:
        table.add_row(off.name, *map(_seconds, off.content_s), "", "", f"{off.cost:.3f}", "", "")
        table.add_row(
            "  hedged",
            *map(_seconds, on.content_s),
            f"{p99_factor(off, on):.2f} of it",
            f"{on.hedged:.1%}",
            f"{on.cost:.3f}",
            f"{extra_cost(off, on):+.1%}",
            f"{extra_cost(off, on, written_out=True):+.1%}",
        )
    return table


def p99_factor(off: Summary, on: Summary) -> float:
    """Of the time to the first content."""
    return on.content_s[2] / off.content_s[2]


def extra_cost(off: Summary, on: Summary, *, written_out: bool = False) -> float:
    """`written_out`: where providers write, and bill, to its end what was given up."""
    cost = on.cost + (on.given_up_whole if written_out else 0)
    return float(cost / off.cost - 1)


def _table(title: str, times: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", caption=_ANSWERED, caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("strategy", no_wrap=True)
    _add_columns(table, *(f"{time}\n{percentile}" for time in times for percentile in ("p50", "p95", "p99")))
    return table


def _add_columns(table: Table, *names: str) -> None:
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)


def _seconds(value: float) -> str:
    return f"{value:.2f}"


def _percentiles(values: list[float]) -> tuple[float, float, float]:
    """p50, p95, p99, each the least value that so many do not exceed."""
    ascending = sorted(values)
    p50, p95, p99 = (ascending[math.ceil(share * len(ascending)) - 1] for share in (0.5, 0.95, 0.99))
    return p50, p95, p99
