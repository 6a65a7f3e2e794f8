"""Proves, on DynamoDB Local, that usage is read from totals and lists from an index, however much the ledger holds.

    python -m tests.prove_usage                    # a million requests; some 16 minutes, nearly all of it filling
    python -m tests.prove_usage --requests 50000

Prints what each question took, and exits with 1 where one took too much. Needs Java and Maven.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.memory import MemoryAnswers, MemoryRegistry, MemorySecrets
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.bootstrap import Stores, assemble, usage_stores
from llm_gateway.domain.ports import HttpClient
from llm_gateway.local.tables import definition, shapes
from llm_gateway.observability.logs import RequestLog, open_logger
from llm_gateway.settings import Settings
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.contract.engines import DynamoDBLocal, dynamodb_local_missing
from tests.prove_usage.month import Month

MOST_CPU_S = 1.0
_BATCH = 25
_AT_ONCE = 6
_MONTH = "from=2026-11-01&to=2026-11-30"
QUESTIONS = (
    ("a month by team and model", f"/usage?{_MONTH}&group_by=team,model"),
    ("a month by team, model and day, as CSV", f"/usage?{_MONTH}&group_by=team,model,day&format=csv"),
    ("a month by day", f"/usage?{_MONTH}&group_by=day"),
    ("a month by user", f"/usage?{_MONTH}&group_by=user"),
    ("a month of one team by model", f"/usage?{_MONTH}&group_by=model&team=team-03"),
    ("the newest 100 requests", f"/usage/requests?{_MONTH}&limit=100"),
    ("of one key", f"/usage/requests?{_MONTH}&limit=100&key=team-03-key-1"),
    ("of one user that failed", f"/usage/requests?{_MONTH}&limit=100&user=user-7&status=failed"),
)


@dataclass(frozen=True)
class Asked:
    """What one question took: CPU of this process and wall time in seconds, calls to the store."""

    what: str
    cpu_s: float
    wall_s: float
    calls: dict[str, int]
    answer: httpx.Response

    def told(self) -> str:
        calls = ", ".join(f"{count} {name}" for name, count in self.calls.items())
        return f"{self.what:40} {self.cpu_s * 1000:7.0f} ms CPU {self.wall_s * 1000:7.0f} ms  {calls}"


@dataclass(frozen=True)
class Gateway:
    app: ASGIApp
    dynamodb: AwsJsonClient


async def prove(url: str, requests: int) -> list[str]:
    """What does not hold."""
    settings = Settings(AWS_ENDPOINT_URL=url, AUTH="none", LOG_LEVEL="ERROR")
    http = open_client()
    dynamodb = AwsJsonClient(
        http,
        service="dynamodb",
        region=settings.region,
        credentials=StaticCredentials(AwsCredentials("proving", "proving")),
        endpoint_url=url,
        connect_s=10,
        timeout_s=120,  # the engine on a laptop takes seconds for the megabyte that DynamoDB answers at once
    )
    gateway = Gateway(_app(settings, dynamodb, http), dynamodb)
    for shape in shapes(settings):
        await dynamodb.call("CreateTable", definition(shape))
    month = Month.of(requests)
    await fill(dynamodb, settings.usage_table, month.totals(), "totals", None)
    await fill(dynamodb, settings.ledger_table, month.items(), "ledger items", month.requests)
    # The first question of a process also imports what answers it.
    await ask(gateway, *QUESTIONS[2])
    asked = []
    for what, path in QUESTIONS:
        asked.append(await ask(gateway, what, path))
        print(asked[-1].told(), flush=True)
    await http.close()
    return list(faults(month, asked))


def faults(month: Month, asked: list[Asked]) -> Iterator[str]:
    for each in asked:
        if each.answer.status_code != 200:
            yield f"{each.what}: {each.answer.status_code} {each.answer.text}"
            return
        if set(each.calls) - {"Query", "BatchGetItem"}:
            yield f"{each.what}: {each.calls}"
    rows = asked[0].answer.json()["data"]
    if sum(row["calls"] for row in rows) != month.requests:
        yield "the calls do not add up"
    if sum(Decimal(row["cost_usd"]) for row in rows) != month.cost_usd:
        yield "the cost does not add up"
    if asked[0].cpu_s >= MOST_CPU_S:
        yield f"a month by team and model took {asked[0].cpu_s:.2f} s of CPU, more than {MOST_CPU_S}"
    if any(len(each.answer.json()["data"]) != 100 for each in asked[-3:-1]):
        yield "a list is short"


async def ask(gateway: Gateway, what: str, path: str) -> Asked:
    gateway.dynamodb.calls.clear()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway") as client:
        wall, cpu = time.perf_counter(), time.process_time()
        answer = await client.get(path)
        return Asked(what, time.process_time() - cpu, time.perf_counter() - wall, dict(gateway.dynamodb.calls), answer)


async def fill(client: AwsJsonClient, table: str, items: Iterable[Item], what: str, expected: int | None) -> None:
    began, written = time.perf_counter(), 0
    each = iter(items)
    batches = iter(lambda: list(itertools.islice(each, _BATCH)), [])

    async def write() -> None:
        nonlocal written
        for batch in batches:
            asked: Any = {table: [{"PutRequest": {"Item": item}} for item in batch]}
            while asked:
                asked = (await client.call("BatchWriteItem", {"RequestItems": asked})).get("UnprocessedItems")
            written += len(batch)
            if written % (4000 * _BATCH) == 0:
                print(f"  {written:,} of {expected or '?'} after {time.perf_counter() - began:.0f} s", file=sys.stderr)

    await asyncio.gather(*(write() for _ in range(_AT_ONCE)))
    print(f"{written:,} {what} written in {time.perf_counter() - began:.0f} s", flush=True)


def _app(settings: Settings, dynamodb: AwsJsonClient, http: HttpClient) -> ASGIApp:
    stores = Stores(
        MemoryRegistry(),
        DynamoDBLedger(dynamodb, settings.ledger_table),
        CachedSecrets(MemorySecrets()),
        MemoryAnswers(),
        MemoryScopes(),
        lambda: usage_stores(dynamodb, settings),
    )
    return assemble(settings, stores, http, RequestLog(open_logger("ERROR", "text")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if missing := dynamodb_local_missing():
        sys.exit(f"DynamoDB Local cannot run: {missing}")
    with tempfile.TemporaryDirectory() as folder:
        engine = DynamoDBLocal.start(Path(folder, "log"))
        try:
            wrong = asyncio.run(prove(engine.url, arguments.requests))
        finally:
            engine.stop()
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
