"""One revision as it is read: its catalog at once, a leaf of keys when one of them is asked for."""

from collections.abc import Collection, Sequence

from llm_gateway.adapters.registry_items import RegistryItems
from llm_gateway.adapters.registry_tree import (
    CATALOG_BUCKETS,
    TOKEN_BUCKETS,
    Entries,
    Leaf,
    Root,
    bucket_of,
    catalog_of,
    decode_leaf,
)
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.domain.revisions import virtual_key
from llm_gateway.errors import Unavailable
from llm_gateway.upstream.single_flight import SingleFlight


class LeafGone(Unavailable):
    """Of a revision that is so old that it has been collected."""


class Leaves:
    """Leaves by where they are. They never change, so each is read once."""

    def __init__(self, items: RegistryItems) -> None:
        self._items = items
        self._held: dict[Leaf, Entries] = {}
        self._flight: SingleFlight[Entries] = SingleFlight()

    def holds(self, leaf: Leaf) -> bool:
        return leaf in self._held

    def hold(self, leaf: Leaf, entries: Entries) -> None:
        self._held[leaf] = entries

    def retain(self, leaves: Collection[Leaf]) -> None:
        """Forgets all others."""
        kept = set(leaves)
        self._held = {leaf: entries for leaf, entries in self._held.items() if leaf in kept}

    async def one(self, leaf: Leaf) -> Entries:
        """Raises `errors.Unavailable`, also for one that has been collected. Many who ask at once make one call."""
        held = self._held.get(leaf)
        return held if held is not None else await self._flight.run(leaf, lambda: self._load(leaf))

    async def all(self, leaves: Sequence[Leaf]) -> list[Entries]:
        """As `one`, in as few calls as can be."""
        found = {leaf: self._held[leaf] for leaf in leaves if leaf in self._held}
        missing = [leaf for leaf in leaves if leaf not in found]
        if missing:
            found.update(await self.read(missing))
            self._held.update(found)
        return [found[leaf] for leaf in leaves]

    async def read(self, leaves: Sequence[Leaf]) -> dict[Leaf, Entries]:
        """From the store, and remembers none of it."""
        items = iter(await self._items.get_all([key for leaf in leaves for key in leaf.places()]))
        found: dict[Leaf, Entries] = {}
        for leaf in leaves:
            chunks = [item for item in (next(items) for _ in range(leaf.chunks)) if item is not None]
            if len(chunks) != leaf.chunks:
                raise LeafGone(f"The configuration's leaf {leaf.attempt}#{leaf.bucket} is not there any more.")
            found[leaf] = decode_leaf(leaf, chunks)
        return found

    async def _load(self, leaf: Leaf) -> Entries:
        entries = (await self.read([leaf]))[leaf]
        self._held[leaf] = entries
        return entries


class Revision:
    """`ports.RegistryView` of a root. Keys are made of their documents once."""

    def __init__(self, root: Root, catalog: Sequence[RegistryEntry], leaves: Leaves) -> None:
        self.root = root
        self.revision = root.revision
        self.catalog = catalog
        self._leaves = leaves
        self._keys: dict[str, VirtualKey] = {}

    @classmethod
    async def read(cls, root: Root, leaves: Leaves, before: "Revision | None") -> "Revision":
        """The catalog of the one read before serves on where nothing of it changed. Raises `errors.Unavailable`.

        Keys that were in use are read with it: their callers wait for nothing, and get in if the store goes down now.
        """
        places = catalog_leaves(root)
        used = [] if before is None else before.used_token_leaves(root)
        found = await leaves.all([*places, *used])
        if before is not None and catalog_leaves(before.root) == places:
            return cls(root, before.catalog, leaves)
        return cls(root, catalog_of(found[: len(places)]), leaves)

    def used_token_leaves(self, later: Root) -> list[Leaf]:
        """Where in another revision the keys are that were read of this one."""
        both = [bucket for bucket in TOKEN_BUCKETS if bucket in self.root.leaves and bucket in later.leaves]
        return [later.leaves[bucket] for bucket in both if self._leaves.holds(self.root.leaves[bucket])]

    async def find_key(self, key_id: str) -> VirtualKey | None:
        known = self._keys.get(key_id)
        if known is not None:
            return known
        leaf = self.root.leaves.get(bucket_of(("token", key_id)))
        if leaf is None:
            return None
        stored = (await self._leaves.one(leaf)).get(("token", key_id))
        if stored is None:
            return None
        key = self._keys[key_id] = virtual_key(key_id, stored.document)
        return key


def catalog_leaves(root: Root) -> list[Leaf]:
    return [root.leaves[bucket] for bucket in CATALOG_BUCKETS if bucket in root.leaves]
