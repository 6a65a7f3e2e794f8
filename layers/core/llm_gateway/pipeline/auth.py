"""Who calls: a virtual key, found by its public id and compared in constant time."""

import time
from collections.abc import Callable
from typing import Literal, Protocol

from llm_gateway.domain.identity import VirtualKey, lookup_id
from llm_gateway.domain.ports import Registry
from llm_gateway.errors import AuthenticationFailed

_ANONYMOUS = VirtualKey(key_id="anonymous", name="anonymous", key_hash="", role="admin")
_LONGEST_KEY = 512


class Identification(Protocol):
    async def identify(self, token: str | None) -> VirtualKey:
        """Raises `AuthenticationFailed`."""
        ...


class Authenticator:
    """By keys. `registry` caches what it finds; `mode` "none" lets everyone in, which only a laptop may do."""

    def __init__(self, registry: Registry, mode: Literal["keys", "none"], now: Callable[[], float] = time.time) -> None:
        self._registry = registry
        self._mode = mode
        self._now = now

    async def identify(self, token: str | None) -> VirtualKey:
        """Raises `AuthenticationFailed` in the same words for a key that is unknown, wrong, disabled or expired."""
        if self._mode == "none":
            return _ANONYMOUS
        if not token:
            raise AuthenticationFailed(
                "You didn't provide an API key. Send it in the Authorization header: `Authorization: Bearer YOUR_KEY`."
            )
        if len(token) <= _LONGEST_KEY:
            key = await self._registry.find_key(lookup_id(token))
            if key is not None and key.matches(token) and self._usable(key):
                return key
        raise AuthenticationFailed("Incorrect API key provided: it is unknown, disabled or expired.")

    def _usable(self, key: VirtualKey) -> bool:
        return key.enabled and (key.expires_at is None or key.expires_at > self._now())
