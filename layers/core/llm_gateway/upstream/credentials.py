"""AWS credentials for requests the gateway signs itself.

Lambda gives them in the environment or, under SnapStart, at a local URL:
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html (section on credentials) and
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

import time
from asyncio import to_thread
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import orjson

from llm_gateway.domain.ports import HttpClient, HttpRequest
from llm_gateway.errors import Unavailable, UpstreamError
from llm_gateway.upstream.single_flight import SingleFlight

# The addresses every AWS SDK allows over plain HTTP: ECS tasks and EKS Pod Identity. Loopback comes on top.
_METADATA_HOSTS: Final = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost"})
_REFRESH_BEFORE_S: Final = 300.0
_RETRY_AFTER_S: Final = 5.0
_TIMEOUT_S: Final = 2.0
_ATTEMPTS: Final = 3
_BODY_LIMIT: Final = 64 * 1024


class NoCredentials(Unavailable):
    """Nothing in the environment says which credentials to sign with, or what it says cannot be used."""


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """`expires_at` is in Unix seconds; None where they do not say. The secrets are in no repr."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


class CredentialSource(Protocol):
    @property
    def available(self) -> bool:
        """Whether there is a place to have credentials from; nothing is asked for."""
        ...

    async def current(self) -> AwsCredentials:
        """Credentials that are good now. Raises `errors.Unavailable` where there are none to be had."""
        ...

    def forget(self, access_key: str) -> bool:
        """Drops the credentials that AWS has refused. Whether `current` may give others now."""
        ...


class StaticCredentials:
    """The same credentials for ever: embedded AWS and tests."""

    available = True

    def __init__(self, credentials: AwsCredentials) -> None:
        self._credentials = credentials

    async def current(self) -> AwsCredentials:
        return self._credentials

    def forget(self, access_key: str) -> bool:  # noqa: ARG002 - the port's signature
        return False


class EnvironmentCredentials(StaticCredentials):
    """`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, read once.

    Lambda never changes them in a running process: it ends the process before they expire.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises `NoCredentials`, which names the variable that is missing."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if not environ.get(name):
                raise NoCredentials(f"AWS credentials are incomplete: {name} is not set.")
        super().__init__(
            AwsCredentials(
                environ["AWS_ACCESS_KEY_ID"],
                environ["AWS_SECRET_ACCESS_KEY"],
                environ.get("AWS_SESSION_TOKEN") or None,
            )
        )


class ContainerCredentials:
    """Credentials from `AWS_CONTAINER_CREDENTIALS_FULL_URI`, fetched when needed, and 5 minutes before they expire.

    The answer: `{"AccessKeyId", "SecretAccessKey", "Token", "Expiration": "2026-02-25T06:03:31Z"}`.
    A refresh that fails costs nothing while the old ones last: it is tried again 5 seconds later.
    """

    available = True

    def __init__(
        self,
        http: HttpClient,
        url: str,
        *,
        token: str | None = None,
        token_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`token_file` is read at every fetch, for it rotates. Raises `NoCredentials` for a URL no SDK would ask."""
        _refuse_foreign_host(url)
        self._http = http
        self._url = url
        self._token = token
        self._token_file = token_file
        self._clock = clock
        self._credentials: AwsCredentials | None = None
        self._not_before = 0.0
        self._flight: SingleFlight[AwsCredentials] = SingleFlight()

    async def current(self) -> AwsCredentials:
        held = self._credentials
        now = self._clock()
        if held is not None:
            left = float("inf") if held.expires_at is None else held.expires_at - now
            if left > _REFRESH_BEFORE_S or (left > 0 and now < self._not_before):
                return held
        try:
            return await self._flight.run("credentials", self._refresh)
        except Unavailable:
            if held is not None and held.expires_at is not None and held.expires_at > self._clock():
                return held
            raise

    def forget(self, access_key: str) -> bool:
        """See `CredentialSource`. Those that came in the last 5 seconds stay: the next would be no better."""
        held = self._credentials
        if held is None or held.access_key != access_key:
            return True
        if self._clock() < self._not_before:
            return False
        self._credentials = None
        return True

    async def _refresh(self) -> AwsCredentials:
        self._not_before = self._clock() + _RETRY_AFTER_S
        for attempt in range(_ATTEMPTS):
            try:
                self._credentials = await self._fetch()
            except UpstreamError as error:
                if attempt == _ATTEMPTS - 1:
                    raise Unavailable("The AWS credential endpoint does not answer.") from error
            else:
                break
        assert self._credentials is not None
        return self._credentials

    async def _fetch(self) -> AwsCredentials:
        headers = {"accept": "application/json"}
        token = self._token
        if self._token_file:
            token = await to_thread(_read_token, self._token_file)
        if token:
            headers["authorization"] = token
        request = HttpRequest(
            "GET", self._url, headers, connect_s=_TIMEOUT_S, first_byte_s=_TIMEOUT_S, idle_s=_TIMEOUT_S
        )
        response = await self._http.send(request)
        try:
            body = await response.read(_BODY_LIMIT)
        finally:
            await response.close()
        if response.status >= 500:
            raise UpstreamError("The AWS credential endpoint failed.")
        if response.status != 200:
            raise Unavailable(f"The AWS credential endpoint answered {response.status}.")
        return _parse(body)


class RoleCredentials:
    """The environment's credentials, looked for when they are first needed: most gateways sign nothing with them."""

    def __init__(self, environ: Mapping[str, str], http: HttpClient) -> None:
        self._environ = environ
        self._http = http
        self._source: CredentialSource | None = None
        self._looked = False

    @property
    def available(self) -> bool:
        if not self._looked:
            self._looked = True
            with suppress(NoCredentials):
                self._source = credential_source(self._environ, self._http)
        return self._source is not None

    async def current(self) -> AwsCredentials:
        """Raises `NoCredentials` where the environment has none."""
        if self._source is None:
            self._source = credential_source(self._environ, self._http)
        return await self._source.current()

    def forget(self, access_key: str) -> bool:
        return self._source is not None and self._source.forget(access_key)


def credential_source(environ: Mapping[str, str], http: HttpClient) -> CredentialSource:
    """The environment's credentials, chosen as AWS SDKs do: the access key first, then the container's URL.

    Raises `NoCredentials` where neither is set. Profiles and SSO are not looked at: they are boto3's business.
    """
    if environ.get("AWS_ACCESS_KEY_ID"):
        return EnvironmentCredentials(environ)
    url = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if url:
        return ContainerCredentials(
            http,
            url,
            token=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
            token_file=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        )
    raise NoCredentials(
        "No AWS credentials in the environment: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
        "(with AWS_SESSION_TOKEN for temporary ones), or AWS_CONTAINER_CREDENTIALS_FULL_URI."
    )


def _refuse_foreign_host(url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and (host in _METADATA_HOSTS or _is_loopback(host)):
        return
    raise NoCredentials(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or http to loopback or to the ECS or EKS endpoint."
    )


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Unavailable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read.") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parse(body: bytes) -> AwsCredentials:
    try:
        answer: dict[str, Any] = orjson.loads(body)
        expiration = answer.get("Expiration")
        return AwsCredentials(
            str(answer["AccessKeyId"]),
            str(answer["SecretAccessKey"]),
            answer.get("Token") or None,
            datetime.fromisoformat(expiration).timestamp() if expiration else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = type(error).__name__
    # Raised out here: a parser's exception carries what it parsed, and must not travel as this one's context.
    raise Unavailable(f"The AWS credential endpoint's answer cannot be read ({reason}).")
