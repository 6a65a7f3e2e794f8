"""Prices from the book, with the operator's own before them, under the conditions that a call was served on."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from llm_gateway.dialects.service_tier import STANDARD, named_tier
from llm_gateway.domain.catalog import Catalog, Provider
from llm_gateway.domain.usage import Cost, Usage
from llm_gateway.metering.cost import cost
from llm_gateway.metering.prices import PriceBook


class BookPricing:
    """Implements `accounts.Pricing` on the price book."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    def cost(self, usage: Usage, provider: Provider, model: str, catalog: Catalog, at: float) -> Cost:
        moment = datetime.fromtimestamp(at, UTC)
        price = self._book.find(
            provider.name, model, moment, catalog.prices, price_as=provider.price_as, context=price_context(usage)
        )
        return cost(usage, price, self._book.version)


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
    """The tier that a request asks for, if its provider gets to hear of it."""
    return None if "service_tier" in provider.quirks.drop else named_tier(fields.get("service_tier"))
