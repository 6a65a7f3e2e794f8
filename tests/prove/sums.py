"""After the overspend proof and its sweep: the totals, the requests' items and the counters, one beside the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from rich.table import Table

from llm_gateway.domain.limits import Scope
from tests.prove.books import open_books
from tests.prove.fault_table import cost_of, disagreements
from tests.prove.scenarios import SCENARIOS


@dataclass(frozen=True, slots=True)
class Sums:
    """Of one scope. `calls` are by the totals, `requests` by the items."""

    scope: Scope
    calls: int
    requests: int
    totals: Decimal
    items: Decimal
    counters: Decimal
    faults: tuple[str, ...]


async def compare(store_url: str) -> list[Sums]:
    found = []
    async with open_books(store_url) as books:
        for scenario in SCENARIOS:
            records = await books.records(scenario.name)
            for scope in scenario.scopes:
                totals, (spent, _) = await books.totals_of(scope), await books.money(scope)
                faults = tuple(await disagreements(books, scope, records))
                found.append(Sums(scope, totals.calls, len(records), totals.cost_usd, cost_of(records), spent, faults))
    return found


def sums_table(found: Sequence[Sums]) -> Table:
    table = Table(title="The totals, folded from the stream with every batch sent twice", title_justify="left")
    table.add_column("scope", no_wrap=True)
    for name in ("calls", "requests", "totals", "items", "counters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for each in found:
        figures = (each.calls, each.requests, each.totals, each.items, each.counters)
        table.add_row(each.scope.id, *map(str, figures), "holds" if not each.faults else "VIOLATED")
    return table
