"""A request's entry in the ledger: opened before the provider is called, settled after the caller's last byte."""

import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

from llm_gateway.domain.catalog import Catalog, Deployment, Provider
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.limits import Hold
from llm_gateway.domain.ports import Ledger
from llm_gateway.domain.usage import Cost, RequestRecord, Usage
from llm_gateway.errors import GatewayError
from llm_gateway.metering.cost import marked_up
from llm_gateway.pipeline.call import Call
from llm_gateway.pipeline.fallback import Fallback
from llm_gateway.schemas.openai_chat import ModelRequest

_GRACE_S = 120
_NOTHING = Cost(Decimal(0), "")


class Pricing(Protocol):
    """What a provider bills for a usage block at a moment (Unix seconds)."""

    def cost(self, usage: Usage, provider: Provider, model: str, catalog: Catalog, at: float) -> Cost: ...


class Accounts:
    """Writes records. A ledger that cannot be written does not refuse the call: its settlement goes to `fallback`."""

    def __init__(
        self,
        ledger: Ledger,
        pricing: Pricing,
        fallback: Fallback,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._pricing = pricing
        self._fallback = fallback
        self._now = now

    def record_of(
        self, call: Call, key: VirtualKey, request: ModelRequest, requested: str, deployment: Deployment, total_s: float
    ) -> RequestRecord:
        """The record as it is to be opened. `requested` is the name the caller used."""
        now = self._now()
        return RequestRecord(
            request_id=call.request_id,
            at_ms=int(now * 1000),
            endpoint=call.endpoint,
            key=key.name,
            key_id=key.key_id,
            team=key.team,
            user=request.user or key.user,
            requested_model=requested,
            provider=deployment.provider,
            routed_model=deployment.model,
            stream=request.stream,
            status="open",
            expires_at=int(now + total_s + _GRACE_S),
            tags={**call.tags, **key.tags},
        )

    async def open(self, record: RequestRecord) -> None:
        try:
            await self._ledger.open(record)
        except GatewayError as error:
            self._fallback.unopened(record, error)

    def expected_usd(self, usage: Usage, deployment: Deployment, catalog: Catalog) -> Decimal | None:
        """What the provider would bill for `usage` now; None where no price is known."""
        provider = catalog.providers[deployment.provider]
        return self._pricing.cost(usage, provider, deployment.model, catalog, self._now()).usd

    def price(self, record: RequestRecord, usage: Usage, answered: str | None, catalog: Catalog) -> Cost:
        """What the team is charged: the provider's exact cost and the team's markup on it; `usd` is None where no
        price is known."""
        factor = catalog.markups.get(record.team) if record.team is not None else None
        return marked_up(self._provider_cost(record, usage, answered, catalog), factor)

    def _provider_cost(self, record: RequestRecord, usage: Usage, answered: str | None, catalog: Catalog) -> Cost:
        """The model that answered comes before the one asked, unless the operator has a price for the latter alone:
        `gpt-4o` may answer as `gpt-4o-2024-08-06`.

        A vendor that routes to others (OpenRouter), or says what it bills (xAI), knows that best.
        """
        if not (usage.input_tokens or usage.output_tokens):
            return _NOTHING
        provider, at = catalog.providers[record.provider], record.at_ms / 1000
        if provider.quirks.tells_cost and usage.told_cost_usd is not None:
            return Cost(usage.told_cost_usd, f"told-by-{provider.name}")
        asked, names = record.routed_model, catalog.prices
        if answered is None or (f"{provider.name}:{asked}" in names and f"{provider.name}:{answered}" not in names):
            answered = asked
        cost = self._pricing.cost(usage, provider, answered, catalog, at)
        if cost.usd is None and answered != asked:
            cost = self._pricing.cost(usage, provider, asked, catalog, at)
        if cost.usd is None and record.endpoint in provider.quirks.free:
            return Cost(Decimal(0), f"free-at-{provider.name}")
        return cost

    async def settle(self, record: RequestRecord, holds: Sequence[tuple[Hold, str]] = ()) -> bool:
        """Whether the ledger has the record, and from this call. `holds` have their tags.

        Where a scope's tag is not known, nobody knows what is held there: then all of it waits in the queue, and the
        rollup looks. An item that is settled here is not looked at again before its holds are past their time.
        """
        lost = LostSettlement(record, tuple(holds))
        known = sum(1 for _, tag in holds if tag)
        if known < len(record.scopes) and await self._fallback.queued(lost):
            return False
        try:
            return await self._ledger.settle(record)
        except GatewayError as error:
            await self._fallback.keep(lost, error)
            return False
