"""Prices from the book, with the operator's own before them."""

from datetime import UTC, datetime

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
        price = self._book.find(provider.name, model, moment, catalog.prices, price_as=provider.price_as)
        return cost(usage, price, self._book.version)
