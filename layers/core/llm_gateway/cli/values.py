"""What options say in short: spans of time, budgets, filters. What reads them raises `typer.BadParameter`."""

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final, get_args

import typer

from llm_gateway.domain.limits import Period

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PERIODS: Final = get_args(Period)
_LONGEST_S: Final = 3660 * 86400


def span(text: str) -> int:
    """`1h`, `30m`, `45s`, `7d` or `0`, in seconds."""
    found = re.fullmatch(r"([0-9]{1,8})([smhd])|0", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no span of time: write it such as 45s, 30m, 1h, 7d, or 0")
    length = int(found[1]) * _UNITS[found[2]] if found[1] else 0
    if length > _LONGEST_S:
        raise typer.BadParameter(f"{text!r} is longer than ten years")
    return length


def budget(text: str | None) -> dict[str, Any] | None:
    """`50/month` as gateway.toml has it: `{"usd": "50", "period": "month"}`."""
    if text is None:
        return None
    usd, slash, period = text.partition("/")
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        amount = Decimal(-1)
    if not slash or period.strip() not in _PERIODS or not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{text!r} is no budget: write US dollars and a period, such as 50/month or 2.50/day")
    return {"usd": usd.strip(), "period": period.strip()}


def where(given: Iterable[str] | None, names: tuple[str, ...]) -> dict[str, str]:
    """`["team=search"]` as `{"team": "search"}`; only of these names."""
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not equals or not value or name not in names:
            raise typer.BadParameter(f"{each!r}: write NAME=VALUE, the name being one of {', '.join(names)}")
        found[name] = value
    return found


def a_name(text: str | None) -> str | None:
    """A callback of options and arguments: there is something in a name."""
    if text is not None and not text.strip():
        raise typer.BadParameter("the name is empty")
    return text


def known_providers(incomplete: str) -> list[str]:
    """For completion: those that ship with the gateway."""
    from llm_gateway.catalog.providers import provider_rows

    return [name for name in sorted(provider_rows()) if name.startswith(incomplete)]
