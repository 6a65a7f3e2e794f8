"""What a call costs: token counts times prices, and the fees beside them, exact to the last digit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

from llm_gateway.domain.usage import Cost, Usage
from llm_gateway.metering.prices import ModelPrice, Rate

_EXACT = Context(prec=120)
"""Wide enough that no sum of token counts times prices is ever rounded; the default context keeps 28 digits."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of token. `within` are the kinds that count it too: a token is billed once, at the narrowest price."""

    rate: str
    count: Callable[[Usage], int]
    within: tuple[str, ...] = ()


_KINDS = (
    _Kind(
        "cache_audio_read_mtok",
        lambda usage: usage.cached_audio_tokens,
        ("cache_read_mtok", "input_audio_mtok", "input_mtok"),
    ),
    _Kind(
        "cache_image_read_mtok",
        lambda usage: usage.cached_image_tokens,
        ("cache_read_mtok", "input_image_mtok", "input_mtok"),
    ),
    _Kind("cache_write_1h_mtok", lambda usage: usage.cache_write_1h_tokens, ("cache_write_mtok", "input_mtok")),
    _Kind("cache_read_mtok", lambda usage: usage.cached_tokens, ("input_mtok",)),
    _Kind("cache_write_mtok", lambda usage: usage.cache_write_tokens + usage.cache_write_1h_tokens, ("input_mtok",)),
    _Kind("input_audio_mtok", lambda usage: usage.input_audio_tokens, ("input_mtok",)),
    _Kind("input_image_mtok", lambda usage: usage.input_image_tokens, ("input_mtok",)),
    _Kind("input_video_mtok", lambda usage: usage.input_video_tokens, ("input_mtok",)),
    _Kind("input_mtok", lambda usage: usage.input_tokens),
    _Kind("output_reasoning_mtok", lambda usage: usage.reasoning_tokens, ("output_mtok",)),
    _Kind("output_audio_mtok", lambda usage: usage.output_audio_tokens, ("output_mtok",)),
    _Kind("output_image_mtok", lambda usage: usage.output_image_tokens, ("output_mtok",)),
    _Kind("output_video_mtok", lambda usage: usage.output_video_tokens, ("output_mtok",)),
    _Kind("output_citation_mtok", lambda usage: usage.citation_tokens, ("output_mtok",)),
    _Kind("output_mtok", lambda usage: usage.output_tokens),
)
"""Narrow kinds before wide ones: what a narrow kind bills is taken off the wide ones that hold it."""

TOKEN_RATES = frozenset(kind.rate for kind in _KINDS)
"""The book's prices of tokens that are counted here."""

_WHOLE = ("input_mtok", "output_mtok")

_CACHED_OF: tuple[tuple[str, str, Callable[[Usage], int]], ...] = (
    ("cache_audio_read_mtok", "input_audio_mtok", lambda usage: usage.cached_audio_tokens),
    ("cache_image_read_mtok", "input_image_mtok", lambda usage: usage.cached_image_tokens),
)
"""Kinds that are both cached and of a medium, with the medium that counts them too."""


def cost(usage: Usage, price: ModelPrice | None, version: str) -> Cost:
    """The exact cost of `usage`, not rounded; `version` stands in where there is no price.

    A kind without a price of its own costs what the kind around it costs: reasoning as output, a cache write as
    input. Counts that contradict each other (more cached tokens than input) bill every kind that is
    reported, and never less than nothing. `usd` is None where anything counted has no price: unpriced is not free.
    """
    if price is None:
        return Cost(None, version)
    billed, unpriced = _billed_tokens(usage, price.rates)
    fees = _fees(usage, price)
    if unpriced or fees is None or not (price.rates or price.per_request is not None):
        return Cost(None, price.version)
    total = fees
    for kind, tokens in billed.items():
        rate = price.rates[kind].at(usage.input_tokens)
        total = _EXACT.add(total, _EXACT.multiply(rate, _EXACT.scaleb(Decimal(tokens), -6)))
    return Cost(_plain(total), price.version)


def marked_up(cost: Cost, factor: Decimal | None) -> Cost:
    """What a team is charged, with what the provider bills beside it; the same cost without a factor."""
    if factor is None or cost.usd is None:
        return cost
    return Cost(_plain(_EXACT.multiply(cost.usd, factor)), cost.price_version, provider_usd=cost.usd)


def total_cost(parts: Sequence[Cost]) -> Cost:
    """The exact sum of several calls, which share a price; `usd` is None where one has none."""
    total = provider_total = Decimal(0)
    for part in parts:
        if part.usd is None:
            return part
        total = _EXACT.add(total, part.usd)
        provider_total = _EXACT.add(provider_total, part.usd if part.provider_usd is None else part.provider_usd)
    marked = any(part.provider_usd is not None for part in parts)
    return Cost(_plain(total), parts[0].price_version, provider_usd=_plain(provider_total) if marked else None)


def format_usd(amount: Decimal) -> str:
    """Plain notation without an exponent or trailing zeros: `0.00123`, `10`, `0`."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _billed_tokens(usage: Usage, rates: Mapping[str, Rate]) -> tuple[dict[str, int], bool]:
    """Tokens by the kind they are billed as, and whether some are left that nothing prices."""
    left = {kind.rate: kind.count(usage) for kind in _KINDS}
    if "cache_read_mtok" in rates:
        # Cached audio is both; without a price of its own it is billed once, as cached. genai-prices would bill it as
        # both, but its book has no model with these two prices and not the third.
        for both, medium, count in _CACHED_OF:
            if both not in rates:
                left[medium] -= count(usage)
    billed: dict[str, int] = {}
    for kind in _KINDS:
        tokens = left[kind.rate]
        if tokens <= 0 or kind.rate not in rates:
            continue
        billed[kind.rate] = tokens
        for wider in kind.within:
            left[wider] -= tokens
    return billed, any(left[kind] > 0 and kind not in rates for kind in _WHOLE)


def _fees(usage: Usage, price: ModelPrice) -> Decimal | None:
    """For the call as such and for searches; None where searches were billed and nobody knows at what price.

    A provider that charges for the call (Perplexity) has its searches in that fee.
    https://docs.perplexity.ai/getting-started/pricing
    """
    total = price.per_request or Decimal(0)
    if usage.told_request_fee_usd is not None and price.per_request is not None:
        total = usage.told_request_fee_usd
    if not usage.web_searches:
        return total
    if price.per_search is None:
        return None if price.per_request is None else total
    return _EXACT.add(total, _EXACT.multiply(price.per_search, Decimal(usage.web_searches)))


def _plain(amount: Decimal) -> Decimal:
    """Without trailing zeros and without an exponent: `Decimal("10")`, not `Decimal("1E+1")`."""
    return Decimal(format_usd(amount))
