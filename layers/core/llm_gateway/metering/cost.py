"""What a call costs: token counts times prices, exact to the last digit."""

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
    _Kind("cache_write_1h_mtok", lambda usage: usage.cache_write_1h_tokens, ("cache_write_mtok", "input_mtok")),
    _Kind("cache_read_mtok", lambda usage: usage.cached_tokens, ("input_mtok",)),
    _Kind("cache_write_mtok", lambda usage: usage.cache_write_tokens + usage.cache_write_1h_tokens, ("input_mtok",)),
    _Kind("input_audio_mtok", lambda usage: usage.input_audio_tokens, ("input_mtok",)),
    _Kind("input_mtok", lambda usage: usage.input_tokens),
    _Kind("output_reasoning_mtok", lambda usage: usage.reasoning_tokens, ("output_mtok",)),
    _Kind("output_audio_mtok", lambda usage: usage.output_audio_tokens, ("output_mtok",)),
    _Kind("output_mtok", lambda usage: usage.output_tokens),
)
"""Narrow kinds before wide ones: what a narrow kind bills is taken off the wide ones that hold it."""

_WHOLE = ("input_mtok", "output_mtok")


def cost(usage: Usage, price: ModelPrice | None, version: str) -> Cost:
    """The exact cost of `usage`, not rounded; `version` stands in where there is no price.

    A kind without a price of its own costs what the kind around it costs: reasoning as output, a cache write as
    input. Counts that contradict each other (more cached tokens than input) bill every kind that is
    reported, and never less than nothing. `usd` is None where any counted token has no price: unpriced is not free.
    """
    if price is None:
        return Cost(None, version)
    billed, unpriced = _billed_tokens(usage, price.rates)
    if unpriced or not (price.rates or price.per_request is not None):
        return Cost(None, price.version)
    total = price.per_request or Decimal(0)
    for kind, tokens in billed.items():
        rate = price.rates[kind].at(usage.input_tokens)
        total = _EXACT.add(total, _EXACT.multiply(rate, _EXACT.scaleb(Decimal(tokens), -6)))
    return Cost(_plain(total), price.version)


def total_cost(parts: Sequence[Cost]) -> Cost:
    """The exact sum of several calls, which share a price; `usd` is None where one has none."""
    total = Decimal(0)
    for part in parts:
        if part.usd is None:
            return part
        total = _EXACT.add(total, part.usd)
    return Cost(_plain(total), parts[0].price_version)


def format_usd(amount: Decimal) -> str:
    """Plain notation without an exponent or trailing zeros: `0.00123`, `10`, `0`."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _billed_tokens(usage: Usage, rates: Mapping[str, Rate]) -> tuple[dict[str, int], bool]:
    """Tokens by the kind they are billed as, and whether some are left that nothing prices."""
    left = {kind.rate: kind.count(usage) for kind in _KINDS}
    if "cache_audio_read_mtok" not in rates and "cache_read_mtok" in rates:
        # Cached audio is both; without a price of its own it is billed once, as cached. genai-prices would bill it as
        # both, but its book has no model with these two prices and not the third.
        left["input_audio_mtok"] -= usage.cached_audio_tokens
    billed: dict[str, int] = {}
    for kind in _KINDS:
        tokens = left[kind.rate]
        if tokens <= 0 or kind.rate not in rates:
            continue
        billed[kind.rate] = tokens
        for wider in kind.within:
            left[wider] -= tokens
    return billed, any(left[kind] > 0 and kind not in rates for kind in _WHOLE)


def _plain(amount: Decimal) -> Decimal:
    """Without trailing zeros and without an exponent: `Decimal("10")`, not `Decimal("1E+1")`."""
    return Decimal(format_usd(amount))
