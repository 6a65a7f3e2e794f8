"""The stores as they are, past every gateway: what is spent, what is held, and what the requests' items add up to."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from llm_gateway.adapters.attributes import decode_record
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.adapters.dynamodb_totals import DynamoDBTotals
from llm_gateway.domain.limits import Budget, Grant, Hold, Policy, Scope
from llm_gateway.domain.totals import Totals
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.pipeline.repair import LATE_S, Repair
from llm_gateway.settings import Settings
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials

_LABEL = "T"
_SAMPLE_S = 0.05
_QUIET_S = 3.0
"""Longer than a gateway's attempt to write: what has not moved for so long will not move by itself."""


@dataclass
class Watch:
    """What was seen of some budgets while requests ran."""

    highest: dict[Scope, Decimal] = field(default_factory=dict)
    samples: int = 0
    overspent: list[str] = field(default_factory=list)


class Books:
    def __init__(self, client: AwsJsonClient) -> None:
        self._client = client
        settings = Settings.from_environment({})
        self._table = settings.ledger_table
        self._totals = DynamoDBTotals(client, settings.usage_table, settings.ledger_table)
        self.ledger = DynamoDBLedger(client, self._table)
        self.scopes = DynamoDBScopes(client, self._table)

    async def money(self, scope: Scope) -> tuple[Decimal, Decimal]:
        """(spent, committed)"""
        level = await self.scopes.level(scope, 0, (_LABEL,))
        return level.spent_in(_LABEL), level.committed_in(_LABEL)

    async def in_flight(self, scope: Scope) -> int:
        return (await self.scopes.level(scope, 0, ())).in_flight

    async def totals_of(self, scope: Scope) -> Totals:
        """The daily totals of a key, a team or a user, of all days."""
        sums = Totals()
        today = datetime.now(UTC).date()
        days, group = (today - timedelta(1), today + timedelta(1)), (scope.kind,)
        async for _, totals in self._totals.read(group, *days, {scope.kind: scope.name}):  # type: ignore[arg-type, dict-item]
            sums += totals
        return sums

    async def records(self, key: str) -> list[RequestRecord]:
        """Every request of a key."""
        found: list[RequestRecord] = []
        payload: dict[str, Any] = {
            "TableName": self._table,
            "FilterExpression": "begins_with(pk, :req) AND #key = :key",
            "ExpressionAttributeNames": {"#key": "key"},
            "ExpressionAttributeValues": {":req": {"S": "req#"}, ":key": {"S": key}},
            "ConsistentRead": True,
        }
        while True:
            page = await self._client.call("Scan", payload)
            found += map(decode_record, page["Items"])
            if not page.get("LastEvaluatedKey"):
                return found
            payload["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def sweep(self) -> None:
        """As on the days to come: what died is ended first, the marks of that a day later."""
        for seconds in (3_600, 3_600 + LATE_S + 60, 3_600 + 2 * LATE_S + 120):
            await self.sweep_in(seconds)

    async def sweep_in(self, seconds: float) -> None:
        """As it will be then."""
        later = time.time() + seconds
        await Repair(self.ledger, self.scopes, lambda: "charge", lambda: later).sweep()

    async def holds(self, scope: Scope) -> int:
        return len(await self.scopes.holds(scope))

    async def until_quiet(self, scopes: Mapping[Scope, Decimal]) -> None:
        """Returns once nothing settles any more: what is held then belongs to processes that died."""
        last: object = None
        since = time.monotonic()
        while time.monotonic() < since + _QUIET_S:
            now = [(await self.money(scope), await self.holds(scope)) for scope in scopes]
            if now != last:
                last, since = now, time.monotonic()
            await asyncio.sleep(0.1)

    async def takes_exactly(self, scope: Scope, usd: Decimal) -> bool:
        """Whether a request that takes the last of a budget gets it, and one of a millionth of a cent more does not."""
        policy = Policy(budgets=(Budget(usd, "total"),))
        spent, _ = await self.money(scope)
        now = time.time()
        for left, fits in ((usd - spent + Decimal("1e-8"), False), (usd - spent, True)):
            hold = Hold(scope, left, 1, int(now) // 60, (_LABEL,), int(now) + 60)
            answer = await self.scopes.reserve("req_last", hold, policy, now)
            if isinstance(answer, Grant):
                await self.scopes.cancel("req_last", hold, answer.tag, now)
            if isinstance(answer, Grant) is not fits:
                return False
        return True

    async def watch(self, budgets: Mapping[Scope, Decimal], watch: Watch) -> None:
        """Looks until it is cancelled."""
        while True:
            for scope, usd in budgets.items():
                spent, committed = await self.money(scope)
                watch.samples += 1
                watch.highest[scope] = max(watch.highest.get(scope, Decimal(0)), committed)
                if not spent <= committed <= usd:
                    watch.overspent.append(f"{scope}: {spent} spent, {committed} committed of {usd}")
            await asyncio.sleep(_SAMPLE_S)


@asynccontextmanager
async def open_books(store_url: str) -> AsyncIterator[Books]:
    http = open_client()
    client = AwsJsonClient(
        http,
        service="dynamodb",
        region="us-east-1",
        credentials=StaticCredentials(AwsCredentials("testing", "testing")),
        endpoint_url=store_url,
        connect_s=10.0,
        timeout_s=20.0,
    )
    try:
        yield Books(client)
    finally:
        await http.close()
