"""Google's OAuth 2.0 without a person: the secret is a credential file in JSON, and gives access tokens.

`service_account`: a JWT signed with the account's key is exchanged for a token.
`external_account`: workload identity federation. The function's own AWS role proves itself by a signed (and never sent)
request to AWS STS, so that no key of Google's is kept anywhere.

Sources: https://developers.google.com/identity/protocols/oauth2/service-account#httprest,
https://cloud.google.com/iam/docs/workload-identity-federation-with-other-clouds#rest,
https://google.aip.dev/auth/4117 (the file), https://www.rfc-editor.org/rfc/rfc8693 (the exchange)
"""

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.ports import HttpClient, HttpRequest
from llm_gateway.errors import Unavailable, UpstreamError, UpstreamUnauthenticated, UpstreamUnavailable
from llm_gateway.upstream.authorize import Unauthorized
from llm_gateway.upstream.credentials import CredentialSource
from llm_gateway.upstream.sigv4 import sign
from llm_gateway.upstream.single_flight import SingleFlight

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_LIFE_S: Final = 3600
_REFRESH_BEFORE_S: Final = 300.0
_TOO_NEW_TO_DROP_S: Final = 5.0
_BODY_LIMIT: Final = 64 * 1024
_TIMEOUT_S: Final = 10.0
_AWS: Final = "urn:ietf:params:aws:token-type:aws4_request"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires_at: float
    """Unix seconds."""
    made_at: float


class GoogleOAuth:
    """The authorizer `oauth`. Tokens are kept until five minutes before they expire, one for each secret."""

    needs_key = True

    def __init__(
        self,
        http: HttpClient,
        aws: CredentialSource | None = None,
        region: str = "us-east-1",
        now: Callable[[], float] = time.time,
    ) -> None:
        """`aws` are the role's own credentials, for federation."""
        self._http = http
        self._aws = aws
        self._region = region
        self._now = now
        self._tokens: dict[str, _Token] = {}
        self._flights: SingleFlight[_Token] = SingleFlight()

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> Mapping[str, str]:
        """Raises `Unavailable` for a secret that is no credential file, `UpstreamError` where Google gives no token."""
        secret = key or ""
        token = await self._token(provider, secret)
        headers = {**request.headers, "authorization": f"Bearer {token.value}"}
        if quota_project := _document(provider, secret).get("quota_project_id"):
            headers["x-goog-user-project"] = quota_project
        return headers

    def renew(self, key: str | None, refused: Mapping[str, str]) -> bool:
        """A token revoked before its time is dropped; one made a moment ago stays: the next would be no better."""
        name = _name_of(key or "")
        held = self._tokens.get(name)
        if held is None or refused.get("authorization") != f"Bearer {held.value}":
            return True
        if self._now() - held.made_at < _TOO_NEW_TO_DROP_S:
            return False
        del self._tokens[name]
        return True

    async def _token(self, provider: Provider, secret: str) -> _Token:
        name = _name_of(secret)
        held = self._tokens.get(name)
        if held is not None and held.expires_at - self._now() > _REFRESH_BEFORE_S:
            return held
        try:
            token = await self._flights.run(name, lambda: self._fetch(provider, _document(provider, secret)))
        except UpstreamError:
            if held is not None and held.expires_at > self._now():
                return held  # good for some minutes yet; the next request tries again
            raise
        self._tokens[name] = token
        return token

    async def _fetch(self, provider: Provider, document: Mapping[str, Any]) -> _Token:
        match document.get("type"):
            case "service_account":
                return await self._by_service_account(provider, document)
            case "external_account":
                return await self._by_federation(provider, document)
        raise _unusable(provider, "its `type` must be service_account or external_account")

    async def _by_service_account(self, provider: Provider, document: Mapping[str, Any]) -> _Token:
        token_uri = _member(provider, document, "token_uri")
        issued = int(self._now())
        claims = {
            "iss": _member(provider, document, "client_email"),
            "scope": SCOPE,
            "aud": token_uri,
            "iat": issued,
            "exp": issued + _LIFE_S,
        }
        try:
            assertion = signed_jwt(claims, _member(provider, document, "private_key"), document.get("private_key_id"))
        except (ValueError, TypeError) as error:
            reason = type(error).__name__
        else:
            form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
            return self._read(await self._post_form(provider, token_uri, form))
        # Raised out here: the parser's exception may quote the key, and must not travel as this one's context.
        raise _unusable(provider, f"its private_key cannot be read ({reason})")

    async def _by_federation(self, provider: Provider, document: Mapping[str, Any]) -> _Token:
        if document.get("subject_token_type") != _AWS or self._aws is None:
            raise _unusable(provider, "only federation from AWS is possible here")
        audience = _member(provider, document, "audience")
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": audience,
            "scope": SCOPE,
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token_type": _AWS,
            "subject_token": await self._subject_token(provider, document, audience),
        }
        federated = self._read(await self._post_form(provider, _member(provider, document, "token_url"), form))
        account = document.get("service_account_impersonation_url")
        if not account:
            return federated
        headers = {"content-type": "application/json", "authorization": f"Bearer {federated.value}"}
        body = orjson.dumps({"scope": [SCOPE], "lifetime": f"{_LIFE_S}s"})
        answer = await self._post(provider, account, headers, body)
        try:
            expires_at = datetime.fromisoformat(answer["expireTime"]).timestamp()
            return _Token(str(answer["accessToken"]), expires_at, self._now())
        except (KeyError, TypeError, ValueError):
            raise UpstreamUnavailable("Google's answer for an access token cannot be read.") from None

    async def _subject_token(self, provider: Provider, document: Mapping[str, Any], audience: str) -> str:
        """A signed `GetCallerIdentity` request, as text: Google sends it to AWS to learn whose it is."""
        assert self._aws is not None
        source = document.get("credential_source")
        template = source.get("regional_cred_verification_url") if isinstance(source, Mapping) else None
        if not isinstance(template, str):
            raise _unusable(provider, "its credential_source names no regional_cred_verification_url")
        url = template.replace("{region}", self._region)
        given = {"host": urlsplit(url).netloc, "x-goog-cloud-target-resource": audience}
        headers = sign("POST", url, given, b"", await self._aws.current(), self._region, "sts", self._now())
        listed = [{"key": name, "value": value} for name, value in headers.items()]
        return quote(orjson.dumps({"url": url, "method": "POST", "headers": listed}))

    def _read(self, answer: Mapping[str, Any]) -> _Token:
        token, seconds = answer.get("access_token"), answer.get("expires_in", _LIFE_S)
        if not isinstance(token, str) or not token or not isinstance(seconds, int | float):
            raise UpstreamUnavailable("Google's answer for an access token cannot be read.")
        return _Token(token, self._now() + seconds, self._now())

    async def _post_form(self, provider: Provider, url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return await self._post(provider, url, headers, urlencode(form).encode())

    async def _post(self, provider: Provider, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise _unusable(provider, "its URLs must be https")
        sent = {**headers, "accept": "application/json", "accept-encoding": "identity"}
        response = await self._http.send(
            HttpRequest("POST", url, sent, body, connect_s=_TIMEOUT_S, first_byte_s=_TIMEOUT_S, idle_s=_TIMEOUT_S)
        )
        try:
            answer = await response.read(_BODY_LIMIT)
        finally:
            await response.close()
        try:
            parsed = orjson.loads(answer)
        except orjson.JSONDecodeError:
            parsed = {}
        parsed = parsed if isinstance(parsed, dict) else {}
        if 200 <= response.status < 300:
            return parsed
        raise _refused(provider, response.status, parsed)


def signed_jwt(claims: Mapping[str, Any], private_key: str, key_id: str | None) -> str:
    """A JSON Web Token, signed RS256. Raises `ValueError` or `TypeError` for what is no RSA key in PEM.

    Source: https://www.rfc-editor.org/rfc/rfc7515
    """
    # Imported here: 12 ms and 16 MB that only gateways with a service account need.
    try:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415
    except ImportError:
        raise Unavailable(
            "A Google service account needs the package `cryptography`, which the deployed layer does not hold:"
            " store a workload identity federation configuration (external_account) instead, or add the package."
        ) from None

    key = load_pem_private_key(private_key.encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError("not an RSA key")
    header = {"alg": "RS256", "typ": "JWT", **({"kid": key_id} if key_id else {})}
    signed = b".".join(_base64url(orjson.dumps(part)) for part in (header, dict(claims)))
    return b".".join((signed, _base64url(key.sign(signed, PKCS1v15(), SHA256())))).decode()


def _name_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _document(provider: Provider, secret: str) -> Mapping[str, Any]:
    try:
        document = orjson.loads(secret)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise _unusable(provider, "it is not JSON")
    return document


def _member(provider: Provider, document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise _unusable(provider, f"it has no `{name}`")
    return value


def _unusable(provider: Provider, reason: str) -> Unavailable:
    return Unavailable(f"The secret of provider `{provider.name}` is no credential file of Google's: {reason}.")


def _refused(provider: Provider, status: int, answer: Mapping[str, Any]) -> UpstreamError:
    """Google's words are kept: `invalid_grant` says more than a status."""
    error = answer.get("error")
    said = error.get("message") if isinstance(error, Mapping) else answer.get("error_description") or error
    message = f"Google gave no access token for provider `{provider.name}`: {said or f'it answered {status}'}"
    if status == 429 or status >= 500:
        return UpstreamUnavailable(message)
    return UpstreamUnauthenticated(message, code="invalid_api_key")
