"""Finds a model's entry in the price book: the match clauses and the choice among dated prices.

The clauses and their order are genai-prices' own: https://github.com/pydantic/genai-prices
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

_COMPACT_DATE = re.compile(r"(?<=-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def matches(clause: Mapping[str, Any], model: str) -> bool:  # noqa: PLR0911 - one return a kind
    """Whether a one-key clause holds for a lower-case model name. Raises `ValueError` on a clause it does not know."""
    ((kind, value),) = clause.items()
    match kind:
        case "equals":
            return bool(model == value)
        case "starts_with":
            return model.startswith(value)
        case "ends_with":
            return model.endswith(value)
        case "contains":
            return value in model
        case "regex":
            return re.search(value, model) is not None
        case "or":
            return any(matches(each, model) for each in value)
        case "and":
            return all(matches(each, model) for each in value)
    raise ValueError(f"the price book has a match clause of an unknown kind: {kind}")


def dashed_dates(model: str) -> str:
    """`gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: resellers write dates that way. Impossible dates stay as they are."""
    return _COMPACT_DATE.sub(_dashed, model)


def _dashed(found: re.Match[str]) -> str:
    try:
        return date(*map(int, found.groups())).isoformat()
    except ValueError:
        return found[0]


def applies(price: Mapping[str, Any], at: datetime) -> bool:
    """Whether a price holds at `at`: from a UTC date on, or daily between two UTC times, the second one excluded.

    A time without a zone is UTC. Without either constraint a price always holds.
    """
    moment = at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if "from_date" in price:
        return moment.date() >= date.fromisoformat(price["from_date"])
    if "from_time" in price:
        start, end = time.fromisoformat(price["from_time"]), time.fromisoformat(price["to_time"])
        now = moment.time()
        return start <= now < end if start <= end else now >= start or now < end
    return True
