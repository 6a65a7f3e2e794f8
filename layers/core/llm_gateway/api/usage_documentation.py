"""What `/docs` says of the routes of usage."""

from typing import Any, Final

from llm_gateway.api.documentation import reading
from llm_gateway.api.usage_parameters import (
    FILTERS,
    MOST_REQUESTS,
    MOST_ROWS,
    REQUEST_FILTERS,
    REQUESTS,
    ROWS,
    STATUSES,
)
from llm_gateway.api.usage_rendering import MEASURES
from llm_gateway.domain.totals import DIMENSIONS, GROUPS
from llm_gateway.pipeline.usage_question import DAY, DEFAULT_DAYS, MOST_DAYS

_KEPT = ", ".join(" x ".join(group) for group in GROUPS)
_DATE = {"type": "string", "format": "date"}


def _parameter(name: str, description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema or {"type": "string"}}


def _paging(default: int, most: int) -> list[dict[str, Any]]:
    return [
        _parameter(
            "from", f"The first day (UTC); by default {DEFAULT_DAYS} days until `to`, {MOST_DAYS} at most.", _DATE
        ),
        _parameter("to", "The last day, included; by default today.", _DATE),
        _parameter("limit", "Of one page.", {"type": "integer", "minimum": 1, "maximum": most, "default": default}),
        _parameter("next", "What the page before gave as `next`, with the same parameters."),
    ]


def _page(items: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "from": _DATE,
        "to": _DATE,
        "data": {"type": "array", "items": items},
        "next": {"type": ["string", "null"]},
    }
    return {"application/json": {"schema": {"type": "object", "properties": properties}}}


def _measure(name: str) -> dict[str, Any]:
    if name == "cost_usd":
        return {"type": "string", "description": "Exact US dollars."}
    return {"type": ["integer", "null"] if name.endswith("_ms") else "integer"}


_ROW: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        DAY: _DATE,
        **{dimension: {"type": ["string", "null"]} for dimension in DIMENSIONS},
        **{name: _measure(name) for name in MEASURES},
    },
}
_TOTALS = reading("Usage by day, and by who and what", statuses=("400", "401", "403", "503"))
_TOTALS["parameters"] = [
    *_paging(ROWS, MOST_ROWS),
    _parameter("group_by", f"`{DAY}` (the default) and dimensions, with commas. Totals are kept by {_KEPT}."),
    *(_parameter(name, f"Only of this {name}.") for name in FILTERS),
    _parameter("format", "CSV comes whole, without pages.", {"type": "string", "enum": ["json", "csv"]}),
]
_TOTALS["responses"]["200"] = {
    "description": "Rows, by day and then by value",
    "content": {**_page(_ROW), "text/csv": {"schema": {"type": "string"}}},
}

_LIST = reading("Requests that have ended, newest first", statuses=("400", "401", "403", "503"))
_LIST["parameters"] = [
    *_paging(REQUESTS, MOST_REQUESTS),
    *(_parameter(name, f"Only of this {name}.") for name in REQUEST_FILTERS),
    _parameter("status", "Only in this state.", {"type": "string", "enum": list(STATUSES)}),
]
_LIST["responses"]["200"] = {"description": "Ledger entries", "content": _page({"type": "object"})}

USAGE: Final[dict[str, dict[str, Any]]] = {
    "/usage": _TOTALS,
    "/usage/requests": _LIST,
    "/usage/requests/{request_id}": reading("A request's ledger entry", "request_id"),
}
