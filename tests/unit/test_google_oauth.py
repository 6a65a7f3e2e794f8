"""Specifies access tokens from Google: JWTs by a service account's key, federation from AWS, caching, and what goes wrong.

The fakes check what Google and AWS would: the JWT's signature with the public key, the signed request with botocore.
Google's own library, google-auth, is the second witness of the JWT.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth import jwt as google_jwt
from google.auth.crypt import RSASigner

from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import GatewayError, Unavailable, UpstreamError, UpstreamUnauthenticated, UpstreamUnavailable
from llm_gateway.upstream.authorize import Unauthorized
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from llm_gateway.upstream.google_oauth import GoogleOAuth, signed_jwt

VERTEX = Provider("google_vertex", "gemini_generate_content", "https://v.example", "oauth")
REQUEST = Unauthorized("POST", "https://v.example/x", {"content-type": "application/json"}, b"{}")
TOKEN_URI = "https://oauth2.googleapis.com/token"
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ACCOUNT = {
    "type": "service_account",
    "client_email": "gateway@project.iam.gserviceaccount.com",
    "private_key": PEM,
    "private_key_id": "key-1",
    "token_uri": TOKEN_URI,
}
STS = "https://sts.googleapis.com/v1/token"
AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws"
FEDERATED = {
    "type": "external_account",
    "audience": AUDIENCE,
    "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
    "token_url": STS,
    "credential_source": {
        "environment_id": "aws1",
        "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
    },
}
AWS = AwsCredentials("AKID", "aws-secret", "aws-session")
NOW = 1_700_000_000.0


class Answer:
    headers: Mapping[str, str] = {}

    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self._body = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def read(self, limit: int) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    def end(self, error: UpstreamError) -> None:
        """All has come."""

    async def close(self) -> None:
        return None


class Google:
    """An `HttpClient` that answers by `answer`, and keeps what it was asked."""

    def __init__(self, answer: Callable[[HttpRequest], Answer]) -> None:
        self.answer = answer
        self.requests: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> Answer:
        self.requests.append(request)
        await asyncio.sleep(0)
        return self.answer(request)

    async def close(self) -> None:
        return None


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def tokens() -> Callable[[HttpRequest], Answer]:
    """Gives `token-1`, `token-2`, … each good for an hour."""
    given = iter(range(1, 100))
    return lambda request: Answer(
        200, {"access_token": f"token-{next(given)}", "expires_in": 3600, "token_type": "Bearer"}
    )


async def bearer(oauth: GoogleOAuth, document: Any = ACCOUNT) -> str:
    secret = document if isinstance(document, str) else json.dumps(document)
    return (await oauth.authorize(VERTEX, secret, REQUEST))["authorization"]


def segment(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


async def test_a_service_account_proves_itself_by_a_signed_jwt() -> None:
    google = Google(tokens())
    headers = await GoogleOAuth(google, now=Clock()).authorize(
        VERTEX, json.dumps({**ACCOUNT, "quota_project_id": "payer"}), REQUEST
    )
    assert headers == {
        "content-type": "application/json",
        "authorization": "Bearer token-1",
        "x-goog-user-project": "payer",
    }
    (sent,) = google.requests
    form = {name: values[0] for name, values in parse_qs(sent.body.decode()).items()}
    assert (sent.url, form["grant_type"]) == (TOKEN_URI, "urn:ietf:params:oauth:grant-type:jwt-bearer")
    header, claims, signature = form["assertion"].split(".")
    assert segment(header) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    assert segment(claims) == {
        "iss": ACCOUNT["client_email"],
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": TOKEN_URI,
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
    }
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    KEY.public_key().verify(raw, f"{header}.{claims}".encode(), padding.PKCS1v15(), SHA256())


def test_the_jwt_is_the_one_that_googles_library_makes() -> None:
    claims = {"iss": "a", "aud": "b", "iat": 1, "exp": 2}
    signer: Any = RSASigner
    encode: Any = google_jwt.encode  # google-auth is typed in part only
    theirs = encode(signer.from_string(PEM, key_id="k"), claims).decode().split(".")
    ours = signed_jwt(claims, PEM, "k").split(".")
    assert [segment(part) for part in ours[:2]] == [segment(part) for part in theirs[:2]]


async def test_a_token_is_kept_until_shortly_before_it_expires() -> None:
    google, clock = Google(tokens()), Clock()
    oauth = GoogleOAuth(google, now=clock)
    assert await bearer(oauth) == "Bearer token-1"
    clock.now += 3299
    assert await bearer(oauth) == "Bearer token-1"
    clock.now += 2
    assert await bearer(oauth) == "Bearer token-2"
    assert await bearer(oauth, {**ACCOUNT, "client_email": "other@x"}) == "Bearer token-3"


async def test_many_who_ask_at_once_share_one_exchange() -> None:
    google = Google(tokens())
    oauth = GoogleOAuth(google, now=Clock())
    assert set(await asyncio.gather(*(bearer(oauth) for _ in range(20)))) == {"Bearer token-1"}
    assert len(google.requests) == 1


async def test_a_failed_refresh_costs_nothing_while_the_token_lasts() -> None:
    google, clock = Google(tokens()), Clock()
    oauth = GoogleOAuth(google, now=clock)
    await bearer(oauth)
    google.answer = lambda request: Answer(503, b"<html>")
    clock.now += 3400
    assert await bearer(oauth) == "Bearer token-1"
    clock.now += 201
    with pytest.raises(UpstreamUnavailable):
        await bearer(oauth)


async def test_federation_from_aws_signs_a_request_that_aws_would_take() -> None:
    google = Google(tokens())
    oauth = GoogleOAuth(google, StaticCredentials(AWS), "eu-central-1", now=Clock())
    assert await bearer(oauth, FEDERATED) == "Bearer token-1"
    (sent,) = google.requests
    form = {name: values[0] for name, values in parse_qs(sent.body.decode()).items()}
    assert (sent.url, form["audience"]) == (STS, AUDIENCE)
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    subject = json.loads(unquote(form["subject_token"]))
    headers = {item["key"].lower(): item["value"] for item in subject["headers"]}
    assert (subject["method"], headers["x-goog-cloud-target-resource"]) == ("POST", AUDIENCE)
    assert urlsplit(subject["url"]).netloc == headers["host"] == "sts.eu-central-1.amazonaws.com"
    assert headers["authorization"] == _by_botocore(subject["url"], headers)


@pytest.mark.parametrize(
    "source",
    [
        {"regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=AssumeRole&RoleArn=arn:aws:iam::1:role/x"},
        {"regional_cred_verification_url": "https://evil.example/{region}"},
        {"file": "/etc/passwd"},
        None,
    ],
)  # fmt: skip
async def test_what_the_role_signs_is_never_the_files_to_say(source: Any) -> None:
    google = Google(tokens())
    oauth = GoogleOAuth(google, StaticCredentials(AWS), "eu-central-1", now=Clock())
    await bearer(oauth, {**FEDERATED, "credential_source": source})
    subject = json.loads(unquote(parse_qs(google.requests[0].body.decode())["subject_token"][0]))
    assert subject["url"] == "https://sts.eu-central-1.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"


def _by_botocore(url: str, headers: Mapping[str, str]) -> str:
    kept = {name: value for name, value in headers.items() if name != "authorization"}
    request = AWSRequest("POST", url, headers=kept, data=b"")
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(AWS.access_key, AWS.secret_key, AWS.session_token), "sts", "eu-central-1")
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"


async def test_a_federated_identity_may_act_as_a_service_account() -> None:
    url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b:generateAccessToken"

    def answer(request: HttpRequest) -> Answer:
        if request.url == STS:
            return Answer(200, {"access_token": "federated", "expires_in": 3600})
        assert (request.url, request.headers["authorization"]) == (url, "Bearer federated")
        assert json.loads(request.body)["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]
        return Answer(200, {"accessToken": "as-account", "expireTime": "2023-11-14T23:13:20Z"})

    google, clock = Google(answer), Clock()
    oauth = GoogleOAuth(google, StaticCredentials(AWS), now=clock)
    document = {**FEDERATED, "service_account_impersonation_url": url}
    assert await bearer(oauth, document) == "Bearer as-account"
    clock.now += 3299  # the token expires an hour after NOW
    await bearer(oauth, document)
    assert len(google.requests) == 2
    clock.now += 2
    await bearer(oauth, document)
    assert len(google.requests) == 4


EC_PEM = (
    ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("sk-not-json", "it is not JSON"),
        ("[]", "it is not JSON"),
        ({"type": "authorized_user"}, "its `type`"),
        ({**ACCOUNT, "client_email": ""}, "it has no `client_email`"),
        ({**ACCOUNT, "token_uri": "https://tokens.example/"}, "its `token_uri` is not Google's"),
        ({**FEDERATED, "token_url": "https://["}, "its `token_url` is not Google's"),
        ({**FEDERATED, "service_account_impersonation_url": 7}, "its `service_account_impersonation_url`"),
        ({**ACCOUNT, "private_key": "garbage-key"}, "its private_key cannot be read (ValueError)"),
        ({**ACCOUNT, "private_key": EC_PEM}, "its private_key cannot be read (TypeError)"),
        ({**FEDERATED, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "only federation from AWS"),
    ],
)  # fmt: skip
async def test_a_secret_that_is_no_credential_file_says_why_and_not_what_is_in_it(document: Any, reason: str) -> None:
    google = Google(tokens())
    with pytest.raises(Unavailable) as caught:
        await bearer(GoogleOAuth(google, StaticCredentials(AWS), now=Clock()), document)
    assert reason in caught.value.message
    assert "garbage" not in caught.value.message
    assert caught.value.__cause__ is None
    assert google.requests == []


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, UpstreamUnauthenticated, "Invalid JWT Signature."),
        (403, {"error": {"code": 403, "message": "Permission denied."}}, UpstreamUnauthenticated, "Permission denied."),
        (401, b"<html>", UpstreamUnauthenticated, "it answered 401"),
        (429, {}, UpstreamUnavailable, "it answered 429"),
        (500, {"error": "internal"}, UpstreamUnavailable, "internal"),
        (200, {"token_type": "Bearer"}, UpstreamUnavailable, "cannot be read"),
        (200, b"<html>", UpstreamUnavailable, "cannot be read"),
    ],
)  # fmt: skip
async def test_google_gives_no_token(status: int, body: Any, kind: type[GatewayError], said: str) -> None:
    with pytest.raises(kind) as caught:
        await bearer(GoogleOAuth(Google(lambda request: Answer(status, body)), now=Clock()))
    assert said in caught.value.message
    if kind is UpstreamUnauthenticated:
        assert (caught.value.http_status, caught.value.error_code) == (401, "invalid_api_key")
