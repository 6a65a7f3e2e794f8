"""OpenRouter's `provider` member with a price that no host may exceed.

OpenRouter lists one price for a model, sends it to whichever host will have it, and bills that host's price. Under a
hard budget it is told the most that may be paid; without a host that cheap it answers with an error, and bills nothing.
Sources: https://openrouter.ai/docs/features/provider-routing (max_price),
https://openrouter.ai/docs/client-sdks/typescript/models/maxprice (US dollars per million tokens, as text)
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from llm_gateway.metering.bound_fields import unbounded
from llm_gateway.metering.cost import format_usd
from llm_gateway.metering.prices import ModelPrice

_KINDS = {"prompt": "input_mtok", "completion": "output_mtok"}


def capped_hosts(fields: Mapping[str, Any], price: ModelPrice, kinds: frozenset[str]) -> dict[str, Any]:
    """The `provider` member to send: the caller's own, its `max_price` lowered to what the bound was made with.

    `kinds` are the bound's: with an image, a host that charges for each image is out, since the book has no such price.

    Raises `InvalidRequest` where the caller's is no such object.
    """
    given = fields.get("provider") or {}
    wanted = (given.get("max_price") or {}) if isinstance(given, dict) else None
    if not isinstance(wanted, dict):
        raise unbounded("provider", "it is not an object with a `max_price` of prices")
    capped = {"request": format_usd(price.per_request or Decimal(0))}
    if "image" in kinds:
        capped["image"] = "0"
    for name, kind in _KINDS.items():
        capped[name] = format_usd(min(price.rates[kind].base, _amount(wanted.get(name), price.rates[kind].base)))
    return {**given, "max_price": {**wanted, **capped}}


def _amount(value: Any, default: Decimal) -> Decimal:
    if value is None:
        return default
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise unbounded("provider.max_price", "a price must be a number")
    return amount
