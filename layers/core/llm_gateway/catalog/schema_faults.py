"""Turns pydantic's errors about gateway.toml into lines an operator can act on. Never shows a key's text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from llm_gateway.catalog.faults import did_you_mean, one_of, where
from llm_gateway.catalog.schema import (
    BUDGETS,
    ENTRIES,
    ONE_BUDGET,
    TABLES,
    GatewayFile,
    PriceChangesTable,
    ProviderModelTable,
    Table,
    TeamProviderTable,
)

_MUST_BE = {
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "list_type": "must be an array",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "timezone_aware": "must be a date and time with an offset, such as 2027-01-31T00:00:00Z",
    "datetime_type": "must be a date and time with an offset, such as 2027-01-31T00:00:00Z",
    "datetime_parsing": "must be a date and time with an offset, such as 2027-01-31T00:00:00Z",
    "datetime_from_date_parsing": "must be a date and time with an offset, such as 2027-01-31T00:00:00Z",
    "missing": "is required",
}


def schema_faults(error: ValidationError) -> Iterator[str]:
    """One line per fault: `models.fast.deployments[0].wieght: is not a key here (did you mean "weight"?); …`."""
    for fault in error.errors(include_url=False):
        path = _of_the_file(fault["loc"])
        if path[-1:] == ("[key]",):
            yield f"{where(path[:-1])}: the name {_reason(fault)}"
        else:
            yield f"{where(path)}: {_reason(fault)}"


def _reason(fault: Mapping[str, Any]) -> str:
    kind: str = fault["type"]
    limits: Mapping[str, Any] = fault.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(_of_the_file(fault["loc"]))
    if kind == "literal_error":
        given = fault["input"]
        shown = f'"{given}"' if isinstance(given, str) else "this"
        return f"{shown} is not allowed here: it must be {limits['expected']}"
    if kind in {"greater_than_equal", "greater_than", "less_than_equal", "less_than"}:
        return str(fault["msg"]).replace("Input should be", "must be")
    if kind == "too_short":
        return "must not be empty"
    if kind == "too_long":
        return f"must hold at most {limits['max_length']}"
    return _MUST_BE.get(kind) or str(fault["msg"])


def _of_the_file(path: Sequence[str | int]) -> tuple[str | int, ...]:
    """The path without the steps that only the schema has."""
    return tuple(step for step in path if step not in (ONE_BUDGET, BUDGETS))


def _unknown_key(path: Sequence[str | int]) -> str:
    allowed = table_at(path[:-1]).model_fields
    return f"is not a key here{did_you_mean(str(path[-1]), allowed)}; allowed: {one_of(allowed)}"


def table_at(path: Sequence[str | int]) -> type[Table]:
    """The model of the table at `path`; array positions do not matter."""
    names = [step for step in path if isinstance(step, str)]
    if not names:
        return GatewayFile
    if len(names) <= 2 and names[0] in ENTRIES:
        return ENTRIES[names[0]]
    if names[0] == "providers" and names[2:3] == ["models"]:
        return ProviderModelTable
    if names[0] == "teams" and names[2:3] == ["providers"]:
        return TeamProviderTable
    if names[0] == "prices" and names[2:3] == ["service_tiers"]:
        return PriceChangesTable
    return TABLES.get(names[-1], GatewayFile)
