"""A `price` document of the registry as a `Price`: what an operator says that a model costs.

`{"input": "0.10", "output": "0.40", …, "per_request": "0.001", "web_search": "0.01",
  "above": [{"input_tokens": 200000, "input": "0.20"}], "service_tiers": {"flex": {"input": "0.05"}}}`
"""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from llm_gateway.catalog.faults import ConfigError
from llm_gateway.domain.catalog import TOKEN_PRICES, Price, PriceChanges

_FEES = ("per_request", "web_search")


def read_price(fields: Mapping[str, Any], fault: Callable[[str], ConfigError]) -> Price:
    """Raises what `fault` makes of a message that begins with the key at fault."""
    amounts = {kind: _amount(fields, kind, kind, fault) for kind in (*TOKEN_PRICES, *_FEES)}
    for kind in ("input", "output"):
        if amounts[kind] is None:
            raise fault(f"{kind}: is missing")
    above = []
    for index, each in enumerate(_holder(fields, "above", list, fault)):
        place = f"above[{index}]"
        tokens = each.get("input_tokens") if isinstance(each, Mapping) else None
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise fault(f"{place}.input_tokens: must be a positive number")
        above.append((tokens, _changes(each, place, fault)))
    tiers = [
        (name, _changes(each, f"service_tiers.{name}", fault))
        for name, each in _holder(fields, "service_tiers", dict, fault).items()
    ]
    return Price(**amounts, above=tuple(sorted(above)), service_tiers=tuple(tiers))


def _changes(fields: Any, place: str, fault: Callable[[str], ConfigError]) -> PriceChanges:
    if not isinstance(fields, Mapping):
        raise fault(f"{place}: must be a table")
    amounts = ((kind, _amount(fields, kind, f"{place}.{kind}", fault)) for kind in TOKEN_PRICES)
    return tuple((kind, text) for kind, text in amounts if text is not None)


def _holder(fields: Mapping[str, Any], key: str, kind: type, fault: Callable[[str], ConfigError]) -> Any:
    value = fields.get(key)
    if value is not None and not isinstance(value, kind):
        raise fault(f"{key}: must be {kind.__name__}, not {type(value).__name__}")
    return value or kind()


def _amount(fields: Mapping[str, Any], kind: str, place: str, fault: Callable[[str], ConfigError]) -> Any:
    text = fields.get(kind)
    if text is None:
        return None
    if not isinstance(text, str):
        raise fault(f"{place}: must be str, not {type(text).__name__}")
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise fault(f'{place}: "{text}" is not a decimal') from None
    if not amount.is_finite() or amount < 0:
        raise fault(f'{place}: "{text}" is not an amount of money')
    return text
