"""An answer that is none, but says what it used, is billed by its own wire's counts: each call of it."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_gateway.upstream.authorize import SignedByRole
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.fakes.anthropic_upstream import AnthropicUpstream
from tests.fakes.bedrock_upstream import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, BedrockUpstream
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.gemini_upstream import GeminiUpstream
from tests.fakes.openai_upstream import OpenAIUpstream, Reply

CONFIG = """
[providers.{provider}]
base_url = "{base_url}"
[models.alone]
deployments = [{{ provider = "{provider}", model = "{model}" }}]
retries = {retries}
[prices."{provider}:{model}"]
input = "1"
output = "10"
cache_write_5m = "2"
cached_input = "0.5"
web_search = "0.01"
[teams.held]
budget = {{ usd = "5", period = "day" }}
[keys.held]
key = "sk-held-for-a-test"
team = "held"
"""
GEMINI = {"promptTokenCount": 20, "candidatesTokenCount": 0, "thoughtsTokenCount": 90, "totalTokenCount": 110}
CLAUDE = {"input_tokens": 20, "output_tokens": 90, "cache_creation_input_tokens": 5000, "cache_read_input_tokens": 40}
CONVERSE = {"inputTokens": 20, "outputTokens": 90, "cacheWriteInputTokens": 5000}
OPENAI = {"prompt_tokens": 20, "completion_tokens": 90, "total_tokens": 110}
FAILED_CALL = {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "index": 0}], "usageMetadata": GEMINI}
SEARCHED = {
    "candidates": [
        {"finishReason": "MALFORMED_FUNCTION_CALL", "groundingMetadata": {"webSearchQueries": ["one", "two"]}}
    ],
    "usageMetadata": GEMINI,
}
NO_CONTENT = {"type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "usage": CLAUDE}
FAILED_ANSWERS: list[Any] = [
    (GeminiUpstream, "gemini", "gemini-2.5-flash", FAILED_CALL, 20, "0.00092"),
    (GeminiUpstream, "gemini", "gemini-2.5-flash", {"candidates": [], "usageMetadata": GEMINI}, 20, "0.00092"),
    (GeminiUpstream, "gemini", "gemini-2.5-flash", {"usageMetadata": GEMINI}, 20, "0.00092"),
    (GeminiUpstream, "gemini", "gemini-2.5-flash", SEARCHED, 20, "0.01092"),
    (AnthropicUpstream, "anthropic", "claude-sonnet-4-5", NO_CONTENT, 5060, "0.01094"),
    (BedrockUpstream, "bedrock", "amazon.nova-lite-v1:0", {"usage": CONVERSE}, 5020, "0.01092"),
    (OpenAIUpstream, "openai", "gpt-4.1", {"choices": [], "usage": OPENAI}, 20, "0.00092"),
    # What says nothing, or counts nothing, is billed nothing.
    (GeminiUpstream, "gemini", "gemini-2.5-flash", {"candidates": [], "usageMetadata": {}}, 0, "0"),
    (AnthropicUpstream, "anthropic", "claude-sonnet-4-5", {"type": "message"}, 0, "0"),
    (BedrockUpstream, "bedrock", "amazon.nova-lite-v1:0", [1], 0, "0"),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("make", "provider", "model", "answer", "input_tokens", "usd"), FAILED_ANSWERS)
def test_what_a_failed_answer_says_it_used_is_billed(
    make: Callable[[], Any], provider: str, model: str, answer: Any, input_tokens: int, usd: str, stream: bool
) -> None:
    """`stream`: one was asked for, and the provider answered with a whole body all the same."""
    status, record, calls = ask(make, provider, model, answer, stream=stream)
    assert status == 502
    assert (calls, record.usage.input_tokens, record.cost_usd) == (1, input_tokens, Decimal(usd))


def test_each_call_of_a_failing_answer_is_billed() -> None:
    status, record, calls = ask(GeminiUpstream, "gemini", "gemini-2.5-flash", FAILED_CALL, retries=2)
    assert (status, calls, record.cost_usd) == (502, 3, 3 * Decimal("0.00092"))
    assert [attempt.cost_usd for attempt in record.attempts] == 3 * [Decimal("0.00092")]


def ask(
    make: Callable[[], Any], provider: str, model: str, answer: Any, *, retries: int = 0, stream: bool = False
) -> tuple[int, Any, int]:
    credentials = StaticCredentials(AwsCredentials(ACCESS_KEY, SECRET_KEY, SESSION_TOKEN))
    with make() as upstream:
        upstream.script(model, Reply(answer))
        config = CONFIG.format(provider=provider, model=model, base_url=upstream.base_url, retries=retries)
        secrets = {} if provider == "bedrock" else {provider: "sk-1"}
        authorizers = {"sigv4": SignedByRole(credentials, "us-east-1")}
        with GatewayApp(config, secrets=secrets, authorizers=authorizers) as app:
            told = httpx.post(
                f"{app.base_url}/chat/completions",
                json={
                    "model": "alone",
                    "messages": [{"role": "user", "content": "hi"}],
                    "max_tokens": 100,
                    "stream": stream,
                },
                headers={"authorization": "Bearer sk-held-for-a-test"},
                timeout=20,
            )
            return told.status_code, app.record(told.headers["x-request-id"]), len(upstream.requests)
