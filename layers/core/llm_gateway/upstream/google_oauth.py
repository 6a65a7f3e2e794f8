"""Google's OAuth 2.0 without a person: the secret is a credential file in JSON, and gives access tokens.

`service_account`: a JWT signed with the account's key is exchanged for a token.
`external_account`: workload identity federation. The function's own AWS role proves itself by a signed (and never sent)
request to AWS STS, so that no key of Google's is kept anywhere. What is signed is always `GetCallerIdentity`, whatever
the file says; where tokens are asked for is held to `google_credential_file` before each use.

Sources: https://developers.google.com/identity/protocols/oauth2/service-account#httprest,
https://cloud.google.com/iam/docs/workload-identity-federation-with-other-clouds#rest,
https://google.aip.dev/auth/4117 (the file), https://www.rfc-editor.org/rfc/rfc8693 (the exchange)
"""

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson

from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.ports import HttpClient, HttpRequest
from llm_gateway.errors import Unavailable, UpstreamError, UpstreamUnauthenticated, UpstreamUnavailable
from llm_gateway.upstream.authorize import Unauthorized
from llm_gateway.upstream.credentials import CredentialSource
from llm_gateway.upstream.google_credential_file import AWS_REQUEST, credential_file_fault
from llm_gateway.upstream.sigv4 import sign
from llm_gateway.upstream.single_flight import SingleFlight

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_LIFE_S: Final = 3600
_REFRESH_BEFORE_S: Final = 300.0
_TOO_NEW_TO_DROP_S: Final = 5.0
_BODY_LIMIT: Final = 64 * 1024
_TIMEOUT_S: Final = 10.0
_IDENTITY: Final = "Action=GetCallerIdentity&Version=2011-06-15"


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires_at: float
    """Unix seconds."""
    made_at: float
    quota_project: str | None = None


class GoogleOAuth:
    """The authorizer `oauth`. Tokens are kept until five minutes before they expire, one for each secret."""

    needs_key = True

    def __init__(
        self,
        http: HttpClient,
        aws: CredentialSource | None = None,
        region: str = "us-east-1",
        now: Callable[[], float] = time.time,
        *,
        loopback: bool = False,
    ) -> None:
        """`aws` are the role's own credentials, for federation. `loopback` is for tests: the file's endpoints may be on
        this machine.
        """
        self._http = http
        self._aws = aws
        self._region = region
        self._now = now
        self._loopback = loopback
        self._tokens: dict[str, _Token] = {}
        self._flights: SingleFlight[_Token] = SingleFlight()

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> Mapping[str, str]:
        """Raises `Unavailable` for a secret that is no credential file, `UpstreamError` where Google gives no token."""
        token = await self._token(provider, key or "")
        headers = {**request.headers, "authorization": f"Bearer {token.value}"}
        if token.quota_project:
            headers["x-goog-user-project"] = token.quota_project
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
            token = await self._flights.run(name, lambda: self._fetch(provider, secret))
        except UpstreamError:
            if held is not None and held.expires_at > self._now():
                return held  # good for some minutes yet; the next request tries again
            raise
        self._tokens[name] = token
        return token

    async def _fetch(self, provider: Provider, secret: str) -> _Token:
        if fault := credential_file_fault(secret, loopback=self._loopback):
            raise _unusable(provider, fault)
        document = orjson.loads(secret)
        federated = document["type"] == "external_account"
        token = await (self._by_federation if federated else self._by_service_account)(provider, document)
        return replace(token, quota_project=document.get("quota_project_id"))

    async def _by_service_account(self, provider: Provider, document: Mapping[str, Any]) -> _Token:
        token_uri = document["token_uri"]
        issued = int(self._now())
        claims = {
            "iss": document["client_email"],
            "scope": SCOPE,
            "aud": token_uri,
            "iat": issued,
            "exp": issued + _LIFE_S,
        }
        try:
            assertion = signed_jwt(claims, document["private_key"], document.get("private_key_id"))
        except (ValueError, TypeError) as error:
            reason = type(error).__name__
        else:
            form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
            return self._read(await self._post_form(provider, token_uri, form))
        # Raised out here: the parser's exception may quote the key, and must not travel as this one's context.
        raise _unusable(provider, f"its private_key cannot be read ({reason})")

    async def _by_federation(self, provider: Provider, document: Mapping[str, Any]) -> _Token:
        if self._aws is None:
            raise _unusable(provider, "federation needs the credentials of an AWS role, and here are none")
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": document["audience"],
            "scope": SCOPE,
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token_type": AWS_REQUEST,
            "subject_token": await self._subject_token(self._aws, document["audience"]),
        }
        federated = self._read(await self._post_form(provider, document["token_url"], form))
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

    async def _subject_token(self, aws: CredentialSource, audience: str) -> str:
        """A signed `GetCallerIdentity` request, as text: Google sends it to AWS to learn whose it is.

        The file has a `regional_cred_verification_url` of its own, which is not looked at: what the role signs is said
        here alone.
        """
        host = f"sts.{self._region}.amazonaws.com"
        url = f"https://{host}?{_IDENTITY}"
        given = {"host": host, "x-goog-cloud-target-resource": audience}
        headers = sign("POST", url, given, b"", await aws.current(), self._region, "sts", self._now())
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
            " store a workload identity federation configuration (external_account) as the stack's key instead, or add"
            " the package."
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
