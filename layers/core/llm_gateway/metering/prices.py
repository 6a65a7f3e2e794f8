"""The price book: what a model costs at a provider, at a moment.

Two sources: the book that ships with the gateway, and the operator's own prices, which win. Format and choice of
sources: docs/adr/0003-price-book.md.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import orjson

from llm_gateway.domain.catalog import TOKEN_PRICES, Price, PriceChanges
from llm_gateway.metering.matching import applies, dashed_dates, matches

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_MOST_MODELS = 2048
"""Names remembered, found or not: callers choose them, so there must be an end."""

_OPERATOR_RATES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
    "cached_audio_input": "cache_audio_read_mtok",
    "image_input": "input_image_mtok",
    "image_output": "output_image_mtok",
}


@dataclass(frozen=True, slots=True)
class Rate:
    """US dollars per million tokens. `tiers` are (tokens, price), ascending: the last one whose tokens the whole
    input exceeds prices every token of the request, not only those above it."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        for above, price in reversed(self.tiers):
            if input_tokens > above:
                return price
        return self.base

    def times(self, factor: Decimal) -> "Rate":
        return Rate(self.base * factor, tuple((above, price * factor) for above, price in self.tiers))


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What one model costs. `rates` is keyed by genai-prices' names (`input_mtok`, `cache_read_mtok`, …)."""

    rates: Mapping[str, Rate]
    version: str
    """The book's version, or `operator-` and a digest of the operator's price. `+standard-for-<tier>` follows where
    the service tier has no price that is known, so that the standard one stands in."""
    per_request: Decimal | None = None
    """US dollars a call."""
    per_search: Decimal | None = None
    """US dollars a web search."""
    context_window: int | None = None
    """Tokens."""


@dataclass(slots=True)
class _Entry:
    """A model of the book. Its prices are made when they are first needed."""

    document: Mapping[str, Any]
    resold: bool
    """Found under a vendor whose models the asked one resells: its surcharges and discounts are not theirs."""
    made: dict[int, ModelPrice] = field(default_factory=dict)


class PriceBook:
    """`load` gives the JSON of one provider's prices, or None where the book has none; it is called once each."""

    def __init__(self, load: Callable[[str], bytes | None], version: str) -> None:
        self.version = version
        self._load = load
        self._files: dict[str, Mapping[str, Any] | None] = {}
        self._found: dict[tuple[str, str], _Entry | None] = {}
        self._operators: dict[tuple[Price, str | None], ModelPrice] = {}

    def find(
        self,
        provider: str,
        model: str,
        at: datetime,
        overrides: Mapping[str, Price],
        *,
        price_as: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> ModelPrice | None:
        """The price of `model` at `provider`, or None: unpriced, which is not the same as free.

        `overrides` are the operator's prices by `provider:model`. `price_as` is the vendor under whose name the book
        has the provider's prices. `at` decides among dated prices; without a zone it is UTC. `context` picks
        surcharges and discounts that depend on how the request was served, such as `{"service_tier": "flex"}`.
        """
        own = overrides.get(f"{provider}:{model}")
        if own is not None:
            return self._operator_price(own, (context or {}).get("service_tier"))
        entry = self._entry(price_as or provider, model)
        if entry is None:
            return None
        return self._price(entry, at, context)

    def models(self, price_as: str) -> tuple[str, ...]:
        """The names the book has for a vendor's own models, in the book's order; not those it resells."""
        file = self._file(price_as)
        return () if file is None else tuple(model["id"] for model in file["models"])

    def _operator_price(self, price: Price, tier: str | None) -> ModelPrice:
        made = self._operators.get((price, tier))
        if made is None:
            made = _forget_some(self._operators)[price, tier] = operator_price(price, tier)
        return made

    def _entry(self, name: str, model: str) -> _Entry | None:
        key = (name, model)
        if key not in self._found:
            _forget_some(self._found)[key] = self._search(name, model.lower().removeprefix("models/"))
        return self._found[key]

    def _search(self, name: str, model: str) -> _Entry | None:
        dashed = dashed_dates(model)
        for spelling in (model,) if dashed == model else (model, dashed):
            for document, resold in self._candidates(name):
                if matches(document["match"], spelling):
                    return _Entry(document, resold)
        return None

    def _candidates(self, name: str) -> Iterator[tuple[Mapping[str, Any], bool]]:
        """The models of `name`, then those of the vendors whose models it resells; one step, no further."""
        file = self._file(name)
        if file is None:
            return
        yield from ((model, False) for model in file["models"])
        for other in file.get("fallbacks", ()):
            resold = self._file(other)
            if resold is not None:
                yield from ((model, True) for model in resold["models"])

    def _file(self, name: str) -> Mapping[str, Any] | None:
        if name not in self._files:
            content = self._load(name)
            _forget_some(self._files)[name] = None if content is None else orjson.loads(content)
        return self._files[name]

    def _price(self, entry: _Entry, at: datetime, context: Mapping[str, str] | None) -> ModelPrice:
        """The last price that applies at `at`, or else the first; then the variants that `context` asks for."""
        prices = entry.document["prices"]
        index = next((each for each in range(len(prices) - 1, -1, -1) if applies(prices[each], at)), 0)
        if context:
            return self._price_under(prices[index], entry, at, context)
        made = entry.made.get(index)
        if made is None:
            made = entry.made[index] = _model_price(prices[index], entry, self.version)
        return made

    def _price_under(
        self, price: Mapping[str, Any], entry: _Entry, at: datetime, context: Mapping[str, str]
    ) -> ModelPrice:
        """The first variant that names a kind prices it; what multiplies, multiplies all tokens, one upon another."""
        chosen, factor, met = dict(price), Decimal(1), set[str]()
        if not entry.resold:
            for variant in reversed(entry.document.get("variants", ())):
                if applies(variant, at) and variant["when"].items() <= context.items():
                    chosen.update(variant)
                    met.update(variant["when"])
            for multiplier in entry.document.get("multipliers", ()):
                if multiplier["when"].items() <= context.items():
                    factor *= Decimal(multiplier["by"])
                    met.update(multiplier["when"])
        unmet = "".join(f"+standard-for-{value}" for key, value in context.items() if key not in met)
        return _model_price(chosen, entry, self.version + unmet, factor)


def operator_price(price: Price, tier: str | None = None) -> ModelPrice:
    """The operator's price in a service tier, with a version that changes when the price does."""
    digest = hashlib.sha256(repr(astuple(price)).encode()).hexdigest()[:12]
    standard = {name: text for name in TOKEN_PRICES if (text := getattr(price, name)) is not None}
    rates = {_OPERATOR_RATES[name]: Rate(Decimal(text)) for name, text in standard.items()}
    for above, changes in price.above:
        for key, text in _rates_of(changes):
            before = rates.get(key) or Rate(_around(key, rates))
            rates[key] = Rate(before.base, (*before.tiers, (above, Decimal(text))))
    tiers = dict(price.service_tiers)
    if tier in tiers:
        rates |= {key: Rate(Decimal(text)) for key, text in _rates_of(tiers[tier])}
    return ModelPrice(
        rates=rates,
        version=f"operator-{digest}" + (f"+standard-for-{tier}" if tier is not None and tier not in tiers else ""),
        per_request=None if price.per_request is None else Decimal(price.per_request),
        per_search=None if price.web_search is None else Decimal(price.web_search),
    )


def _rates_of(changes: PriceChanges) -> Iterator[tuple[str, str]]:
    return ((_OPERATOR_RATES[name], text) for name, text in changes)


def _around(key: str, rates: Mapping[str, Rate]) -> Decimal:
    """What a kind without a price of its own costs below the first tier: as much as the kind around it."""
    return rates["output_mtok" if key.startswith("output") else "input_mtok"].base


def _model_price(document: Mapping[str, Any], entry: _Entry, version: str, factor: Decimal | None = None) -> ModelPrice:
    rates = {key: _rate(value) for key, value in document.items() if key.endswith("_mtok")}
    if factor is not None:
        rates = {key: rate.times(factor) for key, rate in rates.items()}
    return ModelPrice(
        rates=rates,
        version=version,
        per_request=_a_piece(document.get("requests_kcount")),
        per_search=_a_piece(document.get("web_searches_kcount")),
        context_window=entry.document.get("context_window"),
    )


def _a_piece(per_thousand: str | None) -> Decimal | None:
    return None if per_thousand is None else Decimal(per_thousand).scaleb(-3)


def _rate(value: str | Mapping[str, Any]) -> Rate:
    if isinstance(value, str):
        return Rate(Decimal(value))
    return Rate(Decimal(value["base"]), tuple((above, Decimal(price)) for above, price in value["tiers"]))


def _forget_some(memory: dict[_Key, _Value]) -> dict[_Key, _Value]:
    """`memory` with room for one more: the oldest half goes when it is full."""
    if len(memory) >= _MOST_MODELS:
        for key in list(memory)[: _MOST_MODELS // 2]:
            del memory[key]
    return memory
