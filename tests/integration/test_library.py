"""The library against a provider over real HTTP: addresses, credentials, and what a caller over HTTP can never choose."""

import json
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from llm_gateway import CredentialsMissing, Gateway, GatewayError
from llm_gateway.library.parts import LazyOAuth
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, Stream, error

HELLO = [{"role": "user", "content": "Hello there, how are you?"}]
VERDICT = {
    "id": "modr-1",
    "model": "omni-moderation-2024-09-26",
    "results": [{"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.9}}],
}
MISTRALS = {
    "id": "m-1",
    "model": "mistral-moderation-2603",
    "results": [{"categories": {"selfharm": False, "pii": False}, "category_scores": {"selfharm": 0.1, "pii": 0.2}}],
}


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


async def test_azure_with_everything_given(upstream: OpenAIUpstream) -> None:
    resource = upstream.base_url.removesuffix("/v1")
    async with Gateway(environ={"AZURE_OPENAI_API_KEY": "sk-environment"}) as gateway:
        for config in ({"base_url": resource}, {"base_url": resource, "api_version": "2024-10-21"}):
            answer = await gateway.chat_completion(
                "search", HELLO, provider="azure-openai", model="my-gpt", credentials={"api_key": "sk-a"}, config=config
            )
            assert answer.content == "Hello from the provider."
            assert (answer.provider, answer.model) == ("azure_openai", "my-gpt")
    first, second = upstream.requests
    assert first.target == "/openai/v1/chat/completions"
    assert second.target == "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    assert first.headers["api-key"] == second.headers["api-key"] == "sk-a"
    assert first.json == {"model": "my-gpt", "messages": HELLO}


async def test_a_compatible_server_with_and_without_a_key(upstream: OpenAIUpstream) -> None:
    async with Gateway(environ={}) as gateway:
        for provider, credentials in (
            ("openai_compatible", {"api_key": "sk-c"}),
            ("vllm", None),
            ("vllm", {"api_key": "sk-v"}),
        ):
            await gateway.embeddings(
                "t", "x", provider=provider, model="m", credentials=credentials, config={"base_url": upstream.base_url}
            )
    assert [sent.headers.get("authorization") for sent in upstream.requests] == ["Bearer sk-c", None, "Bearer sk-v"]


async def test_one_calls_overrides_are_not_the_nexts(upstream: OpenAIUpstream) -> None:
    with OpenAIUpstream() as other:
        environ = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-environment"}
        async with Gateway(environ=environ) as gateway:
            await gateway.chat_completion(
                "t",
                HELLO,
                provider="openai",
                model="m",
                credentials={"api_key": "sk-1"},
                config={"base_url": other.base_url},
            )
            await gateway.chat_completion("t", HELLO, provider="openai", model="m")
            await gateway.chat_completion("t", HELLO, model="m")
        assert [sent.headers["authorization"] for sent in other.requests] == ["Bearer sk-1"]
    assert [sent.headers["authorization"] for sent in upstream.requests] == ["Bearer sk-environment"] * 2


async def test_whose_key_serves(upstream: OpenAIUpstream) -> None:
    secrets = {"team/search/openai": "sk-team", "provider/openai": "sk-system"}
    environ = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-environment"}
    async with Gateway(secrets=secrets, environ=environ) as gateway:
        for team, given in (("search", {"api_key": "sk-given"}), ("search", None), ("ads", None)):
            await gateway.chat_completion(team, HELLO, provider="openai", model="m", credentials=given)
    async with Gateway(environ=environ) as gateway:
        await gateway.chat_completion("search", HELLO, provider="openai", model="m")
    keys = [sent.headers["authorization"].removeprefix("Bearer ") for sent in upstream.requests]
    assert keys == ["sk-given", "sk-team", "sk-system", "sk-environment"]


FILE = """
[providers.corp]
base_url = "{base_url}"
api_key_env = "CORP_KEY"

[teams.search.providers.corp]
api_key_env = "SEARCH_CORP_KEY"
"""


async def test_the_variables_that_a_file_names(upstream: OpenAIUpstream, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(FILE.format(base_url=upstream.base_url))
    async with Gateway(file, environ={"CORP_KEY": "sk-corp", "SEARCH_CORP_KEY": "sk-search"}) as gateway:
        for team in ("search", "ads"):
            await gateway.chat_completion(team, HELLO, provider="corp", model="m")
    assert [sent.headers["authorization"] for sent in upstream.requests] == ["Bearer sk-search", "Bearer sk-corp"]
    async with Gateway(file, environ={}) as gateway:
        with pytest.raises(CredentialsMissing, match=r"SEARCH_CORP_KEY.*provider/corp.*variable CORP_KEY"):
            await gateway.chat_completion("search", HELLO, provider="corp", model="m")


async def test_bedrock_signs_with_what_was_given(upstream: OpenAIUpstream) -> None:
    upstream.queue(
        Reply(
            {
                "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4},
            }
        )
    )
    given = {"aws_access_key_id": "AKGIVEN", "aws_secret_access_key": "s", "aws_session_token": "token"}
    config = {"base_url": upstream.base_url.removesuffix("/v1"), "region": "eu-west-1"}
    async with Gateway(environ={"AWS_BEARER_TOKEN_BEDROCK": "not-this"}) as gateway:
        answer = await gateway.chat_completion(
            "t", HELLO, provider="bedrock", model="amazon.nova-lite-v1:0", credentials=given, config=config
        )
    assert answer.content == "Hi"
    sent = upstream.last().headers
    assert sent["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKGIVEN/")
    assert "/eu-west-1/bedrock/" in sent["authorization"]
    assert sent["x-amz-security-token"] == "token"


@pytest.mark.parametrize("written", [dict, json.dumps], ids=["mapping", "text"])
async def test_vertex_with_a_service_account(
    written: Any, upstream: OpenAIUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_gateway.library.gateway.LazyOAuth", partial(LazyOAuth, loopback=True))
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {
        "type": "service_account",
        "client_email": "gateway@project.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": f"{upstream.base_url}/token",
    }
    candidate = {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    counts = {"promptTokenCount": 3, "candidatesTokenCount": 1, "totalTokenCount": 4}
    upstream.queue(
        Reply({"access_token": "ya29.token", "expires_in": 3600, "token_type": "Bearer"}),
        Reply({"candidates": [candidate], "usageMetadata": counts}),
    )
    async with Gateway(environ={}) as gateway:
        answer = await gateway.chat_completion(
            "t",
            HELLO,
            provider="google_vertex",
            model="gemini-2.5-flash",
            credentials={"service_account": written(account)},
            config={"base_url": f"{upstream.base_url}/publishers/google"},
        )
    assert (answer.content, answer.usage.input_tokens) == ("Hi", 3)
    assert upstream.last().path == "/v1/publishers/google/models/gemini-2.5-flash:generateContent"
    assert upstream.last().headers["authorization"] == "Bearer ya29.token"


async def test_a_key_in_a_providers_refusal_is_masked(upstream: OpenAIUpstream) -> None:
    upstream.script("m", error(401, "Incorrect API key provided: sk-given."))
    async with Gateway(environ={"OPENAI_BASE_URL": upstream.base_url}) as gateway:
        with pytest.raises(GatewayError) as refused:
            await gateway.chat_completion("t", HELLO, provider="openai", model="m", credentials={"api_key": "sk-given"})
    assert refused.value.http_status == 401
    assert "sk-given" not in str(refused.value)


async def test_comments_and_torn_emojis_of_a_stream_are_no_matter(upstream: OpenAIUpstream) -> None:
    delta = rb'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi \ud83d"},"finish_reason":"stop"}]}'
    upstream.script("m", Stream([b": one moment\n\n", b"data: " + delta + b"\n\n", b": still here\n\n"], pause_s=0.02))
    async with Gateway(environ={"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k"}) as gateway:
        async with await gateway.chat_completion("t", HELLO, model="m", stream=True) as reading:
            chunks = [chunk.content or "" async for chunk in reading]
        assert "".join(chunks) == "hi \ufffd"


async def test_a_stream_that_is_left_leaves_the_provider(upstream: OpenAIUpstream) -> None:
    stream = ChatStream(text="one two three", gate_after=2)
    upstream.script("m", stream)
    async with Gateway(environ={"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k"}) as gateway:
        async with await gateway.chat_completion("t", HELLO, model="m", stream=True) as reading:
            async for chunk in reading:
                if chunk.content:
                    break
        record = await gateway.record(reading.request_id)
        assert upstream.last().wait_left()
    assert record is not None
    assert (record.status, record.error_code) == ("settled", "client_disconnected")
    assert record.usage.estimated


async def test_moderation(upstream: OpenAIUpstream) -> None:
    upstream.script("omni-moderation-latest", Reply(VERDICT))
    upstream.script("mistral-moderation-latest", Reply(MISTRALS))
    environ = {
        "OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k1",
        "MISTRAL_BASE_URL": upstream.base_url, "MISTRAL_API_KEY": "k2",
    }  # fmt: skip
    async with Gateway(environ=environ) as gateway:
        default = await gateway.moderation("t", "I hate you")
        mistral = await gateway.moderation("t", "I hate you", provider="mistral")
        chat = await gateway.moderation("t", HELLO, model="mistral:mistral-moderation-latest")
        with pytest.raises(GatewayError, match="has no moderations") as refused:
            await gateway.moderation("t", "x", provider="echo")
    assert (default.flagged, default.provider, default.model) == (True, "openai", "omni-moderation-latest")
    assert default.results[0].categories == {"hate": True}
    assert default.cost_usd == 0, "OpenAI's moderation is free, which is not unpriced"
    assert (mistral.flagged, mistral.provider) == (False, "mistral")
    assert mistral.results[0].categories == {"self-harm": False, "selfharm": False, "pii": False}
    assert mistral.cost_usd is None, "Mistral's is not free, and the book has no price of it"
    assert chat.answered_model == "mistral-moderation-2603"
    assert [sent.path for sent in upstream.requests] == ["/v1/moderations", "/v1/moderations", "/v1/chat/moderations"]
    assert refused.value.http_status == 400


CONFIG = """
default_provider = "corp"

[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
"""
ATTEMPTS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"credentials": {"api_key": "sk-mine"}, "config": {"base_url": "{other}"}}, {}),
    ({"base_url": "{other}", "api_base": "{other}", "api_key": "sk-mine", "provider": "openai"}, {}),
    ({"extra_body": {"config": {"base_url": "{other}"}}, "x_gateway": {"config": {"base_url": "{other}"}}}, {}),
    ({}, {"x-gateway-base-url": "{other}", "x-gateway-credentials": "sk-mine", "x-base-url": "{other}"}),
    ({}, {"api-key": "sk-mine", "x-api-key": "sk-mine", "openai-base-url": "{other}", "host": "evil.example"}),
    ({"model": "plugin://corp"}, {}),
]


@pytest.mark.parametrize("at", range(len(ATTEMPTS)))
def test_no_caller_over_http_chooses_an_address_or_a_key(at: int, upstream: OpenAIUpstream) -> None:
    with (
        OpenAIUpstream() as other,
        GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets={"corp": "sk-corp"}) as app,
    ):
        body, headers = ATTEMPTS[at]
        text = httpx.Request("POST", "http://x", json={"model": "small", "messages": HELLO, **body}).content.replace(
            b"{other}", other.base_url.encode()
        )
        sent = {name: value.replace("{other}", other.base_url) for name, value in headers.items()} | app.auth
        answer = httpx.post(f"{app.base_url}/chat/completions", content=text, headers=sent)
        assert answer.status_code == 200, answer.text
        assert other.requests == []
    went = upstream.last()
    assert went.headers["authorization"] == "Bearer sk-corp"
    assert "evil" not in went.headers["host"]
    assert not any(b"sk-mine" in value for _, value in went.raw_headers)
    assert went.body == text, "to the gateway these are members like any other"


async def test_free_moderation_under_a_hard_budget(upstream: OpenAIUpstream, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[teams.t]\nbudget = { usd = "0.000001", period = "total" }\n')
    upstream.script("omni-moderation-latest", Reply(VERDICT))
    environ = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-o"}
    async with Gateway(file, environ=environ) as gateway:
        verdict = await gateway.moderation("t", "I hate you")
        record = await gateway.record(verdict.request_id)
    assert record is not None
    assert (verdict.cost_usd, record.reserved_usd) == (Decimal(0), Decimal(0))
    assert record.scopes == ("team#t",)


def test_moderation_over_http(upstream: OpenAIUpstream) -> None:
    config = CONFIG.format(base_url=upstream.base_url) + 'quirks = { moderations = "openai" }\n'
    upstream.script("omni-moderation-latest", Reply(VERDICT))
    with GatewayApp(config, secrets={"corp": "sk-corp"}) as app:
        for root in (app.base_url, app.root, f"{app.root}/openai/v1"):
            answer = httpx.post(f"{root}/moderations", json={"input": ["a", "b"]}, headers=app.auth)
            assert answer.status_code == 200, answer.text
            assert answer.json()["results"] == VERDICT["results"]
            assert answer.headers["x-gateway-provider"] == "corp"
            assert "x-gateway-cost-usd" not in answer.headers, "a vendor of one's own is unpriced, not free"
            record = app.record(answer.headers["x-request-id"])
            assert (record.status, record.endpoint, record.requested_model) == (
                "settled",
                "moderations",
                "corp:omni-moderation-latest",
            )
            assert record.usage.estimated
            assert record.usage.input_tokens > 0
        other = httpx.post(f"{app.base_url}/moderations", json={"input": "a", "model": "echo:x"}, headers=app.auth)
        assert (other.status_code, other.json()["error"]["param"]) == (400, "model")
        missing = httpx.post(f"{app.base_url}/moderations", json={}, headers=app.auth)
        assert (missing.status_code, missing.json()["error"]["param"]) == (400, "input")
        classic = httpx.post(f"{app.root}/openai/deployments/m/moderations", json={"input": "a"}, headers=app.auth)
        assert classic.status_code == 404, "Azure has none"


def test_nobody_moderates() -> None:
    with GatewayApp() as app:
        answer = httpx.post(f"{app.base_url}/moderations", json={"input": "a"}, headers=app.auth)
    assert answer.status_code == 400
    assert "No provider that can be called here has moderations" in answer.json()["error"]["message"]
