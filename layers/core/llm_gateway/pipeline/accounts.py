"""A request's entry in the ledger: opened before the provider is called, settled after the caller's last byte."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from llm_gateway.domain.catalog import Catalog, Deployment, Provider
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Ledger
from llm_gateway.domain.usage import Cost, RequestRecord, Usage
from llm_gateway.errors import GatewayError
from llm_gateway.pipeline.call import Call
from llm_gateway.schemas.openai_chat import ModelRequest

_GRACE_S = 120
_NOTHING = Cost(Decimal(0), "")


class Pricing(Protocol):
    """What a provider bills for a usage block at a moment (Unix seconds)."""

    def cost(self, usage: Usage, provider: Provider, model: str, catalog: Catalog, at: float) -> Cost: ...


class Accounts:
    """Writes records. A ledger that cannot be written does not refuse the call: the record goes to `report_lost`."""

    def __init__(
        self,
        ledger: Ledger,
        pricing: Pricing,
        report_lost: Callable[[RequestRecord, GatewayError], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._pricing = pricing
        self._report_lost = report_lost
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
            self._report_lost(record, error)

    def price(self, record: RequestRecord, usage: Usage, answered: str | None, catalog: Catalog) -> Cost:
        """The exact cost; `usd` is None where no price is known. The model that answered comes before the one asked.

        A vendor that routes to others (OpenRouter) knows best what it bills, and says it.
        """
        if not (usage.input_tokens or usage.output_tokens):
            return _NOTHING
        provider, at = catalog.providers[record.provider], record.at_ms / 1000
        if provider.quirks.tells_cost and usage.told_cost_usd is not None:
            return Cost(usage.told_cost_usd, f"told-by-{provider.name}")
        cost = self._pricing.cost(usage, provider, answered or record.routed_model, catalog, at)
        if cost.usd is None and answered not in (None, record.routed_model):
            return self._pricing.cost(usage, provider, record.routed_model, catalog, at)
        return cost

    async def settle(self, record: RequestRecord) -> bool:
        """Whether the ledger has the record, and from this call."""
        try:
            return await self._ledger.settle(record)
        except GatewayError as error:
            self._report_lost(record, error)
            return False
