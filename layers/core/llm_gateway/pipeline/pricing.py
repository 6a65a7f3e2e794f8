"""Prices from the book, with the operator's own before them, under the conditions that a call was served on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.dialects.service_tier import STANDARD, named_tier
from llm_gateway.domain.catalog import Catalog, Deployment, Provider
from llm_gateway.domain.usage import Cost, RequestRecord, Usage
from llm_gateway.metering.bound import Bound, Ceiling, prices_that_may_apply, upper_bound
from llm_gateway.metering.bound_openrouter import capped_hosts
from llm_gateway.metering.cost import cost
from llm_gateway.metering.prices import ModelPrice, PriceBook
from llm_gateway.schemas.duplicates import refuse_duplicates
from llm_gateway.schemas.openai_chat import ModelRequest

_EXACT = Context(prec=120, rounding=ROUND_FLOOR)
_NOTHING = Bound(0, 0, 0)


@dataclass(frozen=True, slots=True)
class PricedBound:
    """Implements `ask.CostBound`: a bound in tokens, at its prices, times the team's markup."""

    bound: Bound
    ceiling: Ceiling
    factor: Decimal = Decimal(1)
    members: Mapping[str, Any] = field(default_factory=dict)

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
        return _EXACT.multiply(self.ceiling.usd(output_tokens), self.factor)

    def output_that_fits(self, usd: Decimal) -> int:
        return self.ceiling.output_that_fits(_EXACT.divide(usd, self.factor) if self.factor else usd)


class BookPricing:
    """Implements `accounts.Pricing` and `ask.BoundPricing` on the price book."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    def cost(self, usage: Usage, provider: Provider, model: str, catalog: Catalog, at: float) -> Cost:
        return cost(usage, self._price(provider, model, catalog, at, price_context(usage)), self._book.version)

    def bound(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        calls: int,
        deployment: Deployment,
        catalog: Catalog,
        record: RequestRecord,
    ) -> PricedBound:
        """The most that the team is charged for a request of `calls` calls.

        Raises `InvalidRequest` for what has no bound, or no price, and for a body that another parser reads otherwise.
        """
        refuse_duplicates(request.body)
        provider, model, at = catalog.providers[deployment.provider], deployment.model, record.at_ms / 1000

        def find(tier: str | None) -> ModelPrice | None:
            return self._price(provider, model, catalog, at, price_context(Usage(service_tier=named_tier(tier))))

        if endpoint in provider.quirks.free and not _has_price(find(None)):
            return PricedBound(_NOTHING, Ceiling(Decimal(0), Decimal(0)))
        prices = prices_that_may_apply(request.fields, find)
        bound = upper_bound(
            request.fields,
            endpoint,
            provider,
            model,
            prices[0].context_window,
            prices_images=any("output_image_mtok" in price.rates for price in prices),
        )
        ceiling = bound.ceiling(*prices)
        if calls > 1:
            fee = max(price.per_request or Decimal(0) for price in prices)
            ceiling = Ceiling(ceiling.fixed + fee * (calls - 1), ceiling.each_output_token)
        factor = catalog.markups.get(record.team, Decimal(1)) if record.team is not None else Decimal(1)
        members = {}
        if provider.quirks.caps_hosts:
            members["provider"] = capped_hosts(request.fields, prices[0], bound.kinds)
        return PricedBound(bound, ceiling, factor, members)

    def _price(
        self, provider: Provider, model: str, catalog: Catalog, at: float, context: Mapping[str, str] | None
    ) -> ModelPrice | None:
        moment = datetime.fromtimestamp(at, UTC)
        return self._book.find(
            provider.name, model, moment, catalog.prices, price_as=provider.price_as, context=context
        )


def _has_price(price: ModelPrice | None) -> bool:
    """The book names models that it has no price of, such as OpenAI's for moderations."""
    return price is not None and bool(price.rates or price.per_request)


def price_context(usage: Usage) -> Mapping[str, str] | None:
    """What of the serving can change a price, in the book's words; None for the standard tier anywhere."""
    standard = usage.service_tier is None or usage.service_tier == STANDARD
    if standard and usage.inference_geo is None:
        return None
    context: dict[str, str] = {}
    if usage.service_tier is not None and not standard:
        context["processing" if usage.service_tier == "batch" else "service_tier"] = usage.service_tier
    if usage.inference_geo is not None:
        context["inference_geo"] = usage.inference_geo
    return context


def asked_tier(fields: Mapping[str, Any], provider: Provider) -> str | None:
    """The tier that a request asks for, if its provider gets to hear of it. On Bedrock's wire its own name wins."""
    native = fields.get("serviceTier") if provider.dialect == "bedrock_converse" else None
    if isinstance(native, dict):
        return named_tier(native.get("type"))
    return None if "service_tier" in provider.quirks.drop else named_tier(fields.get("service_tier"))
