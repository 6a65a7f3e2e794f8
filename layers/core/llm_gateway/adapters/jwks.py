"""An identity provider's signing keys, read from where it publishes them, and remembered.

Sources: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig (sections 4.1 to 4.3),
https://openid.net/specs/openid-connect-core-1_0.html#RotateSigKeys (an unknown key is a reason to look again)
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from llm_gateway.adapters.read_through import ReadThrough
from llm_gateway.domain.ports import HttpClient, HttpRequest
from llm_gateway.errors import Unavailable, UpstreamError
from llm_gateway.pipeline.signing_keys import SigningKey, chosen, read_key_set

_FRESH_S: Final = 600.0
_REFRESH_S: Final = 300.0
_STALE_S: Final = 6 * 3600.0
_LOOK_AGAIN_S: Final = 30.0
_RETRY_S: Final = 5.0
_TIMEOUT_S: Final = 5.0
_BODY_LIMIT: Final = 512 * 1024
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class PublishedKeys:
    """`pipeline.signing_keys.SigningKeys`.

    Keys are fresh for 10 minutes, from the fifth on they are read again in the background, and while the provider is
    away they serve on for 6 hours. A key that is not among them is a reason to look again at once, but at most every
    30 seconds, whatever names strangers make up.
    """

    def __init__(
        self,
        http: HttpClient,
        issuer: str,
        jwks_url: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """`jwks_url` is for providers without a discovery document. Both come from the operator alone."""
        self._http = http
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._look_again_at = float("-inf")
        self._down_until = float("-inf")
        self._keys: ReadThrough[tuple[SigningKey, ...]] = ReadThrough(
            self._load,
            what="identity provider",
            ttl_s=_FRESH_S,
            refresh_s=_REFRESH_S,
            stale_s=_STALE_S,
            clock=clock,
            warn=warn,
        )

    async def find(self, kid: str | None, algorithm: str) -> SigningKey | None:
        """Raises `Unavailable` where the keys cannot be had and never could."""
        found = chosen(await self._current(), kid, algorithm)
        if found is None and self._clock() >= self._look_again_at:
            self._keys.invalidate(self._issuer)
            found = chosen(await self._current(), kid, algorithm)
        return found

    async def _current(self) -> tuple[SigningKey, ...]:
        return await self._keys.get(self._issuer) or ()

    async def _load(self, issuer: str) -> tuple[SigningKey, ...]:
        if self._clock() < self._down_until:
            raise Unavailable(f"The signing keys of `{issuer}` could not be read a moment ago.", retry_after=_RETRY_S)
        self._look_again_at = self._clock() + _LOOK_AGAIN_S
        try:
            return await self._read(issuer)
        except UpstreamError as error:
            reason = error.message
        except ValueError as error:
            reason = str(error)
        self._down_until = self._clock() + _RETRY_S
        raise Unavailable(f"The signing keys of `{issuer}` cannot be read: {reason}", retry_after=_RETRY_S)

    async def _read(self, issuer: str) -> tuple[SigningKey, ...]:
        url = self._jwks_url
        if url is None:
            document = await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            url = document.get("jwks_uri")
            if document.get("issuer") != issuer:
                raise ValueError(f"its discovery document is of another issuer, {document.get('issuer')!r}.")
            if not isinstance(url, str):
                raise ValueError("its discovery document has no jwks_uri.")
        keys = read_key_set(await self._get(url))
        if not keys:
            raise ValueError("it publishes no key for RS256 or ES256.")
        return keys

    async def _get(self, url: str) -> Mapping[str, Any]:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError(f"{url} is not https.")
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        response = await self._http.send(
            HttpRequest("GET", url, headers, connect_s=_TIMEOUT_S, first_byte_s=_TIMEOUT_S, idle_s=_TIMEOUT_S)
        )
        try:
            body = await response.read(_BODY_LIMIT)
        finally:
            await response.close()
        if response.status != 200:
            raise ValueError(f"{url} answered {response.status}.")
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise ValueError(f"{url} did not answer with a JSON object.")  # noqa: TRY004 - an answer, no argument
        return document
