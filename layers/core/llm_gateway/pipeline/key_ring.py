"""Which of a provider's keys serves a call: by weight, passing over those that are resting.

A key rests after the provider refused it: for as long as it was told (429), or for a while (401, no credit). A rate
limit is a model's at most providers (https://platform.openai.com/docs/guides/rate-limits: they "vary by model"), so a
key that rests for one model serves the others. One process knows only what it met itself: no store is asked.
"""

import random
import time
from collections.abc import Callable, Container, Sequence

from llm_gateway.pipeline.provider_keys import ProviderKey

_REMEMBERED = 1000


class KeyRing:
    """`draw` gives a number in [0, 1), `clock` seconds."""

    def __init__(self, draw: Callable[[], float] = random.random, clock: Callable[[], float] = time.monotonic) -> None:
        self._draw = draw
        self._clock = clock
        self._resting: dict[tuple[str, ProviderKey, str | None], float] = {}

    def first(self, keys: Sequence[ProviderKey], provider: str, model: str) -> ProviderKey:
        """The key to begin with; `keys` must not be empty.

        If all are resting it is the one that is free soonest: the provider and not our guess says whether it still
        refuses, and in whose words. So a provider with one key is called as if there were no ring.
        """
        if len(keys) == 1:
            return keys[0]
        return self.next(keys, provider, model, ()) or min(keys, key=lambda key: self._free_at(key, provider, model))

    def next(self, keys: Sequence[ProviderKey], provider: str, model: str, tried: Container[str]) -> ProviderKey | None:
        """A key that is not resting and whose text is not in `tried`, drawn by weight; None where all are."""
        now = self._clock()
        free = [key for key in keys if key.text not in tried and self._free_at(key, provider, model) <= now]
        if not free:
            return None
        point = self._draw() * sum(key.weight for key in free)
        for key in free:
            point -= key.weight
            if point < 0:
                return key
        return free[-1]

    def rest(self, key: ProviderKey, provider: str, model: str | None, seconds: float) -> None:
        """Passes over the key for so long; for every model where `model` is None."""
        now = self._clock()
        if len(self._resting) >= _REMEMBERED:
            self._resting = {name: until for name, until in self._resting.items() if until > now}
        if len(self._resting) >= _REMEMBERED:
            self._resting.clear()  # better a needless refusal than an endless memory
        self._resting[provider, key, model] = now + seconds

    def free_in(self, keys: Sequence[ProviderKey], provider: str, model: str) -> float:
        """Seconds until the first of the keys is free; 0 where one is."""
        return max(0.0, min(self._free_at(key, provider, model) for key in keys) - self._clock())

    def _free_at(self, key: ProviderKey, provider: str, model: str) -> float:
        resting = self._resting
        return max(resting.get((provider, key, model), 0.0), resting.get((provider, key, None), 0.0))
