"""The call to the provider: credential, send, and the provider's refusals as our errors."""

import time
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlencode

from llm_gateway.catalog.providers import provider_rows
from llm_gateway.dialects.dialect import Dialect, EncodedRequest
from llm_gateway.domain.catalog import Provider, Timeouts
from llm_gateway.domain.ports import HttpClient, HttpRequest, HttpResponse
from llm_gateway.domain.usage import Attempt
from llm_gateway.errors import InternalFailure, ModelNotFound, UpstreamError, UpstreamUnauthenticated
from llm_gateway.pipeline.outcome import attempt
from llm_gateway.upstream.authorize import Authorizer, Unauthorized, authorizer_of

LONGEST_FIRST_BYTE_S = 280.0
"""API Gateway drops a connection that is idle for five minutes; before that there is time for a real 504."""

_LONGEST_ERROR_BODY = 1 << 20
_USER_AGENT = "llm-gateway"


class RefreshableSecrets(Protocol):
    """A cached `SecretStore`."""

    async def get_secret(self, name: str) -> str | None: ...

    def invalidate(self, name: str) -> None: ...


class Dispatcher:
    """Sends one encoded request to one provider."""

    def __init__(
        self,
        http: HttpClient,
        secrets: RefreshableSecrets,
        dialects: Mapping[str, Dialect],
        authorizers: Mapping[str, Authorizer],
        stack: str,
    ) -> None:
        self._http = http
        self._secrets = secrets
        self._dialects = dialects
        self._authorizers = authorizers
        self._stack = stack

    def dialect_of(self, provider: Provider) -> Dialect:
        try:
            return self._dialects[provider.dialect]
        except KeyError:
            raise InternalFailure(
                f"Provider `{provider.name}` speaks `{provider.dialect}`, which this version cannot translate."
            ) from None

    async def is_configured(self, provider: Provider) -> bool:
        """Whether the provider can be called: it has a credential, or needs none."""
        if not provider.enabled or provider.base_url is None or provider.dialect not in self._dialects:
            return False
        authorizer = self._authorizers.get(provider.credential)
        return authorizer is not None and (not authorizer.needs_key or await self._key_of(provider) is not None)

    async def send(
        self,
        dialect: Dialect,
        encoded: EncodedRequest,
        provider: Provider,
        model: str,
        timeouts: Timeouts,
        attempts: list[Attempt],
    ) -> HttpResponse:
        """The provider's answer with a 2xx status; the caller closes it. What failed on the way joins `attempts`.

        A credential that is refused, and has been replaced or can be renewed, is tried once more.
        Raises `UpstreamError` and its kin.
        """
        authorizer = authorizer_of(provider, self._authorizers)
        key, renewed = await self._key_of(provider), False
        while True:
            began = time.perf_counter()
            sent, status = None, None
            try:
                sent = await self._request(provider, encoded, model, key, timeouts)
                response = await self._http.send(sent)
                status = response.status
                if 200 <= status < 300:
                    return response
                refusal = await self._refusal(dialect, response, key)
            except UpstreamError as error:
                refusal = error
            attempts.append(attempt(provider.name, model, status, refusal, began))
            if renewed or not isinstance(refusal, UpstreamUnauthenticated):
                raise refusal
            stale, key, renewed = key, await self._fresh_key_of(provider), True
            if not _is_another(authorizer, stale, key, sent):
                raise refusal

    async def _refusal(self, dialect: Dialect, response: HttpResponse, key: str | None) -> UpstreamError:
        try:
            body = await response.read(_LONGEST_ERROR_BODY)
        finally:
            await response.close()
        if key:
            body = body.replace(key.encode(), b"***")
        return dialect.decode_error(response.status, response.headers, body)

    async def _fresh_key_of(self, provider: Provider) -> str | None:
        self._secrets.invalidate(self.secret_name(provider))
        return await self._key_of(provider)

    def what_is_missing(self, provider: Provider) -> str:
        """Why a provider that is there cannot be called, and what to do about it."""
        if provider.dialect not in self._dialects:
            return f"(Provider `{provider.name}` speaks `{provider.dialect}`, which this version cannot translate.)"
        row = provider_rows().get(provider.name)
        variable = f"; locally, set {row.api_key_env[0]}" if row is not None and row.api_key_env else ""
        secret = self.secret_name(provider)
        role = " Or run with AWS credentials in the environment." if provider.credential == "sigv4" else ""
        return f"(Provider `{provider.name}` could serve it with a key: store the secret `{secret}`{variable}.{role})"

    def secret_name(self, provider: Provider) -> str:
        return f"{self._stack}/provider/{provider.secret or provider.name}"

    async def _key_of(self, provider: Provider) -> str | None:
        if provider.credential == "none":
            return None
        return await self._secrets.get_secret(self.secret_name(provider))

    async def _request(
        self, provider: Provider, encoded: EncodedRequest, model: str, key: str | None, timeouts: Timeouts
    ) -> HttpRequest:
        authorizer = authorizer_of(provider, self._authorizers)
        if key is None and authorizer.needs_key:
            lacking = "neither a key nor AWS credentials" if provider.credential == "sigv4" else "no key"
            raise ModelNotFound(
                f"The model `{model}` cannot be served: provider `{provider.name}` has {lacking}.", param="model"
            )
        url = _url(provider, encoded)
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": _USER_AGENT,
            **provider.headers,
            **encoded.headers,
        }
        return HttpRequest(
            method="POST",
            url=url,
            headers=await authorizer.authorize(provider, key, Unauthorized("POST", url, headers, encoded.body)),
            body=encoded.body,
            connect_s=timeouts.connect_s,
            first_byte_s=min(timeouts.first_token_s, LONGEST_FIRST_BYTE_S),
            idle_s=timeouts.idle_s,
        )


def _is_another(authorizer: Authorizer, stale: str | None, fresh: str | None, refused: HttpRequest | None) -> bool:
    """Whether the credential would now be another than the one that was refused."""
    if fresh != stale:
        return fresh is not None or not authorizer.needs_key
    return refused is not None and authorizer.renew(stale, refused.headers)


def _url(provider: Provider, encoded: EncodedRequest) -> str:
    url = f"{provider.base_url}{encoded.path}"
    if not provider.quirks.query:
        return url
    return f"{url}{'&' if '?' in encoded.path else '?'}{urlencode(provider.quirks.query)}"
