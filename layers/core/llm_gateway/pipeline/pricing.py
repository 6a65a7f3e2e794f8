"""Prices from the book, with the operator's own before them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Catalog, Deployment, Provider
from llm_gateway.domain.usage import Cost, Usage
from llm_gateway.metering.bound import Bound, Ceiling, prices_that_may_apply, upper_bound
from llm_gateway.metering.cost import cost
from llm_gateway.metering.prices import ModelPrice, PriceBook
from llm_gateway.schemas.openai_chat import ModelRequest


@dataclass(frozen=True, slots=True)
class PricedBound:
    """Implements `admission.CostBound`."""

    bound: Bound
    ceiling: Ceiling

    @property
    def output_tokens(self) -> int | None:
        return self.bound.output_tokens

    @property
    def most_output_tokens(self) -> int | None:
        return self.bound.most_output_tokens

    @property
    def answers(self) -> int:
        return self.bound.answers

    def usd(self, output_tokens: int) -> Decimal:
        return self.ceiling.usd(output_tokens)

    def output_that_fits(self, usd: Decimal) -> int:
        return self.ceiling.output_that_fits(usd)


class BookPricing:
    """Implements `accounts.Pricing` and `admission.BoundPricing` on the price book."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    def cost(self, usage: Usage, provider: Provider, model: str, catalog: Catalog, at: float) -> Cost:
        return cost(usage, self._price(provider, model, catalog, at), self._book.version)

    def bound(
        self, endpoint: Endpoint, request: ModelRequest, deployment: Deployment, catalog: Catalog, at: float
    ) -> PricedBound:
        """The most that a request can cost. Raises `InvalidRequest` for what has no bound, or no price."""
        provider, model = catalog.providers[deployment.provider], deployment.model

        def find(tier: str | None) -> ModelPrice | None:
            return self._price(provider, model, catalog, at, {"service_tier": tier} if tier else None)

        prices = prices_that_may_apply(request.fields, find)
        bound = upper_bound(request.fields, endpoint, provider, model, prices[0].context_window)
        return PricedBound(bound, bound.ceiling(*prices))

    def _price(
        self, provider: Provider, model: str, catalog: Catalog, at: float, context: dict[str, str] | None = None
    ) -> ModelPrice | None:
        moment = datetime.fromtimestamp(at, UTC)
        return self._book.find(
            provider.name, model, moment, catalog.prices, price_as=provider.price_as, context=context
        )
