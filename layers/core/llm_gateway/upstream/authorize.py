"""Credentials as headers: the provider's key in its place, or a signature made with the AWS role's own."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from llm_gateway.domain.catalog import Provider
from llm_gateway.errors import InternalFailure
from llm_gateway.upstream.credentials import CredentialSource
from llm_gateway.upstream.sigv4 import sign


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """A request that is ready but for its credential. `headers` have lower-case names."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Authorizer(Protocol):
    """One kind of credential (`domain.catalog.Credential`)."""

    @property
    def needs_key(self) -> bool:
        """Whether a provider without a secret cannot be called. Asked at every request: no network."""
        ...

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> Mapping[str, str]:
        """All headers to send. `key` is the provider's secret. Raises `errors.GatewayError`."""
        ...

    def renew(self, key: str | None, refused: Mapping[str, str]) -> bool:
        """Drops what was made of `key` (a token, a role's credentials) and sent in the headers `refused`.

        Whether another `authorize` with the same key may now send something else.
        """
        ...


class _TheKeyItself:
    """A credential that only a new secret can change."""

    def renew(self, key: str | None, refused: Mapping[str, str]) -> bool:  # noqa: ARG002 - the port's signature
        return False


class NoCredential(_TheKeyItself):
    needs_key = False

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> Mapping[str, str]:  # noqa: ARG002 - the port's signature
        return request.headers


class BearerKey(_TheKeyItself):
    needs_key = True

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> Mapping[str, str]:  # noqa: ARG002 - the port's signature
        return {**request.headers, "authorization": f"Bearer {key}"}


class HeaderKey(_TheKeyItself):
    """The bare key in a header of the vendor's own: Azure's `api-key`, Anthropic's `x-api-key`."""

    needs_key = True

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> Mapping[str, str]:
        return {**request.headers, provider.credential_header or "api-key": key or ""}


class SignedByRole:
    """AWS Signature Version 4 with the credentials of the function's role; a stored key (of Bedrock) goes as bearer.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """

    def __init__(
        self, credentials: CredentialSource, region: str, service: str = "bedrock", now: Callable[[], float] = time.time
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        self._now = now

    @property
    def needs_key(self) -> bool:
        """Only where there is no role to sign with: a laptop without AWS credentials."""
        return not self._credentials.available

    def renew(self, key: str | None, refused: Mapping[str, str]) -> bool:
        if key is not None:
            return False
        _, _, after = refused.get("authorization", "").partition("Credential=")
        return self._credentials.forget(after.partition("/")[0])

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> Mapping[str, str]:
        if key is not None:
            return {**request.headers, "authorization": f"Bearer {key}"}
        credentials = await self._credentials.current()
        region = provider.region or self._region
        return sign(
            request.method, request.url, request.headers, request.body, credentials, region, self._service, self._now()
        )


KEY_AUTHORIZERS: Mapping[str, Authorizer] = {"none": NoCredential(), "bearer": BearerKey(), "header": HeaderKey()}
"""Those that need nothing from outside."""


def authorizer_of(provider: Provider, authorizers: Mapping[str, Authorizer]) -> Authorizer:
    """Raises `InternalFailure` where the gateway was put together without that kind."""
    try:
        return authorizers[provider.credential]
    except KeyError:
        raise InternalFailure(
            f"Provider `{provider.name}` uses the credential `{provider.credential}`, which is not set up here."
        ) from None
