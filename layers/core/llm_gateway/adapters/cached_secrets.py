"""Provider keys, remembered: Secrets Manager bills every call and takes milliseconds."""

import time
from collections.abc import Callable

from llm_gateway.adapters.read_through import ReadThrough
from llm_gateway.domain.ports import SecretStore

_STALE_S = 3600.0
_INVALIDATE_EVERY_S = 5.0
_LIMIT = 10_000
"""Most teams have no key of their own at most providers: that too is remembered, by team and provider."""
_NOT_THERE_S = 30.0
_NO_TEAMS_OWN_S = 300.0


class CachedSecrets:
    """`ports.SecretStore` in front of another.

    A secret is read again after `ttl_s`, and after `invalidate`, which is for a provider that answers 401. One that
    is not there is asked for again after half a minute, and a team's own, of which every request asks, after five.
    While the store is down, what was found in the last hour serves, a key or that there was none: the provider, not a
    key's age, says whether it is good. Many who ask at once make one call.
    """

    def __init__(
        self,
        store: SecretStore,
        ttl_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        stale_s: float = _STALE_S,
        limit: int = _LIMIT,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._clock = clock
        self._invalidated: dict[str, float] = {}
        self._cache: ReadThrough[str] = ReadThrough(
            store.get_secret,
            what="secret",
            ttl_s=ttl_s,
            negative_ttl_s=_negative_ttl_s,
            absence_is_stale_s=max(stale_s, ttl_s),
            stale_s=max(stale_s, ttl_s),
            limit=limit,
            clock=clock,
            warn=warn,
        )

    async def get_secret(self, name: str) -> str | None:
        """Raises `errors.Unavailable` where the store is down and no key is held that may still serve."""
        return await self._cache.get(name)

    def invalidate(self, name: str) -> None:
        """The next `get_secret` asks the store.

        At most once in 5 seconds for a name: a wrong key, or many requests that meet a rotated one together, must not
        turn into as many calls.
        """
        now = self._clock()
        last = self._invalidated.get(name)
        if last is not None and now < last + _INVALIDATE_EVERY_S:
            return
        if len(self._invalidated) >= _LIMIT:
            self._invalidated.clear()
        self._invalidated[name] = now
        self._cache.invalidate(name)


def _negative_ttl_s(name: str) -> float:
    return _NO_TEAMS_OWN_S if "/team/" in name else _NOT_THERE_S
