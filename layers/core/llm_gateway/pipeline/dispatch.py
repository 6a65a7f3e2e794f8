"""The call to the provider: credential, send, and the provider's refusals as our errors."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from llm_gateway.catalog.providers import provider_rows
from llm_gateway.dialects.dialect import Dialect, EncodedRequest
from llm_gateway.domain.catalog import Deployment, Provider
from llm_gateway.domain.ports import HttpClient, HttpRequest, HttpResponse
from llm_gateway.domain.usage import Attempt
from llm_gateway.errors import (
    InternalFailure,
    ModelNotFound,
    ProviderKeyUnreadable,
    UpstreamConnectTimeout,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnauthenticated,
)
from llm_gateway.pipeline.clock import Clock, read_until
from llm_gateway.pipeline.key_ring import KeyRing
from llm_gateway.pipeline.key_turns import KeyTurns
from llm_gateway.pipeline.keyless import KnownKeyless
from llm_gateway.pipeline.leg import Leg, failed_attempt
from llm_gateway.pipeline.provider_keys import KeyResolver, ProviderKey
from llm_gateway.upstream.authorize import Authorizer, Unauthorized, authorizer_of

if TYPE_CHECKING:
    from llm_gateway.pipeline.batches import Part

_LONGEST_ERROR_BODY = 1 << 20
_LONGEST_REFUSAL_S = 10.0
"""From a refusal's head to its end: its status says the most."""
_SHORTEST_TRY_S = 1.0
_USER_AGENT = "llm-gateway"


class Dispatcher:
    """Sends one encoded request to one provider. `warn` gets what an operator should know of a key."""

    def __init__(
        self,
        http: HttpClient,
        keys: KeyResolver,
        dialects: Mapping[str, Dialect],
        authorizers: Mapping[str, Authorizer],
        warn: Callable[[str], None],
        ring: KeyRing | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._http = http
        self._keys = keys
        self._dialects = dialects
        self._authorizers = authorizers
        self._warn = warn
        self._ring = ring or KeyRing()
        self._clock = clock or Clock()
        self.keyless = KnownKeyless(self._clock)

    def with_keys(self, keys: KeyResolver) -> "Dispatcher":
        """The same over other keys, for a call in this process that brings its own."""
        return Dispatcher(self._http, keys, self._dialects, self._authorizers, self._warn, self._ring, self._clock)

    def dialect_of(self, provider: Provider) -> Dialect:
        try:
            return self._dialects[provider.dialect]
        except KeyError:
            raise InternalFailure(
                f"Provider `{provider.name}` speaks `{provider.dialect}`, which this version cannot translate."
            ) from None

    async def is_configured(self, provider: Provider, team: str | None) -> bool:
        """Whether `team` can call the provider: there is a credential for it, or it needs none.

        A key that cannot be read counts: the call itself says what is wrong with it.
        """
        if not provider.enabled or provider.base_url is None or provider.dialect not in self._dialects:
            return False
        authorizer = self._authorizers.get(provider.credential)
        if authorizer is None or not authorizer.needs_key:
            return authorizer is not None
        try:
            found = bool(await self._keys_of(provider, team))
        except ProviderKeyUnreadable:
            return True
        self.keyless.note(provider.name, team, has_key=found)
        return found

    async def send(self, leg: Leg, part: "Part") -> HttpResponse:
        """The provider's answer to a part of the leg with a 2xx status; the caller closes it.

        Whose key was sent is `leg.key`; what failed on the way joins `leg.attempts`, and whether the provider had the
        part is `part.reached`. A refusal that is the
        key's own is followed by the next key (`KeyTurns`), one of what was made of the key (a token, a role's
        credentials) by another one, once; all within the time that the first byte has.
        Raises `UpstreamError` and its kin.
        """
        provider, model = leg.provider, leg.deployment.model
        authorizer = authorizer_of(provider, self._authorizers)
        choose = partial(chosen_keys, leg.deployment)
        found = await self._keys_of(provider, leg.team)
        if authorizer.needs_key:
            self.keyless.note(provider.name, leg.team, has_key=bool(found))
        keys = choose(found)
        key = self._ring.first(keys, provider.name, model) if keys else None
        turns: KeyTurns | None = None
        renewed = False
        within_s = leg.within_s
        if within_s <= 0:
            raise UpstreamConnectTimeout("The time for this request was up before the provider was called.")
        deadline = self._clock.now() + within_s
        while True:
            began, leg.key = self._clock.now(), key
            refusal: UpstreamError
            sent: HttpRequest | None = None
            status: int | None = None
            headers: Mapping[str, str] = {}
            try:
                sent = await self._request(leg, part, key, within_s)
                response = await self._http.send(sent)
            except UpstreamRejected as error:
                refusal = error  # of whoever gives access tokens for the key
            except UpstreamError as error:
                if isinstance(error, UpstreamConnectTimeout):
                    part.reached = False  # what it went out on was a stale connection, and there is no other
                leg.attempts.append(self._failed(leg, None, error, began))
                raise
            else:
                if 200 <= response.status < 300:
                    return response
                part.reached = False
                status, headers = response.status, response.headers
                refusal = await self._refusal(leg.dialect, response, key)
            leg.attempts.append(self._failed(leg, status, refusal, began))
            within_s = deadline - self._clock.now()
            if not renewed and within_s >= _SHORTEST_TRY_S and _can_renew(authorizer, key, refusal, sent):
                renewed = True
                continue
            if key is None:
                raise refusal
            turns = turns or KeyTurns(self._keys, self._ring, provider, model, leg.team, keys, self._warn, choose)
            key = await turns.after(key, refusal, headers)
            within_s = deadline - self._clock.now()
            if key is None or within_s < _SHORTEST_TRY_S:
                raise turns.told(refusal)

    def _failed(self, leg: Leg, status: int | None, error: UpstreamError, began: float) -> Attempt:
        seconds = self._clock.now() - began
        return failed_attempt(leg.provider.name, leg.deployment.model, status, error, seconds, leg.key)

    async def _refusal(self, dialect: Dialect, response: HttpResponse, key: ProviderKey | None) -> UpstreamError:
        try:
            body = await read_until(response, _LONGEST_ERROR_BODY, self._clock.now() + _LONGEST_REFUSAL_S, self._clock)
        finally:
            await response.close()
        if key is not None:
            body = body.replace(key.text.encode(), b"***")
        return dialect.decode_error(response.status, response.headers, body)

    def what_is_missing(self, provider: Provider) -> str:
        """Why a provider that is there cannot be called, and what to do about it."""
        if provider.dialect not in self._dialects:
            return f"(Provider `{provider.name}` speaks `{provider.dialect}`, which this version cannot translate.)"
        row = provider_rows().get(provider.name)
        if provider.base_url is None:
            variables = "".join(f"{name}, or " for name in row.base_url_env[:1]) if row is not None else ""
            return f"(Provider `{provider.name}` has no address: set {variables}`base_url` in `[providers]`.)"
        variable = f"; locally, set {row.api_key_env[0]}" if row is not None and row.api_key_env else ""
        places = " or ".join(self.key_places(provider, None))
        role = " Or run with AWS credentials in the environment." if provider.credential == "sigv4" else ""
        return f"(Provider `{provider.name}` could serve it with a key: store {places}{variable}.{role})"

    def key_places(self, provider: Provider, team: str | None) -> Sequence[str]:
        """Where a key of the provider could be put."""
        return self._keys.places(provider, team)

    async def _keys_of(self, provider: Provider, team: str | None) -> Sequence[ProviderKey]:
        if provider.credential == "none":
            return ()
        return await self._keys.resolve(provider, team)

    async def _request(self, leg: Leg, part: "Part", key: ProviderKey | None, first_byte_s: float) -> HttpRequest:
        provider, encoded, timeouts = leg.provider, part.encoded, leg.timeouts
        authorizer = authorizer_of(provider, self._authorizers)
        if key is None and authorizer.needs_key:
            lacking = "neither a key nor AWS credentials" if provider.credential == "sigv4" else "no key"
            raise ModelNotFound(
                f"The model `{leg.deployment.model}` cannot be served: provider `{provider.name}` has {lacking}.",
                param="model",
            )
        url = _url(provider, encoded)
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": _USER_AGENT,
            **provider.headers,
            **encoded.headers,
        }
        text = None if key is None else key.text
        return HttpRequest(
            method="POST",
            url=url,
            headers=await authorizer.authorize(provider, text, Unauthorized("POST", url, headers, encoded.body)),
            body=encoded.body,
            connect_s=timeouts.connect_s,
            first_byte_s=first_byte_s,
            # Before the first content its own time counts, which may be the longer one.
            idle_s=max(timeouts.idle_s, timeouts.first_token_s),
            on_sent=part.went_out,
        )


def chosen_keys(deployment: Deployment, keys: Sequence[ProviderKey]) -> Sequence[ProviderKey]:
    """Those of the name that the deployment asks for; a team's own keys, which come first, need not have it.

    Raises `ModelNotFound` where the system's keys do not.
    """
    if deployment.key is None:
        return keys
    named = [key for key in keys if key.name == deployment.key]
    if not named and not any(key.source == "team" for key in keys):
        raise ModelNotFound(
            f"The model `{deployment.model}` cannot be served: provider `{deployment.provider}` has no key of the"
            f" name `{deployment.key}`.",
            param="model",
        )
    return named or keys


def _can_renew(
    authorizer: Authorizer, key: ProviderKey | None, refusal: UpstreamError, refused: HttpRequest | None
) -> bool:
    """Whether the same key may now make another credential than the one that was refused."""
    if refused is None or not isinstance(refusal, UpstreamUnauthenticated):
        return False
    return authorizer.renew(None if key is None else key.text, refused.headers)


def _url(provider: Provider, encoded: EncodedRequest) -> str:
    url = f"{provider.base_url}{encoded.path}"
    if not provider.quirks.query:
        return url
    return f"{url}{'&' if '?' in encoded.path else '?'}{urlencode(provider.quirks.query)}"
