"""Tries every fault, ends what is left as the sweep and the rollup do, and holds the books against each other."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import boto3
from rich.table import Table

from llm_gateway.domain.limits import Scope
from llm_gateway.domain.totals import Totals
from llm_gateway.domain.usage import RequestRecord
from tests.contract.engines import DynamoDBLocal, MotoServer
from tests.fakes.dynamodb_faults import DynamoDBFaults
from tests.fakes.gateway_on_dynamodb import CREDENTIALS, prepare
from tests.fakes.openai_upstream import OpenAIUpstream
from tests.prove.books import Books, open_books
from tests.prove.faults import FAULTS, Fault, config
from tests.prove.rollup import RetriedRollup
from tests.prove.stage import BILL, Stage


@dataclass(frozen=True, slots=True)
class Row:
    fault: Fault
    saw: Counter[str]
    provider: Decimal
    """What the provider bills."""
    ledger: Counter[str]
    billed: Decimal
    faults: tuple[str, ...]


def try_faults(engine: DynamoDBLocal, rollup: RetriedRollup, directory: Path) -> list[Row]:
    moto = MotoServer()
    sqs = boto3.client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=moto.url,
        aws_access_key_id=CREDENTIALS.access_key,
        aws_secret_access_key=CREDENTIALS.secret_key,
    )
    proxy = DynamoDBFaults(engine.url, share=1.0, faults=("throttled",))
    proxy.pause()
    try:
        queue_url = sqs.create_queue(QueueName="fallback", Attributes={"VisibilityTimeout": "360"})["QueueUrl"]
        with OpenAIUpstream() as provider, proxy, ThreadPoolExecutor() as callers:
            prepare(engine.url, config(provider.base_url))
            stage = Stage(
                engine, proxy, provider, sqs, queue_url, rollup, directory, callers, lambda s: _sweep(engine.url, s)
            )
            stage.answers_plainly()
            seen = {fault: _try(stage, fault) for fault in FAULTS}
    finally:
        sqs.close()
        moto.stop()
    asyncio.run(_end_all(engine.url))
    rollup.fold()
    return asyncio.run(_rows(engine.url, seen))


def _try(stage: Stage, fault: Fault) -> tuple[Counter[str], int]:
    """What the callers saw, and how many calls the provider got."""
    before = len(stage.provider.requests)
    saw = Counter(fault.act(stage, fault.name))
    return saw, len(stage.provider.requests) - before


def _sweep(store_url: str, seconds: float) -> None:
    async def sweep() -> None:
        async with open_books(store_url) as books:
            await books.sweep_in(seconds)

    asyncio.run(sweep())


async def _end_all(store_url: str) -> None:
    async with open_books(store_url) as books:
        await books.sweep()


async def _rows(store_url: str, seen: dict[Fault, tuple[Counter[str], int]]) -> list[Row]:
    async with open_books(store_url) as books:
        return [await _row(books, fault, saw, calls) for fault, (saw, calls) in seen.items()]


async def _row(books: Books, fault: Fault, saw: Counter[str], calls: int) -> Row:
    name = f"fault-{fault.name}"
    records = await books.records(name)
    ledger = Counter[str](record.status for record in records)
    billed, provider = cost_of(records), calls * BILL
    checks = {
        f"the callers saw {dict(saw)}": saw == fault.saw,
        f"the ledger says {dict(ledger)}": ledger == fault.ledger,
        f"the provider was called {calls} times": calls == fault.calls,
        f"billed {billed}, the provider bills {provider}": _is_billed(fault, records, billed, provider),
    }
    found = [what for what, holds_true in checks.items() if not holds_true]
    for scope in (Scope("key", name), Scope("team", name)):
        found += await disagreements(books, scope, records)
    return Row(fault, saw, provider, ledger, billed, tuple(found))


def _is_billed(fault: Fault, records: Sequence[RequestRecord], billed: Decimal, provider: Decimal) -> bool:
    if fault.billed == "exactly":
        return billed == provider
    return provider <= billed == sum((record.reserved_usd or Decimal(0) for record in records), Decimal(0)) > 0


async def disagreements(books: Books, scope: Scope, records: Sequence[RequestRecord]) -> list[str]:
    """Where a scope's counters, and its totals, are not what the requests' items add up to."""
    own = [record for record in records if scope.name in (record.team, record.key)]
    items, totals = cost_of(own), await books.totals_of(scope)
    spent, committed = await books.money(scope)
    holds, in_flight = await books.holds(scope), await books.in_flight(scope)
    checks = {
        f"{scope}: the counters say {spent} and {committed}, the items {items}": spent == committed == items,
        f"{scope}: {holds} holds are left, {in_flight} in flight": holds == in_flight == 0,
        f"{scope}: the totals say {totals}, the items {items} in {len(own)}": _agree(totals, own),
    }
    return [what for what, holds_true in checks.items() if not holds_true]


def _agree(totals: Totals, records: Sequence[RequestRecord]) -> bool:
    ended = Counter(record.status for record in records)
    told = (totals.cost_usd, totals.calls, totals.abandoned)
    return told == (cost_of(records), len(records), ended["abandoned"]) and not ended["open"]


def cost_of(records: Sequence[RequestRecord]) -> Decimal:
    return sum((record.cost_usd or Decimal(0) for record in records), Decimal(0))


def fault_table(rows: Sequence[Row]) -> Table:
    found = Table(title="The faults", title_justify="left")
    for name in ("fault", "the caller saw", "the ledger says"):
        found.add_column(name)
    for name in ("provider bills", "billed"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("verdict")
    for row in rows:
        figures = (_told(row.saw), _told(row.ledger) or "nothing", str(row.provider), str(row.billed))
        found.add_row(row.fault.what, *figures, "holds" if not row.faults else "VIOLATED")
    return found


def _told(counted: Counter[str]) -> str:
    return "; ".join(what if count == 1 else f"{count} x {what}" for what, count in sorted(counted.items()))
