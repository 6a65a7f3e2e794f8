"""A cache in front of a store that may be slow, asked by many at once, or down."""

import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any, Generic, TypeVar

from llm_gateway.errors import Unavailable
from llm_gateway.upstream.single_flight import SingleFlight

T = TypeVar("T")
_RETRY_S = 5.0


@dataclass(slots=True)
class _Held(Generic[T]):
    value: T = field(repr=False)
    fresh_until: float
    refresh_at: float
    stale_until: float
    failed: bool = False


@dataclass(slots=True)
class _Absence:
    until: float
    stale_until: float


class ReadThrough(Generic[T]):
    """Values by name, loaded when asked for.

    - Fresh for `ttl_s` seconds; from `refresh_s` on, whoever asks starts a reload and does not wait for it.
    - Past that, whoever asks waits for the one reload under way.
    - If the store is down (`errors.Unavailable`), the old value serves until it is `stale_s` old; after the first
      failure nobody waits for the store: it is asked in the background, every 5 seconds.
    - That there is nothing is remembered for `negative_ttl_s`, apart from the values: names that strangers make up
      push out each other, never a value. Each kind is bounded by `limit`, the least recently used goes first.
      Where `absence_is_stale_s` says so, it also serves on for so long while the store is down.
    """

    def __init__(
        self,
        load: Callable[[str], Coroutine[Any, Any, T | None]],
        *,
        what: str,
        ttl_s: float,
        stale_s: float,
        refresh_s: float | None = None,
        negative_ttl_s: float | Callable[[str], float] = 0.0,
        absence_is_stale_s: float = 0.0,
        limit: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """`what` names the kind of value in a warning: "provider key". `clock` gives seconds.

        `negative_ttl_s` may depend on the name.
        """
        self._source = load
        self._what = what
        self._ttl_s = ttl_s
        self._refresh_s = ttl_s if refresh_s is None else refresh_s
        self._stale_s = stale_s
        self._negative_ttl_s = negative_ttl_s if callable(negative_ttl_s) else lambda _: negative_ttl_s
        self._absence_is_stale_s = absence_is_stale_s
        self._limit = limit
        self._clock = clock
        self._warn = warn or getLogger(__name__).warning
        self._held: OrderedDict[str, _Held[T]] = OrderedDict()
        self._absent: OrderedDict[str, _Absence] = OrderedDict()
        self._flight: SingleFlight[T | None] = SingleFlight()
        self._generation = 0

    def __len__(self) -> int:
        """How many names are remembered, with a value or without."""
        return len(self._held) + len(self._absent)

    async def get(self, name: str) -> T | None:
        """Raises `errors.Unavailable` where the store is down and nothing that may still serve is held."""
        now = self._clock()
        held = self._held.get(name)
        if held is None:
            absence = self._absent.get(name)
            if absence is not None and now < absence.until:
                self._absent.move_to_end(name)
                return None
            return await self._look(name)

        self._held.move_to_end(name)
        if now < (held.stale_until if held.failed else held.fresh_until):
            if now >= held.refresh_at:
                self._flight.start(name, lambda: self._load(name))
            return held.value
        return await self._reload(name, held)

    async def refresh(self, name: str) -> T | None:
        """Asks the store now; what is held serves all others meanwhile. Raises `errors.Unavailable`."""
        return await self._flight.run(name, lambda: self._load(name))

    def invalidate(self, name: str) -> None:
        """The next `get` asks the store; what is held serves on only if the store is down."""
        self._generation += 1
        self._flight.forget(name)
        absence = self._absent.get(name)
        if absence is not None:
            absence.until = float("-inf")
        held = self._held.get(name)
        if held is not None:
            held.fresh_until = held.refresh_at = float("-inf")
            held.failed = False

    def drop(self, name: str) -> None:
        """As `invalidate`, and what is held serves no more."""
        self.invalidate(name)
        self._held.pop(name, None)

    async def _look(self, name: str) -> T | None:
        """What was not there, or has not been asked for."""
        try:
            return await self._flight.run(name, lambda: self._load(name))
        except Unavailable:
            absence = self._absent.get(name)
            if absence is not None and self._clock() < absence.stale_until:
                return None
            raise

    async def _reload(self, name: str, held: _Held[T]) -> T | None:
        try:
            return await self._flight.run(name, lambda: self._load(name))
        except Unavailable:
            if self._clock() < held.stale_until:
                return held.value
            raise

    async def _load(self, name: str) -> T | None:
        generation = self._generation
        try:
            value = await self._source(name)
        except Unavailable as error:
            self._store_is_down(name, error)
            raise
        # What was read before an invalidation may be older than what caused it.
        if generation == self._generation:
            self._keep(name, value)
        return value

    def _store_is_down(self, name: str, error: Unavailable) -> None:
        held = self._held.get(name)
        now = self._clock()
        if held is not None and now < held.stale_until:
            held.failed = True
            held.refresh_at = now + _RETRY_S
            self._warn(f"The {self._what} {name!r} is served from memory: {error}")
        absence = self._absent.get(name)
        if absence is not None and now < absence.stale_until:
            absence.until = now + _RETRY_S
            self._warn(f"The {self._what} {name!r} is taken as not there, as it was before: {error}")

    def _keep(self, name: str, value: T | None) -> None:
        now = self._clock()
        if value is None:
            self._held.pop(name, None)
            until = now + self._negative_ttl_s(name)
            if until > now:
                self._absent[name] = _Absence(until, max(until, now + self._absence_is_stale_s))
                self._absent.move_to_end(name)
                _bound(self._absent, self._limit)
            return
        self._absent.pop(name, None)
        self._held[name] = _Held(value, now + self._ttl_s, now + self._refresh_s, now + self._stale_s)
        self._held.move_to_end(name)
        _bound(self._held, self._limit)


def _bound(entries: OrderedDict[str, Any], limit: int) -> None:
    while len(entries) > limit:
        entries.popitem(last=False)
