"""`make prove`: real gateway processes on one DynamoDB Local, and everything that can go wrong, at once and one by one.

Prints a table of budgets, one of faults, and one of totals; exit code 1 where a budget was overspent, a sum disagrees, a
hold is left, a request that fits is refused, or one is lost or billed twice, 2 where it cannot run here.
"""

import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from llm_gateway.domain.limits import Scope
from llm_gateway.domain.usage import RequestRecord
from tests.contract.engines import DynamoDBLocal, dynamodb_local_missing
from tests.fakes.gateway_on_dynamodb import prepare
from tests.prove.books import Books, Watch, open_books
from tests.prove.fault_table import fault_table, try_faults
from tests.prove.provider import RandomBiller
from tests.prove.rollup import RetriedRollup
from tests.prove.scenarios import REQUESTS, SCENARIOS, Scenario, config
from tests.prove.storm import Fleet, ask_at_last, storm
from tests.prove.sums import compare, sums_table

_SEED = 7
_OUTCOMES = ("admitted", "refused", "denied", "left", "cut")


@dataclass(frozen=True, slots=True)
class Line:
    """One budget's row."""

    scenario: Scenario
    scope: Scope
    budget: Decimal
    outcomes: Counter[str]
    abandoned: int
    highest: Decimal
    spent: Decimal
    committed: Decimal
    items: Decimal
    holds: int
    faults: tuple[str, ...]


def main() -> int:
    console = Console(width=max(Console().width, 150))
    missing = dynamodb_local_missing()
    if missing is not None:
        console.print(f"make prove needs DynamoDB Local: {missing}")
        return 2
    logging.disable(logging.WARNING)  # moto and the template's translator tell of every step
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        engine = DynamoDBLocal.start(Path(directory) / "engine.log")
        fleet = Fleet(engine.url, Path(directory) / "gateways.log")
        try:
            with RandomBiller(_SEED) as provider:
                prepare(engine.url, config(provider.base_url))
                lines = [line for scenario in SCENARIOS for line in prove(scenario, fleet, engine)]
            fleet.stop()
            with RetriedRollup(engine.url) as rollup:
                rows = try_faults(engine, rollup, Path(directory))
            sums = asyncio.run(compare(engine.url))
        finally:
            engine.go_on()
            fleet.stop()
            engine.stop()
    for found in (table(lines), fault_table(rows), sums_table(sums)):
        console.print(found)
    faults = [f"{line.scope}: {fault}" for line in lines for fault in line.faults]
    faults += [f"{row.fault.what}: {fault}" for row in rows for fault in row.faults]
    faults += [fault for line in sums for fault in line.faults]
    for fault in faults:
        console.print(fault, style="red", markup=False)
    console.print(f"{REQUESTS} requests a scenario, {time.monotonic() - began:.0f} s; {_verdict(faults)}")
    return 1 if faults else 0


def prove(scenario: Scenario, fleet: Fleet, engine: DynamoDBLocal) -> list[Line]:
    fleet.start()
    return asyncio.run(_prove(scenario, fleet, engine))


async def _prove(scenario: Scenario, fleet: Fleet, engine: DynamoDBLocal) -> list[Line]:
    watch = Watch()
    async with open_books(engine.url) as books:
        watching = asyncio.create_task(books.watch(scenario.scopes, watch))
        outcomes = await storm(scenario, fleet, engine, Random(_SEED))  # noqa: S311 - repeatable, not secret
        await books.until_quiet(scenario.scopes)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await books.sweep()
        last = await asyncio.to_thread(ask_at_last, fleet, scenario)
        await books.until_quiet(scenario.scopes)
        records = await books.records(scenario.name)
        return [
            await _line(scenario, scope, budget, books, watch, outcomes, records, last)
            for scope, budget in scenario.scopes.items()
        ]


async def _line(
    scenario: Scenario,
    scope: Scope,
    budget: Decimal,
    books: Books,
    watch: Watch,
    outcomes: Counter[str],
    records: list[RequestRecord],
    last: str,
) -> Line:
    spent, committed = await books.money(scope)
    items = sum((record.cost_usd or Decimal(0) for record in records if scope.id in record.scopes), Decimal(0))
    holds, highest = await books.holds(scope), watch.highest.get(scope, Decimal(0))
    exactly = await books.takes_exactly(scope, budget)
    tight = min([usd - (await books.money(each))[0] for each, usd in scenario.scopes.items()])
    checks = {
        f"{len(watch.overspent)} times overspent while it ran: {watch.overspent[:1]}": not watch.overspent,
        f"overspent: {spent}": spent <= budget,
        f"the items come to {items}, the counters to {spent} and {committed}": spent == committed == items,
        f"{holds} holds are left": holds == 0,
        f"{sum(record.status == 'open' for record in records)} requests are left open": all(
            record.status != "open" for record in records
        ),
        "what is left cannot be spent, or more can": exactly,
        f"a request that fits was {last}": last == "admitted" or tight < scenario.worst_usd / 10,
        f"nobody expected {dict(outcomes)}": set(outcomes) <= set(_OUTCOMES) and outcomes.total() == REQUESTS,
        "it was never watched": watch.samples > 20,
    }
    return Line(
        scenario,
        scope,
        budget,
        outcomes,
        sum(record.status == "abandoned" for record in records),
        highest,
        spent,
        committed,
        items,
        holds,
        tuple(fault for fault, holds_true in checks.items() if not holds_true),
    )


def table(lines: list[Line]) -> Table:
    found = Table(title="The overspend proof", title_justify="left")
    found.add_column("scope", no_wrap=True)
    columns = ("budget", *_OUTCOMES, "abandoned", "highest", "spent", "committed", "items", "holds left")
    for name in columns:
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("verdict")
    for line in lines:
        figures = (line.budget, *(line.outcomes[name] for name in _OUTCOMES), line.abandoned, line.highest)
        sums = (line.spent, line.committed, line.items, line.holds)
        found.add_row(line.scope.id, *map(str, (*figures, *sums)), "holds" if not line.faults else "VIOLATED")
    return found


def _verdict(faults: list[str]) -> str:
    return "every budget held, nothing was lost or billed twice" if not faults else f"{len(faults)} violations"


if __name__ == "__main__":
    sys.exit(main())
