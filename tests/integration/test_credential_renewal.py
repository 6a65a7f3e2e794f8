"""Credentials that a provider refuses: read or made anew, once, whatever status and words the wire says it with."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import UpstreamError
from llm_gateway.upstream.authorize import SignedByRole
from llm_gateway.upstream.credentials import ContainerCredentials, RoleCredentials
from llm_gateway.upstream.google_oauth import GoogleOAuth
from tests.fakes.bedrock_upstream import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, BedrockUpstream
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.gemini_upstream import GeminiUpstream, gemini_error
from tests.fakes.openai_upstream import OpenAIUpstream, Reply

HELLO = [{"role": "user", "content": "hi"}]
GEMINI = """
[providers.gemini]
dialect = "gemini_generate_content"
base_url = "{base_url}"
"""
VERTEX = """
[providers.google_vertex]
dialect = "gemini_generate_content"
credential = "oauth"
base_url = "{base_url}"
"""
BEDROCK = """
[providers.bedrock]
base_url = "{base_url}"
"""
FEDERATED = json.dumps(
    {
        "type": "external_account",
        "audience": "//iam.googleapis.com/pool",
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=X"},
    }
)
BAD_XAI_KEY = "Incorrect API key provided: ol***ld. You can obtain an API key from https://console.x.ai."
NOVA = "amazon.nova-lite-v1:0"
CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4},
}


class Answer:
    headers: Mapping[str, str] = {}
    status = 200

    def __init__(self, body: Any) -> None:
        self._body = json.dumps(body).encode()

    async def read(self, limit: int) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    def end(self, error: UpstreamError) -> None:
        """All has come."""

    async def close(self) -> None:
        return None


class Issuer:
    """An `HttpClient` that hands out credentials, a new one each time: `make` gets their number, from 1 on."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make
        self.asked = 0

    async def send(self, request: HttpRequest) -> Answer:
        self.asked += 1
        return Answer(self._make(self.asked))

    async def close(self) -> None:
        return None


def every(seconds: float) -> Callable[[], float]:
    """A clock that is so much further each time it is read."""
    ticks = itertools.count()
    return lambda: 1_700_000_000.0 + next(ticks) * seconds


def container(seconds: float, keys: Callable[[int], Mapping[str, str]]) -> tuple[ContainerCredentials, Issuer]:
    expires = datetime.fromtimestamp(1_700_000_000 + 10_000, UTC).isoformat()
    issuer = Issuer(lambda number: {**keys(number), "Expiration": expires})
    return ContainerCredentials(issuer, "http://127.0.0.1/creds", clock=every(seconds)), issuer


def stale_first(number: int) -> Mapping[str, str]:
    if number == 1:
        return {"AccessKeyId": "ASIASTALE", "SecretAccessKey": "stale", "Token": "stale"}
    return {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": SESSION_TOKEN}


def ask(app: GatewayApp, model: str) -> httpx.Response:
    return httpx.post(f"{app.base_url}/chat/completions", json={"model": model, "messages": HELLO}, headers=app.auth)


def attempts(app: GatewayApp, answer: httpx.Response) -> list[tuple[int | None, str | None]]:
    return [(each.status, each.error) for each in app.record(answer.headers["x-request-id"]).attempts]


@pytest.fixture
def gemini() -> Iterator[GeminiUpstream]:
    with GeminiUpstream() as running:
        yield running


@pytest.fixture
def bedrock() -> Iterator[BedrockUpstream]:
    with BedrockUpstream() as running:
        yield running


def test_a_key_that_gemini_refuses_with_400_is_read_again(gemini: GeminiUpstream) -> None:
    with GatewayApp(GEMINI.format(base_url=gemini.base_url), secrets={"gemini": "old"}) as app:
        gemini.require_key("old")
        assert ask(app, "gemini:x").status_code == 200
        gemini.require_key("new")
        app.secret_store.put("llm-gateway/provider/gemini", "new")
        answer = ask(app, "gemini:x")
        assert answer.status_code == 200
        assert attempts(app, answer) == [(400, "invalid_api_key"), (200, None)]
    assert [request.headers["x-goog-api-key"] for request in gemini.requests] == ["old", "old", "new"]


def test_another_refusal_is_not_tried_again(gemini: GeminiUpstream) -> None:
    gemini.script("x", gemini_error(400, "INVALID_ARGUMENT", "topK is too large"))
    with GatewayApp(GEMINI.format(base_url=gemini.base_url), secrets={"gemini": "old"}) as app:
        app.secret_store.put("llm-gateway/provider/gemini", "new")
        assert ask(app, "gemini:x").status_code == 400
    assert len(gemini.requests) == 1


def test_a_revoked_token_of_googles_is_made_anew(gemini: GeminiUpstream) -> None:
    issuer = Issuer(lambda number: {"access_token": f"token-{number}", "expires_in": 3600})
    aws, _ = container(0, stale_first)
    oauth = GoogleOAuth(issuer, aws, now=every(10))
    config = VERTEX.format(base_url=gemini.base_url)
    with GatewayApp(config, secrets={"google_vertex": FEDERATED}, authorizers={"oauth": oauth}) as app:
        gemini.require_key("token-1")
        assert ask(app, "google_vertex:x").status_code == 200
        gemini.queue(gemini_error(401, "UNAUTHENTICATED", "The token was revoked."))
        gemini.require_key("token-2")
        assert ask(app, "google_vertex:x").status_code == 200
        assert ask(app, "google_vertex:x").status_code == 200
    sent = [request.headers["authorization"] for request in gemini.requests]
    assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2", "Bearer token-2"]
    assert issuer.asked == 2


def test_a_token_just_made_is_not_made_again(gemini: GeminiUpstream) -> None:
    """Or an account without access would ask Google for a token at every request."""
    issuer = Issuer(lambda number: {"access_token": f"token-{number}", "expires_in": 3600})
    aws, _ = container(0, stale_first)
    oauth = GoogleOAuth(issuer, aws, now=every(0.01))
    gemini.script("x", gemini_error(401, "UNAUTHENTICATED", "No."))
    config = VERTEX.format(base_url=gemini.base_url)
    with GatewayApp(config, secrets={"google_vertex": FEDERATED}, authorizers={"oauth": oauth}) as app:
        assert [ask(app, "google_vertex:x").status_code for _ in range(3)] == [401, 401, 401]
    assert (issuer.asked, len(gemini.requests)) == (1, 3)


def test_expired_credentials_of_the_role_are_fetched_anew(bedrock: BedrockUpstream) -> None:
    bedrock.script(NOVA, Reply(CONVERSED))
    source, issuer = container(10, stale_first)
    config = BEDROCK.format(base_url=bedrock.base_url)
    with GatewayApp(config, authorizers={"sigv4": SignedByRole(source, "us-east-1")}) as app:
        answer = ask(app, f"bedrock:{NOVA}")
        assert answer.status_code == 200
        assert attempts(app, answer) == [(403, "UnrecognizedClientException"), (200, None)]
    assert issuer.asked == 2


def test_credentials_that_stay_refused_are_tried_once(bedrock: BedrockUpstream) -> None:
    source, issuer = container(0.01, stale_first)
    config = BEDROCK.format(base_url=bedrock.base_url)
    with GatewayApp(config, authorizers={"sigv4": SignedByRole(source, "us-east-1")}) as app:
        answer = ask(app, f"bedrock:{NOVA}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "authentication_error")
    assert (issuer.asked, len(bedrock.requests)) == (1, 1)


def test_a_vendor_that_says_400_to_a_bad_key() -> None:
    with OpenAIUpstream() as xai:
        config = f'[providers.xai]\nbase_url = "{xai.base_url}"\n'
        with GatewayApp(config, secrets={"xai": "old"}) as app:
            assert ask(app, "xai:grok").status_code == 200
            app.secret_store.put("llm-gateway/provider/xai", "new")
            xai.queue(Reply({"code": "Client specified an invalid argument", "error": BAD_XAI_KEY}, status=400))
            assert ask(app, "xai:grok").status_code == 200
        assert [each.headers["authorization"][-3:] for each in xai.requests] == ["old", "old", "new"]


def sigv4(environ: Mapping[str, str]) -> Mapping[str, Any]:
    return {"sigv4": SignedByRole(RoleCredentials(environ, Issuer(lambda _: {})), "us-east-1")}


def test_bedrock_without_credentials_is_not_there() -> None:
    with GatewayApp(BEDROCK.format(base_url="http://127.0.0.1:9"), authorizers=sigv4({})) as app:
        listed = httpx.get(f"{app.base_url}/models", headers=app.auth).json()["data"]
        assert not any(model["owned_by"] == "bedrock" for model in listed)
        answer = ask(app, f"bedrock:{NOVA}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "AWS credentials" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("environ", "secrets"),
    [
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, {}),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/creds"}, {}),
        ({}, {"bedrock": "a-key-of-bedrock"}),
    ],
)
def test_bedrock_with_any_credential_is_listed(environ: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    config = BEDROCK.format(base_url="http://127.0.0.1:9")
    with GatewayApp(config, secrets=secrets, authorizers=sigv4(environ)) as app:
        listed = httpx.get(f"{app.base_url}/models", headers=app.auth).json()["data"]
    assert any(model["owned_by"] == "bedrock" for model in listed)
