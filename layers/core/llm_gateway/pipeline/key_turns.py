"""After a provider refused a key: whether another one is tried, and what the caller is told if none is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from llm_gateway.dialects.openai_errors import duration_s
from llm_gateway.domain.catalog import Provider
from llm_gateway.errors import UpstreamError, UpstreamUnauthenticated
from llm_gateway.pipeline.key_ring import KeyRing
from llm_gateway.pipeline.provider_keys import KeyResolver, ProviderKey

_REFUSED_S: Final = 300.0
"""How long a key that was refused, or has no credit left, is passed over while others serve: as long as a secret is
cached, and waiting does not mend it."""
_LIMITED_S: Final = 10.0
"""The same for a rate limit of which the provider does not say when it ends."""
_LONGEST_S: Final = 3600.0
_RESETS: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
)
"""https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers; Azure and Groq send the same."""


class KeyTurns:
    """The keys of one call, from its first refusal on.

    - A rate limit (429) or no credit (402, `insufficient_quota`) of one key is not that of another: the next key is
      tried at once. Keys may belong to different accounts, and where they do not, it costs one short call.
    - A refused key is read again, once a call. One that has been replaced is tried in its new form; one that has
      not is passed over, with a warning by name, if there are others.
    - Everything else is not the key's fault, and ends the call.

    Each key is tried once at most.
    """

    def __init__(
        self,
        resolver: KeyResolver,
        ring: KeyRing,
        provider: Provider,
        model: str,
        team: str | None,
        keys: Sequence[ProviderKey],
        warn: Callable[[str], None],
        choose: Callable[[Sequence[ProviderKey]], Sequence[ProviderKey]] = lambda keys: keys,
    ) -> None:
        """`choose` says which of the keys that are read again may serve."""
        self._choose = choose
        self._resolver = resolver
        self._ring = ring
        self._provider = provider
        self._model = model
        self._team = team
        self._keys = keys
        self._warn = warn
        self._tried: set[str] = set()
        self._limited: UpstreamError | None = None
        self._read_again = False

    async def after(self, key: ProviderKey, refusal: UpstreamError, headers: Mapping[str, str]) -> ProviderKey | None:
        """The key to try next, or None. Raises `errors.Unavailable` where the keys can no longer be read."""
        self._tried.add(key.text)
        if isinstance(refusal, UpstreamUnauthenticated):
            await self._refused(key)
        elif (seconds := rest_s(refusal, headers)) is not None:
            self._limited = refusal
            self._rest(key, self._model, seconds)
        else:
            self._limited = None
            return None
        return self._ring.next(self._keys, self._provider.name, self._model, self._tried)

    def told(self, refusal: UpstreamError) -> UpstreamError:
        """What the caller is told in the end: the provider's own words.

        Of several refusals, a rate limit: it passes, and a refused key beside it is the operator's business. Where the
        provider named a time, it is when the first of all keys is free again.
        """
        told = self._limited or refusal
        if told.retry_after is not None and len(self._keys) > 1:
            told.retry_after = min(told.retry_after, self._ring.free_in(self._keys, self._provider.name, self._model))
        return told

    async def _refused(self, key: ProviderKey) -> None:
        if not self._read_again:
            self._read_again = True
            self._resolver.refresh(self._provider, self._team)
            self._keys = self._choose(await self._resolver.resolve(self._provider, self._team))
        if len(self._keys) > 1 and any(one.text == key.text for one in self._keys):
            self._rest(key, None, _REFUSED_S)
            self._warn(
                f"The {key.source} key {key.name!r} of provider {self._provider.name!r} is refused by it;"
                f" the others serve for {_REFUSED_S:.0f} seconds"
            )

    def _rest(self, key: ProviderKey, model: str | None, seconds: float) -> None:
        if len(self._keys) > 1:
            self._ring.rest(key, self._provider.name, model, seconds)


def rest_s(refusal: UpstreamError, headers: Mapping[str, str]) -> float | None:
    """Seconds for which a key that is rate-limited, or out of credit, is passed over; None for any other refusal."""
    if refusal.http_status == 402 or "insufficient_quota" in (refusal.error_code, refusal.error_type):
        return max(_REFUSED_S, min(refusal.retry_after or 0.0, _LONGEST_S))
    if refusal.http_status != 429:
        return None
    seconds = refusal.retry_after
    if seconds is None:
        seconds = _reset_s(headers)
    return _LIMITED_S if seconds is None else min(seconds, _LONGEST_S)


def _reset_s(headers: Mapping[str, str]) -> float | None:
    """When the limits of which nothing remains are whole again; None where the headers do not say."""
    resets = [reset_s(headers.get(reset, "")) for left, reset in _RESETS if headers.get(left) == "0"]
    return max((seconds for seconds in resets if seconds is not None), default=None)


def reset_s(text: str) -> float | None:
    """Seconds of `6m0s`, `1h2m3.5s`, `12ms` or plain `7`; None for anything else."""
    return float(text) if text.isascii() and text.isdecimal() else duration_s(text)
