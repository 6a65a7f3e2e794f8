"""What the registry holds and nobody needs: revisions long gone, and what lost or killed attempts wrote.

Nothing that was of use within the last day is touched: a reader may still be on a revision that has just been
replaced, and an attempt that is still under way is younger than an hour (`registry_commit.LONGEST_S`).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from llm_gateway.adapters.registry_before import remove_before
from llm_gateway.adapters.registry_items import RegistryItems
from llm_gateway.adapters.registry_tree import POINTER, Leaf, Root, chain, decode_root, pointed, root_key

KEPT: Final = 100
"""How many of the last revisions are there to go back to."""
_DAY_S: Final = 86_400


class Garbage:
    def __init__(self, items: RegistryItems, clock: Callable[[], float], kept: int = KEPT) -> None:
        """`clock` gives Unix seconds."""
        self._items = items
        self._clock = clock
        self._kept = kept

    async def collect(self) -> int:
        """How many roots it removed. May be broken off and done again. Raises `errors.Unavailable`."""
        pointer = pointed(await self._items.get(POINTER))
        if pointer is None:
            return 0
        # The pointer first: a root that is not found by it here is no later one's.
        roots = [decode_root(item) async for item in self._items.query("revisions")]
        line = chain(roots, pointer.attempt)
        dead = self._dead(roots, line)
        needed = {leaf for root in roots if root not in dead for leaf in root.leaves.values()}
        for root in dead:
            await self._remove(root, needed)
        if line and self._is_old(line[-1].at):
            await remove_before(self._items)
        return len(dead)

    def _dead(self, roots: Sequence[Root], line: Sequence[Root]) -> list[Root]:
        ended = {older.attempt: newer.at for newer, older in pairwise(line)}
        kept = {root.attempt for root in line[: self._kept]}
        # One that is not in the line never was the current revision.
        return [root for root in roots if root.attempt not in kept and self._is_old(ended.get(root.attempt, root.at))]

    def _is_old(self, at: int) -> bool:
        return at < self._clock() - _DAY_S

    async def _remove(self, root: Root, needed: set[Leaf]) -> None:
        """The leaves first: a root that is gone finds none of them."""
        leaves = [leaf for leaf in root.leaves.values() if leaf not in needed]
        await self._items.delete_all([key for leaf in leaves for key in leaf.places()])
        await self._items.delete_all([root_key(root.revision, root.attempt)])
