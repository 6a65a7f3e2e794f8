"""The registry, remembered: a request reads nothing that is not in memory."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from llm_gateway.adapters.read_through import ReadThrough
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Kind, Registry, RegistryEntry, RegistryView
from llm_gateway.errors import Unavailable

_CURRENT: Final = "configuration"
_KEY_STALE_S: Final = 300.0
_NEGATIVE_TTL_S: Final = 5.0
_SPARE: Final = 3
"""Questions about unknown keys that may be asked sooner: somebody who makes a key uses it at once."""
_NEVER: Final = float("-inf")


class CachedRegistry:
    """`ports.Registry` in front of another; what it writes itself, it sees at once.

    - One revision at a time serves, catalog and keys, and is at most `ttl_s` old: so old a revoked key may be. In the
      last third of that the store is asked in the background which one is the current one.
    - While the store is down the last catalog serves on, however old: a gateway with yesterday's models beats none.
      Keys are let in for 5 minutes, and no longer: that is how long a key may outlive its revocation at worst,
      against every caller being locked out by every short outage.
    - For a key that the revision does not know the store is asked again, thrice at once and then every 5 seconds,
      whoever asks: guessing costs few reads, and a new key works.
    """

    def __init__(
        self,
        registry: Registry,
        ttl_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        key_stale_s: float = _KEY_STALE_S,
        negative_ttl_s: float = _NEGATIVE_TTL_S,
        spare: int = _SPARE,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._key_stale_s = max(key_stale_s, ttl_s)
        self._negative_ttl_s = min(negative_ttl_s, ttl_s)
        self._looked = _NEVER
        self._failed = _NEVER
        self._generation = 0
        self._most_spare = spare
        self._spare = float(spare)
        self._spared_at = clock()
        self._views: ReadThrough[RegistryView] = ReadThrough(
            self._look,
            what="registry's",
            ttl_s=ttl_s,
            refresh_s=ttl_s * 2 / 3,
            stale_s=float("inf"),
            clock=clock,
            warn=warn,
        )

    async def view(self) -> RegistryView:
        view = await self._views.get(_CURRENT)
        assert view is not None
        return view

    async def load_catalog(self) -> Sequence[RegistryEntry]:
        """The same sequence object until it has changed: `is` tells a caller whether to build its catalog again."""
        view = await self._views.get(_CURRENT)
        assert view is not None
        return view.catalog

    async def find_key(self, key_id: str) -> VirtualKey | None:
        view = await self._views.get(_CURRENT)
        if view is None or self._clock() - self._looked >= self._key_stale_s:
            view = await self._look_again()
        key = await view.find_key(key_id)
        if key is None and self._may_ask():
            key = await (await self._look_again()).find_key(key_id)
        return key

    def _may_ask(self) -> bool:
        """Whether a key that is not known is worth a question: perhaps it was made just now."""
        now = self._clock()
        if now - self._looked >= self._negative_ttl_s:
            return True
        self._spare = min(self._most_spare, self._spare + (now - self._spared_at) / self._negative_ttl_s)
        self._spared_at = now
        if self._spare < 1:
            return False
        self._spare -= 1
        return True

    async def put_entry(self, entry: RegistryEntry) -> None:
        await self._registry.put_entry(entry)
        self._forget()

    async def delete_entry(self, kind: Kind, name: str) -> None:
        await self._registry.delete_entry(kind, name)
        self._forget()

    async def put_key(self, key: VirtualKey) -> None:
        await self._registry.put_key(key)
        self._forget()

    async def delete_key(self, key_id: str) -> None:
        await self._registry.delete_key(key_id)
        self._forget()

    async def list_keys(self) -> Sequence[VirtualKey]:
        return await self._registry.list_keys()

    def _forget(self) -> None:
        """No key is let in until the store has been asked; the catalog serves on where it is down."""
        self._generation += 1
        self._looked = self._failed = _NEVER
        self._views.invalidate(_CURRENT)

    async def _look_again(self) -> RegistryView:
        """Asks the store now. Raises `errors.Unavailable` where it does not answer, or did not 5 seconds ago."""
        if self._clock() - self._failed < self._negative_ttl_s:
            raise Unavailable("The gateway's own store does not answer.", retry_after=self._negative_ttl_s)
        view = await self._views.refresh(_CURRENT)
        assert view is not None
        return view

    async def _look(self, _name: str) -> RegistryView:
        generation = self._generation
        asked = self._clock()
        try:
            view = await self._registry.view()
        except Unavailable:
            self._failed = self._clock()
            raise
        if generation == self._generation:
            self._looked, self._failed = asked, _NEVER
        return view
