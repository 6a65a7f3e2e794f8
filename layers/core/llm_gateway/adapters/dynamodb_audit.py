"""The audit trail in DynamoDB: one item an event, in the Registry table.

| pk | sk | holds |
|---|---|---|
| `audit` | `<Unix milliseconds>#<event id>` | `event`: JSON; `attempt`: of a commit, whose it was |

One partition takes a thousand events a second; people and pipelines change a configuration some times an hour.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import orjson

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.registry_items import RegistryItems
from llm_gateway.adapters.registry_tree import item_key
from llm_gateway.domain.audit import AuditChange, AuditEvent, AuditFilter, AuditPage, AuditPosition

_ROOM: Final = 100_000
"""Bytes of an event's changes; an item has 400 KB."""
_READ_AT_ONCE: Final = 200
_READS: Final = 10
"""Of one page: a filter that matches nothing must not read the trail of years."""
_LAST: Final = "9" * 15


class DynamoDBAuditTrail:
    """`ports.AuditTrail`."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._items = RegistryItems(aws, table)

    async def record(self, event: AuditEvent) -> None:
        await self._items.put_new(event_item(event))

    async def page(self, wanted: AuditFilter, after: AuditPosition | None, limit: int) -> AuditPage:
        found: list[AuditEvent] = []
        place = after
        for _ in range(_READS):
            events, ended = await self._older(wanted, place)
            for event in events:
                if wanted.has(event):
                    if len(found) == limit:
                        return AuditPage(found, _position(found[-1]))
                    found.append(event)
                place = _position(event)
            if ended:
                return AuditPage(found, None)
        return AuditPage(found, place)

    async def _older(self, wanted: AuditFilter, place: AuditPosition | None) -> tuple[list[AuditEvent], bool]:
        """Some events behind a place, newest first, and whether there are no more."""
        until = _LAST if wanted.until_ms is None else f"{wanted.until_ms:015}"
        until = until if place is None else min(until, _sort_key(place))
        first = f"{wanted.first_ms:015}"
        if until < first:
            return [], True  # DynamoDB refuses a range that ends before it begins
        payload = {
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :until",
            "ExpressionAttributeValues": {":first": {"S": first}, ":until": {"S": until}},
            "ScanIndexForward": False,
            "Limit": _READ_AT_ONCE,
        }
        items, more = await self._items.query_once("audit", **payload)
        events = [_event(item) for item in items if place is None or item["sk"]["S"] != _sort_key(place)]
        return events, not more


def event_item(event: AuditEvent, attempt: str = "") -> Item:
    """The event's item. Changes that it has no room for are named without their documents, or counted."""
    told, more = _bounded(event.changes)
    document = asdict(replace(event, changes=told, more_changes=event.more_changes + more))
    item = {**item_key("audit", _sort_key(_position(event))), "event": {"S": orjson.dumps(document).decode()}}
    return {**item, "attempt": {"S": attempt}} if attempt else item


def _event(item: Item) -> AuditEvent:
    document: dict[str, Any] = orjson.loads(item["event"]["S"])
    return AuditEvent(**{**document, "changes": tuple(AuditChange(**each) for each in document["changes"])})


def _bounded(changes: Sequence[AuditChange]) -> tuple[list[AuditChange], int]:
    room, told = _ROOM, []
    for change in changes:
        size = _size(change)
        if size > room:
            change = replace(change, before=None, after=None, omitted=True)  # noqa: PLW2901 - it goes on as this
            size = _size(change)
        if size <= room:
            told.append(change)
            room -= size
    return told, len(changes) - len(told)


def _size(change: AuditChange) -> int:
    return len(orjson.dumps(asdict(change)))


def _position(event: AuditEvent) -> AuditPosition:
    return AuditPosition(event.at_ms, event.event_id)


def _sort_key(place: AuditPosition) -> str:
    return f"{place.at_ms:015}#{place.event_id}"
