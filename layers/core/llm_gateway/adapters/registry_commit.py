"""How a revision comes to be: its root and its leaves are written where nobody looks, then one pointer moves to them.

Killed anywhere before that, the revision before stays as it was, and what was written is garbage. The pointer moves
in one transaction with the audit event, so that the trail tells of every revision, and of none that never was.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import TransactionCanceled
from llm_gateway.adapters.dynamodb_audit import event_item
from llm_gateway.adapters.registry_edits import conflict_message
from llm_gateway.adapters.registry_items import RegistryItems
from llm_gateway.adapters.registry_revision import Leaves
from llm_gateway.adapters.registry_tree import (
    POINTER,
    Entries,
    Leaf,
    Root,
    bucket_of,
    by_bucket,
    encode_leaf,
    encode_root,
    leaf_items,
    new_attempt,
    pointed,
)
from llm_gateway.domain.audit import AuditEvent, audit_change
from llm_gateway.domain.revisions import Change, Put, changed, check_size, effective
from llm_gateway.errors import InternalFailure, RevisionConflict, Unavailable

LONGEST_S: Final = 3600.0
"""What is written for a revision is garbage after a day (`registry_garbage`), and a laptop may sleep over it."""
_TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class Base:
    """What a commit builds on. `before` is all there is where no revision was kept yet: the first one holds it all."""

    revision: int
    attempt: str
    leaves: Mapping[str, Leaf]
    before: Entries | None = None


class Commits:
    def __init__(self, items: RegistryItems, leaves: Leaves, clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self._items = items
        self._leaves = leaves
        self._clock = clock

    async def commit(self, changes: Sequence[Change], expected: int, audit: AuditEvent, base: Base) -> int:
        """As `ports.RegistryEditor.commit`."""
        if base.revision != expected:
            raise RevisionConflict(conflict_message(expected, base.revision))
        started = self._clock()
        wanted = [_as_stored(change) for change in changes]
        before = await self._entries(base, {bucket_of((change.kind, change.name)) for change in wanted})
        made = effective(wanted, before)
        event = replace(
            audit,
            outcome="done",
            revision=expected + 1 if made else expected,
            changes=[audit_change(entry, before.get(entry), change) for entry, change in made.items()],
        )
        if not made:
            await self._items.put_new(event_item(event))
            return expected

        after = by_bucket(changed(before, made, expected + 1, int(started)))
        touched = {bucket_of(entry) for entry in made} if base.before is None else set(after)
        root, contents = self._plan(base, event, {bucket: after.get(bucket, {}) for bucket in touched}, int(started))
        # The root first: whatever else is there of a lost attempt is found by it.
        await self._items.put_all([encode_root(root)])
        await self._items.put_all([item for leaf, chunks in contents.items() for item in leaf_items(leaf, chunks)])
        if self._clock() - started > LONGEST_S:
            raise Unavailable("The change took longer than an hour, and was not made.")
        await self._flip(base, root, event)
        for leaf in contents:
            self._leaves.hold(leaf, after[leaf.bucket])
        return root.revision

    async def _entries(self, base: Base, buckets: Collection[str]) -> Entries:
        """Those of the buckets that the changes are in."""
        if base.before is not None:
            return base.before
        found = await self._leaves.all([base.leaves[bucket] for bucket in buckets if bucket in base.leaves])
        return {entry: stored for leaf in found for entry, stored in leaf.items()}

    @staticmethod
    def _plan(
        base: Base, event: AuditEvent, touched: Mapping[str, Entries], now: int
    ) -> tuple[Root, dict[Leaf, list[bytes]]]:
        """The root, and what its new leaves hold. A bucket that is empty now has none."""
        attempt = new_attempt()
        packed = {bucket: encode_leaf(entries) for bucket, entries in touched.items() if entries}
        new = {bucket: Leaf(attempt, bucket, len(chunks)) for bucket, chunks in packed.items()}
        kept = {bucket: leaf for bucket, leaf in base.leaves.items() if bucket not in touched}
        root = Root(
            base.revision + 1,
            attempt,
            base.attempt,
            now,
            event.actor,
            event.action,
            event.event_id,
            {**kept, **new},
        )
        return root, {new[bucket]: chunks for bucket, chunks in packed.items()}

    async def _flip(self, base: Base, root: Root, event: AuditEvent) -> None:
        told = event_item(event, root.attempt)
        actions = [
            {"Update": _move(base, root)},
            {"Put": {"Item": told, "ConditionExpression": "attribute_not_exists(pk)"}},
        ]
        failure: TransactionCanceled | None = None
        for attempt in range(_TRIES):
            try:
                await self._items.transact(actions, root.attempt)
                return
            except TransactionCanceled as error:
                codes = [reason.get("Code") for reason in error.reasons]
                if "ConditionalCheckFailed" in codes:
                    await self._decide(base, root, told)
                    return
                failure = error
            await asyncio.sleep(0.05 * 2**attempt)
        raise Unavailable("The configuration is being changed by too many at once; try again.") from failure

    async def _decide(self, base: Base, root: Root, told: Item) -> None:
        """After a refusal, which may be of the second try of a flip whose answer was lost."""
        now = pointed(await self._items.get(POINTER))
        if now is not None and now.attempt == root.attempt:
            return
        event = await self._items.get({"pk": told["pk"], "sk": told["sk"]})
        if event is not None and event.get("attempt") == told["attempt"]:
            return  # ours, and others have gone on from it
        if (now.attempt if now is not None else "") == base.attempt:
            raise InternalFailure("An audit event of this id is there already.")
        raise RevisionConflict(conflict_message(base.revision, 0 if now is None else now.revision))


def _move(base: Base, root: Root) -> dict[str, Any]:
    values: Item = {":revision": {"N": str(root.revision)}, ":attempt": {"S": root.attempt}}
    if not base.attempt:
        condition = "attribute_not_exists(pk)"
    else:
        condition = "#revision = :before AND #attempt = :parent"
        values |= {":before": {"N": str(base.revision)}, ":parent": {"S": base.attempt}}
    return {
        "Key": POINTER,
        "UpdateExpression": "SET #revision = :revision, #attempt = :attempt",
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {"#revision": "revision", "#attempt": "attempt"},
        "ExpressionAttributeValues": values,
    }


def _as_stored(change: Change) -> Change:
    """With its document as JSON gives it back. Raises `errors.InvalidRequest` for one that is too large."""
    if not isinstance(change, Put):
        return change
    check_size(change)
    return replace(change, document=orjson.loads(orjson.dumps(dict(change.document))))
