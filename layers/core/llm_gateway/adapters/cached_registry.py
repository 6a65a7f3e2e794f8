"""The registry, remembered: a request reads nothing that is not in memory."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from llm_gateway.adapters.read_through import ReadThrough
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Kind, Registry, RegistryEntry

_CATALOG: Final = "catalog"
_KEYS: Final = 10_000
_KEY_STALE_S: Final = 300.0
_NEGATIVE_TTL_S: Final = 5.0


class CachedRegistry:
    """`ports.Registry` in front of another; what it writes itself, it sees at once.

    - Catalog: at most `ttl_s` old. In the last third of that it is reloaded in the background while the old one
      serves. While the store is down the last one serves on, however old: a gateway with yesterday's models beats none.
    - Keys: at most `ttl_s` old, so a revoked one is refused within it. While the store is down a key that was read in
      the last 5 minutes is still let in, and no longer: that is how long a key may outlive its revocation at worst,
      against every caller being locked out by every short outage.
    - Unknown keys: remembered for 5 seconds, so that guessing costs few reads and a new key works soon; 10,000 of them
      at most, apart from the known ones.
    """

    def __init__(
        self,
        registry: Registry,
        ttl_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        key_stale_s: float = _KEY_STALE_S,
        negative_ttl_s: float = _NEGATIVE_TTL_S,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._registry = registry
        self._catalog: ReadThrough[Sequence[RegistryEntry]] = ReadThrough(
            self._load_catalog,
            what="registry's",
            ttl_s=ttl_s,
            refresh_s=ttl_s * 2 / 3,
            stale_s=float("inf"),
            clock=clock,
            warn=warn,
        )
        self._keys: ReadThrough[VirtualKey] = ReadThrough(
            registry.find_key,
            what="key",
            ttl_s=ttl_s,
            stale_s=max(key_stale_s, ttl_s),
            negative_ttl_s=min(negative_ttl_s, ttl_s),
            limit=_KEYS,
            clock=clock,
            warn=warn,
        )

    async def load_catalog(self) -> Sequence[RegistryEntry]:
        """The same sequence object until it is loaded anew: `is` tells a caller whether to build its catalog again."""
        entries = await self._catalog.get(_CATALOG)
        return () if entries is None else entries

    async def put_entry(self, entry: RegistryEntry) -> None:
        await self._registry.put_entry(entry)
        self._catalog.invalidate(_CATALOG)

    async def delete_entry(self, kind: Kind, name: str) -> None:
        await self._registry.delete_entry(kind, name)
        self._catalog.invalidate(_CATALOG)

    async def find_key(self, key_id: str) -> VirtualKey | None:
        return await self._keys.get(key_id)

    async def put_key(self, key: VirtualKey) -> None:
        await self._registry.put_key(key)
        self._keys.drop(key.key_id)

    async def delete_key(self, key_id: str) -> None:
        await self._registry.delete_key(key_id)
        self._keys.drop(key_id)

    async def list_keys(self) -> Sequence[VirtualKey]:
        return await self._registry.list_keys()

    async def _load_catalog(self, _name: str) -> Sequence[RegistryEntry]:
        return await self._registry.load_catalog()
