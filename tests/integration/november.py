"""A month of usage that the tests of `/usage` ask about, and how they ask."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx

from llm_gateway.domain.usage import RequestRecord, Usage
from tests.contract.records import plain_record
from tests.fakes.gateway_app import GatewayApp

CONFIG = """
[teams.search]
[teams.ads]
[keys.search-prod]
team = "search"
key = "sk-search-prod"
[keys.search-dev]
team = "search"
key = "sk-search-dev"
[keys.search-boss]
team = "search"
role = "team-admin"
key = "sk-search-boss"
[keys.ads-prod]
team = "ads"
key = "sk-ads-prod"
[keys.loner]
key = "sk-loner"
"""
ADMIN, BOSS, CALLER, OTHER, LONER = "sk-test-admin", "sk-search-boss", "sk-search-prod", "sk-ads-prod", "sk-loner"
NOVEMBER = "from=2026-11-01&to=2026-11-30"
KEYS = (("search-prod", "search"), ("search-dev", "search"), ("ads-prod", "ads"), ("loner", None))


def at(day: int, month: int = 11, hour: int = 12) -> int:
    return int(datetime(2026, month, day, hour, tzinfo=UTC).timestamp() * 1000)


def november() -> list[RequestRecord]:
    """Forty requests: four keys, two models, ten days; one in ten failed, one in ten has no price."""
    return [
        plain_record(
            f"req_{number:03}",
            at_ms=at(1 + number // 4),
            key=KEYS[number % 4][0],
            team=KEYS[number % 4][1],
            user=f"u{number % 3}",
            tags={"env": "prod" if number % 2 else "dev", "app": "x"} if number % 5 else {},
            provider="openai" if number % 3 else "echo",
            routed_model="small" if number % 3 else "large",
            requested_model="fast",
            status="failed" if number % 10 == 0 else "settled",
            usage=Usage(input_tokens=100 + number, output_tokens=10, cached_tokens=number, estimated=number % 7 == 0),
            cost_usd=None if number % 10 == 5 else Decimal("0.000000000000000000001") * number,
            latency_ms=1000 + number,
            ttft_ms=100 if number % 2 else None,
        )
        for number in range(40)
    ]


class Usages:
    """Asks as one of the keys."""

    def __init__(self, app: GatewayApp, client: httpx.Client) -> None:
        self.app, self._client = app, client

    def get(self, path: str, key: str = ADMIN, **headers: str) -> httpx.Response:
        return self._client.get(f"{self.app.root}{path}", headers={"authorization": f"Bearer {key}", **headers})

    def ok(self, path: str, key: str = ADMIN) -> Any:
        answer = self.get(path, key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, status: int, key: str = ADMIN) -> dict[str, Any]:
        answer = self.get(path, key)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    def all_pages(self, path: str, limit: int, key: str = ADMIN) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        page = self.ok(f"{path}&limit={limit}", key)
        for _ in range(500):
            assert len(page["data"]) <= limit
            rows += page["data"]
            if page["next"] is None:
                return rows
            page = self.ok(f"{path}&limit={limit}&next={page['next']}", key)
        raise AssertionError("the pages have no end")


async def fill(app: GatewayApp, records: list[RequestRecord]) -> None:
    for record in records:
        assert await app.ledger.settle(record)
    assert len((await app.totals.fold(records)).counted) == len(records)


def cost(records: list[RequestRecord]) -> str:
    total = sum((record.cost_usd for record in records if record.cost_usd is not None), Decimal(0))
    return "0" if not total else format(total.normalize(), "f")


# --- Totals -----------------------------------------------------------------------------------------------------------
