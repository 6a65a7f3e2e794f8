"""Limits and budgets in DynamoDB: one item per scope, every operation one conditional update. See docs/ledger.md.

Update and condition expressions:
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from zlib import crc32

from llm_gateway.adapters.attributes import AttributeValue, Item, number
from llm_gateway.adapters.aws_json import AwsJsonClient, ConditionalCheckFailed
from llm_gateway.adapters.dynamodb_ledger import query_due
from llm_gateway.adapters.scope_attributes import (
    hold_name,
    level_of,
    old_counters,
    stored_hold,
    stored_holds,
    write_hold,
)
from llm_gateway.domain.limits import Grant, Hold, Level, Policy, Refusal, Scope, StoredHold, hard_room

_SHARDS: Final = 8
_LIVE: Final = "#r.g = :tag AND attribute_not_exists(#r.x) AND #r.a = :held"
"""With the amount, since counters change by what it is less than the cost, and it may have been widened unheard."""


class DynamoDBScopes:
    """`ports.Scopes` on the Ledger table."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._aws = aws
        self._table = table
        self._last_minute: dict[str, int] = {}
        """By scope, the last minute this process counted in: it takes that minute's counters away with it."""

    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        name = hold_name(request_id)
        tags: list[str] = []

        def attempt() -> dict[str, Any]:
            tags.append(secrets.token_urlsafe(4))
            return self._reservation(name, hold, policy, tags[-1])

        try:
            answer = await self._aws.call("UpdateItem", attempt)
        except ConditionalCheckFailed as error:
            item = error.item or {}
            held = stored_hold(name, hold.scope, item[name]) if name in item else None
            level = level_of(item, hold.minute, hold.labels)
            if held is not None and held.tag in tags:
                return Grant(level, held.tag)
            stale = tuple(each.request_id for each in stored_holds(hold.scope, item) if _is_stale(each, now))
            return Refusal(level, stale)
        return Grant(level_of(answer["Attributes"], hold.minute, hold.labels), tags[-1])

    async def widen(
        self, request_id: str, hold: Hold, tag: str, usd: Decimal, policy: Policy, now: float
    ) -> Grant | Refusal:
        held = hold
        while True:
            update, condition = self._widening(request_id, held, max(usd, held.usd), policy)
            answer, item = await self._change(hold.scope, update, tag, condition)
            if answer is not None:
                return Grant(Level(committed=level_of(answer, held.minute, held.labels).committed), tag)
            level, live = level_of(item, held.minute, held.labels), _live(request_id, hold.scope, tag, item)
            stale = tuple(each.request_id for each in stored_holds(hold.scope, item) if _is_stale(each, now))
            if live is None:
                return Refusal(level, stale)
            if live.usd >= usd:
                return Grant(Level(committed=level.committed), tag)
            if live.usd == held.usd:
                return Refusal(level.without(live), stale)
            held = live

    async def cancel(self, request_id: str, hold: Hold, tag: str, now: float) -> None:
        del now
        await self._end(request_id, hold, tag, lambda held: _giving_back(request_id, held, -1, -hold.tokens))

    async def leave(self, request_id: str, hold: Hold, tag: str, now: float) -> None:
        tokens = -hold.tokens if _still_counts(hold, now) else 0
        await self._end(request_id, hold, tag, lambda held: _giving_back(request_id, held, 0, tokens))

    async def settle(
        self, request_id: str, hold: Hold, tag: str, cost: Decimal, tokens: int, now: float
    ) -> Level | None:
        def update_for(held: Hold) -> _Update:
            update = _Update(hold_name(request_id))
            update.add("f", -1)
            if _still_counts(hold, now):
                update.add(f"t#{hold.minute}", tokens - hold.tokens)
            for label in hold.labels:
                update.add(f"c#{label}", cost - held.usd)
                update.add(f"s#{label}", cost)
            return update

        answer, item = await self._end(request_id, hold, tag, update_for)
        if answer is not None:
            return level_of(answer, hold.minute, hold.labels)
        name = hold_name(request_id)
        held = stored_hold(name, hold.scope, item[name]) if name in item else None
        if held is None or held.tag != tag or held.charged is None:
            return None
        return await self._settle_late(request_id, hold, tag, cost - held.charged)

    async def abandon(self, request_id: str, hold: Hold, tag: str, charge: Decimal, now: float) -> None:
        def update_for(held: Hold) -> _Update:
            update = _Update(hold_name(request_id), removes=False)
            update.set("#r.x = :x", ":x", {"N": number(charge)})
            update.set("#r.z = :z", ":z", {"N": str(int(now))})
            update.add("f", -1)
            for label in hold.labels:
                update.add(f"c#{label}", charge - held.usd)
                update.add(f"s#{label}", charge)
            return update

        await self._end(request_id, hold, tag, update_for)

    async def forget(self, request_id: str, scope: Scope) -> None:
        payload = {
            "TableName": self._table,
            "Key": _key(scope),
            "UpdateExpression": "REMOVE #r",
            "ConditionExpression": "attribute_exists(#r.x)",
            "ExpressionAttributeNames": {"#r": hold_name(request_id)},
        }
        try:
            await self._aws.call("UpdateItem", payload)
        except ConditionalCheckFailed:
            return

    async def holds(self, scope: Scope) -> Sequence[StoredHold]:
        return list(stored_holds(scope, await self._read(scope)))

    async def level(self, scope: Scope, minute: int, labels: Sequence[str]) -> Level:
        return level_of(await self._read(scope), minute, labels)

    async def scopes(self) -> AsyncIterator[Scope]:
        for shard in range(_SHARDS):
            async for key in query_due(self._aws, self._table, f"scope#{shard}", 1):
                yield Scope.of(key.removeprefix("scope#"))

    async def prune(self, scope: Scope, now: float) -> int:
        old = old_counters(await self._read(scope), now)
        if old:
            names = {f"#{index}": name for index, name in enumerate(old)}
            payload = {
                "TableName": self._table,
                "Key": _key(scope),
                "UpdateExpression": f"REMOVE {','.join(names)}",
                "ExpressionAttributeNames": names,
            }
            await self._aws.call("UpdateItem", payload)
        return len(old)

    def _reservation(self, name: str, hold: Hold, policy: Policy, tag: str) -> dict[str, Any]:
        update = _Update(name, removes=False)
        update.set("#r = :r", ":r", write_hold(hold, tag))
        update.set("due = :due", ":due", {"S": f"scope#{crc32(hold.scope.id.encode()) % _SHARDS}"})
        update.set("expires = :zero", ":zero", {"N": "0"})
        update.add("f", 1)
        requests = update.add(f"n#{hold.minute}", 1)
        tokens = update.add(f"t#{hold.minute}", hold.tokens)
        conditions = ["attribute_not_exists(#r)"]
        if not policy.shadow:
            conditions += update.room("#f", policy.parallel, 1)
            conditions += update.room(requests, policy.rpm, 1)
            conditions += update.room(tokens, policy.tpm, hold.tokens)
        for label in hold.labels:
            committed = update.add(f"c#{label}", hold.usd)
            conditions += update.room(committed, hard_room(policy, label), hold.usd)
        last = self._last_minute.get(hold.scope.id, hold.minute)
        if last < hold.minute - 1:
            update.remove(f"n#{last}")
            update.remove(f"t#{last}")
        if last != hold.minute or hold.scope.id not in self._last_minute:
            self._last_minute[hold.scope.id] = hold.minute
        return self._payload(hold.scope, update, " AND ".join(conditions))

    async def _settle_late(self, request_id: str, hold: Hold, tag: str, correction: Decimal) -> Level | None:
        update = _Update(hold_name(request_id))
        for label in hold.labels:
            update.add(f"c#{label}", correction)
            update.add(f"s#{label}", correction)
        answer, _ = await self._change(hold.scope, update, tag, "#r.g = :tag AND attribute_exists(#r.x)")
        return None if answer is None else level_of(answer, hold.minute, hold.labels)

    def _widening(self, request_id: str, held: Hold, usd: Decimal, policy: Policy) -> tuple["_Update", str]:
        """The update, and the condition that there is room for it."""
        update = _Update(hold_name(request_id), removes=False)
        update.set("#r.a = :a", ":a", {"N": number(usd)})
        update.values[":held"] = {"N": number(held.usd)}
        conditions = [_LIVE]
        for label in held.labels:
            committed = update.add(f"c#{label}", usd - held.usd)
            conditions += update.room(committed, hard_room(policy, label), usd - held.usd)
        return update, " AND ".join(conditions)

    async def _end(
        self, request_id: str, hold: Hold, tag: str, update_for: Callable[[Hold], "_Update"]
    ) -> tuple[Item | None, Item]:
        """The counters it touched, or None and the item as it is: the hold is not live, or another attempt's.

        What is held may be more than the caller has heard of.
        """
        held = hold
        while True:
            update = update_for(held)
            update.values[":held"] = {"N": number(held.usd)}
            answer, item = await self._change(hold.scope, update, tag, _LIVE)
            live = None if answer is not None else _live(request_id, hold.scope, tag, item)
            if live is None or live.usd == held.usd:
                return answer, item
            held = live

    async def _change(self, scope: Scope, update: "_Update", tag: str, condition: str) -> tuple[Item | None, Item]:
        """The counters it touched, or None and the item as it is."""
        update.values[":tag"] = {"S": tag}
        try:
            answer = await self._aws.call("UpdateItem", self._payload(scope, update, condition))
        except ConditionalCheckFailed as error:
            return None, error.item or {}
        return answer.get("Attributes", {}), {}

    def _payload(self, scope: Scope, update: "_Update", condition: str) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Key": _key(scope),
            "UpdateExpression": update.expression(),
            "ConditionExpression": condition,
            "ExpressionAttributeNames": update.names,
            "ExpressionAttributeValues": update.values,
            "ReturnValues": "UPDATED_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    async def _read(self, scope: Scope) -> Item:
        answer = await self._aws.call("GetItem", {"TableName": self._table, "Key": _key(scope), "ConsistentRead": True})
        item: Item = answer.get("Item", {})
        return item


class _Update:
    """One update expression under construction. `#r` is the hold, which goes unless `removes` is false."""

    def __init__(self, hold: str, *, removes: bool = True) -> None:
        self.names: dict[str, str] = {"#r": hold}
        self.values: dict[str, AttributeValue] = {}
        self._sets: list[str] = []
        self._adds: list[str] = []
        self._removes: list[str] = ["#r"] if removes else []

    def set(self, clause: str, placeholder: str, value: AttributeValue) -> None:
        self._sets.append(clause)
        self.values[placeholder] = value

    def add(self, name: str, amount: int | Decimal) -> str:
        """The name's placeholder."""
        placeholder = self._name(name)
        value = f":v{placeholder[1:]}"
        self._adds.append(f"{placeholder} {value}")
        self.values[value] = {"N": number(amount) if isinstance(amount, Decimal) else str(amount)}
        return placeholder

    def remove(self, name: str) -> None:
        self._removes.append(self._name(name))

    def room(self, placeholder: str, limit: int | Decimal | None, asked: int | Decimal) -> Sequence[str]:
        """The condition that `asked` more stays within `limit`; a counter that is not there yet is zero."""
        if limit is None:
            return ()
        room = Decimal(limit) - Decimal(asked)
        value = f":m{placeholder[1:]}"
        self.values[value] = {"N": number(room)}
        bound = f"{placeholder} <= {value}"
        return (f"(attribute_not_exists({placeholder}) OR {bound})" if room >= 0 else bound,)

    def expression(self) -> str:
        clauses: Mapping[str, list[str]] = {"SET": self._sets, "REMOVE": self._removes, "ADD": self._adds}
        return " ".join(f"{verb} {','.join(parts)}" for verb, parts in clauses.items() if parts)

    def _name(self, name: str) -> str:
        placeholder = "#f" if name == "f" else f"#n{len(self.names)}"
        self.names[placeholder] = name
        return placeholder


def _giving_back(request_id: str, held: Hold, requests: int, tokens: int) -> _Update:
    """All money back, and so much of the minute's counters."""
    update = _Update(hold_name(request_id))
    update.add("f", -1)
    for name, amount in ((f"n#{held.minute}", requests), (f"t#{held.minute}", tokens)):
        if amount:
            update.add(name, amount)
    for label in held.labels:
        update.add(f"c#{label}", -held.usd)
    return update


def _still_counts(hold: Hold, now: float) -> bool:
    """Older minutes may have been pruned, and nothing is admitted by them any more."""
    return hold.minute >= int(now) // 60 - 1


def _live(request_id: str, scope: Scope, tag: str, item: Item) -> Hold | None:
    """The attempt's hold as it is in the item; None where it has ended."""
    name = hold_name(request_id)
    stored = stored_hold(name, scope, item[name]) if name in item else None
    return stored.hold if stored is not None and stored.tag == tag and stored.charged is None else None


def _is_stale(stored: StoredHold, now: float) -> bool:
    return stored.charged is None and stored.hold.expires_at < now


def _key(scope: Scope) -> Item:
    return {"pk": {"S": f"scope#{scope.id}"}}
