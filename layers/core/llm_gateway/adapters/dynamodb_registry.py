"""What operators configure, in DynamoDB, as revisions behind one pointer.

Table: partition key `pk`, sort key `sk` (strings).

| pk | sk | holds |
|---|---|---|
| `registry` | `pointer` | which revision is the current one: `revision`, and the `attempt` that wrote it |
| `revisions` | `<revision>#<attempt>` | the root of a revision: when and by whom, and where its leaves are |
| `leaf#<attempt>#<bucket>` | `<chunk>` | the entries of one bucket (`registry_tree`) |
| `audit` | `<Unix milliseconds>#<event id>` | one audit event (`dynamodb_audit`) |

Everything but the pointer is written once and never changed. docs/registry.md has the why.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.registry_before import BeforeRevisions, entries_before
from llm_gateway.adapters.registry_items import RegistryItems
from llm_gateway.adapters.registry_revision import LeafGone, Leaves, Revision
from llm_gateway.adapters.registry_tree import POINTER, Root, chain, decode_root, pointed, root_key
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Kind, RegistryEntry, RegistryView
from llm_gateway.domain.revisions import Change, Delete, Put, RevisionNote, Snapshot
from llm_gateway.errors import Unavailable

if TYPE_CHECKING:  # a gateway changes nothing, and does not load what changes are made of
    from llm_gateway.domain.audit import AuditEvent

_COLLECT_EVERY: Final = 32
_TRIES: Final = 3


class DynamoDBRegistry:
    """`ports.Registry` and `ports.RegistryEditor` on the Registry table.

    Reads are consistent: what was put is what is found next. Every method raises `errors.Unavailable`; what cannot be
    read back raises `errors.InternalFailure`, which names it.
    """

    def __init__(self, aws: AwsJsonClient, table: str, *, clock: Callable[[], float] = time.time) -> None:
        self._items = RegistryItems(aws, table)
        self._leaves = Leaves(self._items)
        self._clock = clock
        self._held: Revision | None = None
        self._snapshot: tuple[str, Snapshot] | None = None
        self._editing = asyncio.Lock()

    async def view(self) -> RegistryView:
        """One small read where nothing has changed since the last time."""
        return await self._current() or await BeforeRevisions.read(self._items)

    async def load_catalog(self) -> Sequence[RegistryEntry]:
        return (await self.view()).catalog

    async def find_key(self, key_id: str) -> VirtualKey | None:
        return await (await self.view()).find_key(key_id)

    async def list_keys(self) -> Sequence[VirtualKey]:
        """All of them, by id."""
        return sorted((await self.read()).keys(), key=lambda key: key.key_id)

    async def put_entry(self, entry: RegistryEntry) -> None:
        """Raises `errors.InvalidRequest` for a document past 400 KB."""
        await self._edit(Put(entry.kind, entry.name, entry.document))

    async def delete_entry(self, kind: Kind, name: str) -> None:
        await self._edit(Delete(kind, name))

    async def put_key(self, key: VirtualKey) -> None:
        """Raises `errors.InvalidRequest` for a key whose record is past 400 KB."""
        await self._edit(Put.token(key))

    async def delete_key(self, key_id: str) -> None:
        await self._edit(Delete("token", key_id))

    async def _edit(self, change: Change) -> None:
        from llm_gateway.adapters.registry_edits import commit_edit  # noqa: PLC0415 - as above

        await self.view()  # a store that is down says so to all at once, and not to one after another
        async with self._editing:  # else many edits at once would be each other's conflicts
            await commit_edit(self, change)

    async def read(self) -> Snapshot:
        for tries_left in reversed(range(_TRIES)):
            current = await self._current()
            if current is None:
                return Snapshot(0, await entries_before(self._items))
            if self._snapshot is None or self._snapshot[0] != current.root.attempt:
                try:
                    found = await self._leaves.all(list(current.root.leaves.values()))
                except LeafGone:
                    if tries_left:
                        continue
                    raise
                entries = {entry: stored for leaf in found for entry, stored in leaf.items()}
                self._snapshot = current.root.attempt, Snapshot(current.revision, entries)
            return self._snapshot[1]
        raise AssertionError

    async def commit(self, changes: Sequence[Change], expected: int, audit: "AuditEvent") -> int:
        from llm_gateway.adapters.registry_commit import Base, Commits  # noqa: PLC0415 - as above

        current = await self._current()
        base = (
            Base(current.revision, current.root.attempt, current.root.leaves)
            if current is not None
            else Base(0, "", {}, await entries_before(self._items))
        )
        revision = await Commits(self._items, self._leaves, self._clock).commit(changes, expected, audit, base)
        if revision != expected and revision % _COLLECT_EVERY == 0:
            try:
                await self.collect()
            except Unavailable:
                return revision  # the change is made; the next collection has as much more to do
        return revision

    async def revisions(self, limit: int, before: int | None = None) -> Sequence[RevisionNote]:
        known = [root for root in await self._chain() if before is None or root.revision < before]
        return [root.note() for root in known[:limit]]

    async def read_revision(self, revision: int) -> Snapshot | None:
        wanted = next((root for root in await self._chain() if root.revision == revision), None)
        item = None if wanted is None else await self._items.get(root_key(revision, wanted.attempt))
        if item is None:
            return await self.read() if revision == 0 and await self._current() is None else None
        try:
            found = await self._leaves.read(list(decode_root(item).leaves.values()))
        except LeafGone:
            return None
        return Snapshot(revision, {entry: stored for leaf in found.values() for entry, stored in leaf.items()})

    async def collect(self) -> int:
        """Removes what no revision worth keeping needs, a day after it was last needed; of how many."""
        from llm_gateway.adapters.registry_garbage import Garbage  # noqa: PLC0415 - as above

        return await Garbage(self._items, self._clock).collect()

    async def _chain(self) -> list[Root]:
        pointer = pointed(await self._items.get(POINTER))
        if pointer is None:
            return []
        roots = [
            decode_root(item)
            async for item in self._items.query(
                "revisions",
                ProjectionExpression="pk, sk, #parent, #at, #actor, #action, #event",
                ExpressionAttributeNames={f"#{name}": name for name in ("parent", "at", "actor", "action", "event")},
            )
        ]
        return chain(roots, pointer.attempt)

    async def _current(self) -> Revision | None:
        """What the pointer names; None where there is none yet."""
        for tries_left in reversed(range(_TRIES)):
            pointer = pointed(await self._items.get(POINTER))
            if pointer is None:
                return None
            held = self._held
            if held is not None and held.root.attempt == pointer.attempt:
                return held
            try:
                return await self._read(await self._root(pointer.revision, pointer.attempt), held)
            except LeafGone:  # many revisions were made since the pointer was read
                if not tries_left:
                    raise
        raise AssertionError

    async def _root(self, revision: int, attempt: str) -> Root:
        item: Item | None = await self._items.get(root_key(revision, attempt))
        if item is None:
            raise LeafGone(f"The configuration's revision {revision} is not there any more.")
        return decode_root(item)

    async def _read(self, root: Root, before: Revision | None) -> Revision:
        read = await Revision.read(root, self._leaves, before)
        if self._held is None or self._held.revision <= read.revision:
            self._held = read
            self._leaves.retain(root.leaves.values())
        return read
