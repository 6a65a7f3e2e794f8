"""What a gateway in this process has spent: settled calls, summed in it, whatever its ledger is."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from llm_gateway import Gateway, GatewayError, Totals
from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.errors import InvalidRequest
from llm_gateway.library.settled import SettledCalls
from llm_gateway.library.usage import GatewayUsage
from tests.contract.records import plain_record

HELLO = [{"role": "user", "content": "Hello there"}]
COST = Decimal("0.000008")


def gateway() -> Gateway:
    return Gateway(environ={})


async def test_every_call_counts_once_it_is_settled() -> None:
    async with gateway() as one:
        assert await one.usage.all() == Totals()
        assert list(await one.usage.by_date()) == []
        await one.chat_completion("search", HELLO, model="echo:x")
        await one.embeddings("ads", "Hello", model="echo:x")
        with pytest.raises(GatewayError):
            await one.chat_completion("ads", HELLO, model="echo:error-503")
        stream = await one.chat_completion("search", HELLO, model="echo:x", stream=True)
        assert (await one.usage.all()).calls == 3, "a stream counts when it is over"
        async for _ in stream:
            pass
        records = list(_records(one).values())
        total, search, ads = [await one.usage.all(team_id=team) for team in (None, "search", "ads")]
        (day,) = await one.usage.by_date()
        (provider,) = await one.usage.by_provider()
    assert (total.calls, total.errors) == (4, 1)
    assert total.cost_usd == sum((record.cost_usd or Decimal(0) for record in records), Decimal(0))
    assert (search.calls, search.cost_usd, search.errors) == (2, 2 * COST, 0)
    assert (ads.calls, ads.errors) == (2, 1)
    assert (day.day, day.totals, provider.day, provider.totals) == (_today(records[0].at_ms), total, None, total)
    assert provider.values == {"provider": "echo"}
    assert await one.usage.all() == total, "asked again, and after the end"


async def test_days_and_providers(make_usage: Callable[..., GatewayUsage]) -> None:
    monday, tuesday = date(2026, 11, 16), date(2026, 11, 17)
    usage = make_usage(
        _record("1", monday, "openai", "0.10"),
        _record("2", tuesday, "openai", "0.0000000000000001"),
        _record("3", tuesday, "anthropic", "3"),
    )
    assert (await usage.all()).cost_usd == Decimal("3.1000000000000001")
    assert [(row.day, row.totals.calls) for row in await usage.by_date()] == [(monday, 1), (tuesday, 2)]
    by_provider = {row.values["provider"]: row.totals.cost_usd for row in await usage.by_provider()}
    assert list(by_provider.items()) == [("anthropic", Decimal(3)), ("openai", Decimal("0.1000000000000001"))]
    assert (await usage.all(first=tuesday)).calls == 2
    assert (await usage.all(last=monday, team_id="search")).calls == 1
    assert (await usage.all(team_id="nobody")) == Totals()
    assert [row.totals.calls for row in await usage.by_provider(first=monday, last=monday)] == [1]
    with pytest.raises(InvalidRequest, match="is after"):
        await usage.by_date(first=tuesday, last=monday)


async def test_records_are_not_kept(make_usage: Callable[..., GatewayUsage]) -> None:
    usage = make_usage(*(_record(str(number), date(2026, 11, 16), "openai", "0.01") for number in range(1000)))
    waiting = usage._totals._waiting  # type: ignore[attr-defined] # what it holds is the point
    assert len(waiting) < 64
    total = await usage.all()
    assert (total.calls, total.cost_usd) == (1000, Decimal(10))


@pytest.fixture
def make_usage() -> Callable[..., GatewayUsage]:
    def made(*records: Any) -> GatewayUsage:
        settled = SettledCalls()
        for record in records:
            settled.add(record)
        return GatewayUsage(settled)

    return made


def _record(request_id: str, day: date, provider: str, usd: str) -> Any:
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=23, minutes=59)
    at_ms = int(at.timestamp() * 1000)
    return plain_record(
        request_id=request_id, at_ms=at_ms, provider=provider, team="search", cost_usd=Decimal(usd), status="settled"
    )


def _records(one: Gateway) -> dict[str, Any]:
    assert isinstance(one.ledger, MemoryLedger)
    return one.ledger.records


def _today(at_ms: int) -> date:
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()
