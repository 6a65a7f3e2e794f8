"""A ledger that is away when a request ends: what the caller sees, where the settlement waits, and what it comes to."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.fallback_message import decode_lost, encode_lost
from llm_gateway.adapters.memory import MemoryLedger, MemoryLostSettlements
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Grant, Hold, Policy, Refusal, Scope
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline.repair import Repair
from llm_gateway.rollup.fallback import FallbackDrain
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import OpenAIUpstream, chat

CONFIG = """
[providers.corp]
base_url = "{base_url}"
[prices."corp:x"]
input = "1"
output = "10"
[teams.search]
limits = {{ parallel = 2 }}
[keys.prod]
key = "sk-prod-key"
team = "search"
budget = {{ usd = "1", period = "total" }}
"""
COUNTS = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
COST = Decimal("0.00012")
"""20 prompt tokens at $1 and 10 of output at $10 a million."""
KEY, TEAM = Scope("key", "prod"), Scope("team", "search")


@dataclass
class Trouble:
    """Which calls fail: `before` they are carried out, or `after`, with only their answer lost."""

    before: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)

    def begin(self, call: str) -> None:
        if call in self.before:
            raise Unavailable("away")

    def end(self, call: str) -> None:
        if call in self.after:
            raise Unavailable("the answer is lost")


class Ledger(MemoryLedger):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self._trouble = trouble

    async def open(self, record: RequestRecord) -> None:
        self._trouble.begin("open")
        await super().open(record)
        self._trouble.end("open")

    async def settle(self, record: RequestRecord) -> bool:
        self._trouble.begin("settle")
        done = await super().settle(record)
        self._trouble.end("settle")
        return done


class Scopes(MemoryScopes):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self._trouble = trouble

    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        self._trouble.begin("reserve")
        answer = await super().reserve(request_id, hold, policy, now)
        self._trouble.end("reserve")
        return answer

    async def settle(self, request_id: str, hold: Hold, tag: str, cost: Decimal, tokens: int, now: float) -> Any:
        self._trouble.begin(f"settle {hold.scope.kind}")
        return await super().settle(request_id, hold, tag, cost, tokens, now)


class World:
    """A gateway whose stores fail as `trouble` says, and the rollup's side of its queue."""

    def __init__(self, base_url: str, *, queue: bool = True, on_outage: str = "deny", key: str = "") -> None:
        self.trouble = Trouble()
        self.ledger, self.scopes = Ledger(self.trouble), Scopes(self.trouble)
        self.queue = MemoryLostSettlements()
        self.app = GatewayApp(
            CONFIG.format(base_url=base_url) + f'on_ledger_outage = "{on_outage}"\n' + key,
            secrets={"corp": "sk-corp"},
            ledger=self.ledger,
            scopes=self.scopes,
            lost=self.queue if queue else None,
        )

    def post(self) -> httpx.Response:
        body = {"model": "corp:x", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
        headers = {"Authorization": "Bearer sk-prod-key"}
        return httpx.post(f"{self.app.base_url}/chat/completions", json=body, headers=headers)

    async def drain(self) -> None:
        """The outage is over; each message comes twice."""
        self.trouble.before.clear()
        self.trouble.after.clear()
        repair = Repair(self.ledger, self.scopes, lambda: "charge")
        drain = FallbackDrain(self.ledger, self.scopes, repair, lambda: 1_770_000_000.0)
        for lost in self.queue.waiting * 2:
            await drain.settle(decode_lost(encode_lost(lost)))

    async def assert_settled(self, status: str, cost: Decimal) -> None:
        (record,) = self.ledger.records.values()
        assert (record.status, record.cost_usd) == (status, cost)
        for scope in (KEY, TEAM):
            assert await self.scopes.holds(scope) == [], scope
            assert (await self.scopes.level(scope, 0, ())).in_flight == 0
        level = await self.scopes.level(KEY, 0, ("T",))
        assert level.spent_in("T") == level.committed_in("T") == cost


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as upstream:
        upstream.script("x", chat(usage=COUNTS))
        yield upstream


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_settlement_that_the_ledger_did_not_take_is_made_from_the_queue(
    upstream: OpenAIUpstream, when: str
) -> None:
    world = World(upstream.base_url)
    getattr(world.trouble, when).add("settle")
    with world.app:
        assert world.post().status_code == 200
    (lost,) = world.queue.waiting
    assert (lost.record.status, lost.record.cost_usd) == ("settled", COST)
    assert {hold.scope for hold, tag in lost.holds if tag} == {KEY, TEAM}
    await world.drain()
    await world.assert_settled("settled", COST)


async def test_a_scope_that_could_not_be_settled_is_settled_from_the_queue(upstream: OpenAIUpstream) -> None:
    world = World(upstream.base_url)
    world.trouble.before |= {"settle team", "settle key"}
    with world.app:
        assert world.post().status_code == 200
    assert len(world.queue.waiting) == 1, "one message for all of a request's scopes"
    assert (await world.scopes.level(TEAM, 0, ())).in_flight == 1
    await world.drain()
    await world.assert_settled("settled", COST)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_request_that_was_denied_costs_nothing_though_its_holds_may_be_there(
    upstream: OpenAIUpstream, when: str
) -> None:
    world = World(upstream.base_url)
    getattr(world.trouble, when).update({"open", "reserve"})
    world.trouble.before.add("settle")
    with world.app:
        answer = world.post()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert upstream.requests == []
    assert len(world.queue.waiting) == 1
    await world.drain()
    await world.assert_settled("failed", Decimal(0))


async def test_a_request_that_was_allowed_is_counted_when_the_outage_is_over(upstream: OpenAIUpstream) -> None:
    world = World(upstream.base_url, on_outage="allow")
    world.trouble.before |= {"open", "reserve"}
    with world.app:
        assert world.post().status_code == 200
    (lost,) = world.queue.waiting
    assert [tag for _, tag in lost.holds] == ["", ""]
    assert world.ledger.records == {}, "an item that is settled would say more than its scopes count"
    await world.drain()
    await world.assert_settled("settled", COST)


class NoQueue(MemoryLostSettlements):
    async def put(self, lost: LostSettlement) -> None:
        raise Unavailable("no queue")


@pytest.mark.parametrize("queue", ["away", "none"])
def test_without_a_queue_the_log_has_the_message(
    upstream: OpenAIUpstream, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "llm_gateway.observability.logs.RequestLog.lost",
        lambda _, request_id, settlement, error: lines.append((request_id, settlement)),
    )
    monkeypatch.setattr("tests.integration.test_fallback.MemoryLostSettlements", NoQueue)
    world = World(upstream.base_url, queue=queue == "away")
    world.trouble.before.add("settle")
    with world.app:
        answer = world.post()
    ((request_id, settlement),) = lines
    lost = decode_lost(settlement)
    assert request_id == lost.record.request_id == answer.headers["x-request-id"]
    assert lost.record.cost_usd == COST
    assert len(lost.holds) == 2
