"""What the Usage table's items are made of: one for each row of `domain.totals`. docs/ledger.md tells the scheme.

`pk` is the group (`team`, `team#model`), `sk` the day and the values (`2026-11-21#search#gpt-4.1`), so that any days of
a group are one query. The attributes are numbers, and whatever is zero is not there.
"""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote

from llm_gateway.adapters.attributes import Item, decode_record, encode_record, number
from llm_gateway.domain.totals import COUNTS, GROUPS, Group, Histogram, Row, Totals
from llm_gateway.domain.usage import RequestRecord

# Shorter than the fields' own names: an item's size counts them, and 1,024 bytes are one write unit.
_COUNTS: Final = {name: name.removesuffix("_tokens").removesuffix("_ms") for name in COUNTS}
_COST: Final = "cost"
_LATENCY: Final = "l"
_TTFT: Final = "t"
_MAP: Final = {":map": {"S": "M"}}


def group_key(group: Group) -> str:
    """Raises `ValueError` for a group that is not kept."""
    if group not in GROUPS:
        raise ValueError(f"no totals are kept by {' and '.join(group)}")
    return "#".join(group)


def row_key(row: Row) -> Item:
    return {"pk": {"S": group_key(row.group)}, "sk": {"S": "#".join([row.day.isoformat(), *map(_escaped, row.values)])}}


def row_of(key: Item) -> Row:
    """`row_key` backwards. Raises `ValueError` for a key that is none of it."""
    group, (day, *values) = tuple(key["pk"]["S"].split("#")), key["sk"]["S"].split("#")
    if group not in GROUPS or len(values) != len(group):
        raise ValueError(f"{key} is no row of totals")
    return Row(group, date.fromisoformat(day), tuple(map(_value, values)))


def day_prefix(day: date, value: str | None) -> str:
    """How the sort keys begin of the rows of a day whose first value is this one."""
    return f"{day.isoformat()}#{_escaped(value)}"


def encode_totals(totals: Totals) -> dict[str, str]:
    """Numbers by attribute, without those that are zero."""
    counts: dict[str, int] = {attribute: getattr(totals, name) for name, attribute in _COUNTS.items()}
    counts |= {f"{_LATENCY}{bound}": count for bound, count in totals.latency.counts.items()}
    counts |= {f"{_TTFT}{bound}": count for bound, count in totals.ttft.counts.items()}
    numbers = {name: str(count) for name, count in counts.items() if count}
    if totals.cost_usd:
        numbers[_COST] = number(totals.cost_usd)
    return numbers


def decode_totals(item: Item) -> Totals:
    fields: dict[str, Any] = {
        name: int(Decimal(item[attribute]["N"])) for name, attribute in _COUNTS.items() if attribute in item
    }
    cost = Decimal(item[_COST]["N"]) if _COST in item else Decimal(0)
    return Totals(**fields, cost_usd=cost, latency=_histogram(item, _LATENCY), ttft=_histogram(item, _TTFT))


def addition(totals: Totals) -> dict[str, Any]:
    """The members of an update that adds these totals to a row, which may not be there yet."""
    numbers = encode_totals(totals)
    # Placeholders for every name: `calls`, `output` and whatever DynamoDB may reserve one day.
    return {
        "UpdateExpression": "ADD " + ",".join(f"#{index} :{index}" for index in range(len(numbers))),
        "ExpressionAttributeNames": {f"#{index}": name for index, name in enumerate(numbers)},
        "ExpressionAttributeValues": {f":{index}": {"N": value} for index, value in enumerate(numbers.values())},
    }


def folded_mark(record: RequestRecord) -> dict[str, Any]:
    """What a request's item says once it counts: its status, or all of an abandoned record, which may still change.

    The stream's filter in `template.yaml` relies on it: a string is final.
    """
    if record.status != "abandoned":
        return {"S": record.status}
    return {"M": encode_record(record)}


def marking(record: RequestRecord, before: RequestRecord | None) -> dict[str, Any]:
    """The members of an update that marks a request as counted, if it is in the state that is being counted."""
    counted_before = "attribute_not_exists(folded)" if before is None else "attribute_type(folded, :map)"
    return {
        "UpdateExpression": "SET folded = :mark",
        "ConditionExpression": f"#status = :status AND {counted_before}",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": {
            ":mark": folded_mark(record),
            ":status": {"S": record.status},
            **({} if before is None else _MAP),
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def uncounted(item: Item) -> tuple[RequestRecord, RequestRecord | None] | None:
    """What a request's item says that its mark does not: the record, and the state that counted before, if any.

    None where there is nothing to count. Raises what `decode_record` raises for an item that is no record.
    """
    record, mark = decode_record(item), item.get("folded", {})
    if record.status == "open" or "S" in mark or ("M" in mark and record.status == "abandoned"):
        return None
    return record, decode_record(mark["M"]) if "M" in mark else None


def _histogram(item: Item, kind: str) -> Histogram:
    bounds: Mapping[str, str] = {name: name[1:] for name in item if name[0] == kind and name[1:].isdecimal()}
    return Histogram({int(bound): int(Decimal(item[name]["N"])) for name, bound in bounds.items()})


def _escaped(value: str | None) -> str:
    """None is nothing at all, an empty text a lone `%`."""
    if value is None:
        return ""
    return value.replace("%", "%25").replace("#", "%23") or "%"


def _value(escaped: str) -> str | None:
    if escaped == "":
        return None
    return "" if escaped == "%" else unquote(escaped)
