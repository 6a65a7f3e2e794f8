"""The query strings of `/usage` and `/usage/requests`, read strictly: what is not understood is refused."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal
from urllib.parse import parse_qsl

from llm_gateway.domain.listing import Wanted
from llm_gateway.domain.totals import Dimension
from llm_gateway.domain.usage import Status
from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.usage_question import DAY, Days, UsageQuestion, days_between

ROWS: Final = 1000
MOST_ROWS: Final = 10_000
REQUESTS: Final = 50
MOST_REQUESTS: Final = 100
"""As many items as one call of the store reads."""
FILTERS: Final[tuple[Dimension, ...]] = ("team", "key", "user", "tag", "provider", "model")
REQUEST_FILTERS: Final = ("team", "key", "user", "model", "provider")
STATUSES: Final[tuple[Status, ...]] = ("settled", "failed", "abandoned")

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_LONGEST_VALUE: Final = 1024
_PAGING: Final = ("from", "to", "limit", "next")

Format = Literal["json", "csv"]
Today = Callable[[], date]


@dataclass(frozen=True, slots=True)
class UsageParameters:
    question: UsageQuestion
    format: Format
    limit: int
    next: str | None


@dataclass(frozen=True, slots=True)
class RequestsParameters:
    days: Days
    wanted: Wanted
    limit: int
    next: str | None


def usage_parameters(query: bytes, accept: str | None, today: date) -> UsageParameters:
    """Raises `InvalidRequest`, with the parameter at fault as `param`."""
    given = _once(query, (*_PAGING, "group_by", "format", *FILTERS), lists=("group_by",))
    named = given.get("format")
    if named not in (None, "json", "csv"):
        raise InvalidRequest(f"`format` is `json` or `csv`, not `{named}`.", param="format")
    csv = named == "csv" or (named is None and _prefers_csv(accept))
    if csv and (given.keys() & {"limit", "next"}):
        raise InvalidRequest("CSV comes whole, without pages: it takes no `limit` and no `next`.", param="format")
    where: dict[Dimension, str] = {name: given[name] for name in FILTERS if name in given}
    question = UsageQuestion(_days(given, today), _group_by(given), where)
    return UsageParameters(question, "csv" if csv else "json", _limit(given, ROWS, MOST_ROWS), given.get("next"))


def requests_parameters(query: bytes, today: date) -> RequestsParameters:
    """Raises `InvalidRequest`, with the parameter at fault as `param`."""
    given = _once(query, (*_PAGING, *REQUEST_FILTERS, "status"))
    status = next((each for each in STATUSES if each == given.get("status")), None)
    if "status" in given and status is None:
        raise InvalidRequest(
            f"`status` is one of {', '.join(STATUSES)}, not `{given['status']}`: only ended requests are listed.",
            param="status",
        )
    days = _days(given, today)
    first_ms, until_ms = days.milliseconds()
    wanted = Wanted(
        first_ms,
        until_ms,
        team=given.get("team"),
        key=given.get("key"),
        user=given.get("user"),
        model=given.get("model"),
        provider=given.get("provider"),
        status=status,
    )
    return RequestsParameters(days, wanted, _limit(given, REQUESTS, MOST_REQUESTS), given.get("next"))


def _once(query: bytes, known: Iterable[str], lists: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Each parameter's value; those of `lists` may be given again, and are joined with commas."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise InvalidRequest("The query string is not valid: it is UTF-8, percent-encoded.") from None
    found: dict[str, str] = {}
    names = tuple(known)
    for name, value in pairs:
        if name not in names:
            raise InvalidRequest(f"There is no parameter `{name}` here: there are {', '.join(names)}.", param=name)
        if not 0 < len(value) <= _LONGEST_VALUE and name != "next":
            raise InvalidRequest(f"`{name}` is empty or too long.", param=name)
        if name in found and name not in lists:
            raise InvalidRequest(f"`{name}` is given twice.", param=name)
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _group_by(given: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in given["group_by"].split(",")) if "group_by" in given else (DAY,)


def _days(given: Mapping[str, str], today: date) -> Days:
    return days_between(_date(given, "from"), _date(given, "to"), today)


def _date(given: Mapping[str, str], name: str) -> date | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        # `fromisoformat` alone would take `20261121` and `2026-W47-6` too.
        if _DATE.match(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidRequest(f"`{name}` is a day such as 2026-11-21 (UTC), not `{text}`.", param=name)


def _limit(given: Mapping[str, str], default: int, most: int) -> int:
    text = given.get("limit")
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most:
        return int(text)
    raise InvalidRequest(f"`limit` is a number from 1 to {most}, not `{text}`.", param="limit")


def _prefers_csv(accept: str | None) -> bool:
    types = [part.split(";")[0].strip().lower() for part in (accept or "").split(",")]
    return "text/csv" in types and "application/json" not in types
