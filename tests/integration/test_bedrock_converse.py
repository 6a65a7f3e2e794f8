"""Specifies Bedrock end to end: the openai SDK on one side, on the other a server that checks signatures as AWS does.

boto3's own client is the second witness: it reads what the same server sends.
"""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import openai
import pytest
from botocore.config import Config

from llm_gateway.upstream.authorize import SignedByRole
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.fakes.bedrock_upstream import (
    ACCESS_KEY,
    BEARER,
    SECRET_KEY,
    SESSION_TOKEN,
    BedrockUpstream,
    MessageStream,
    exception,
    message,
    messages,
)
from tests.fakes.gateway_app import KEY, GatewayApp
from tests.fakes.openai_upstream import Reply

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/ab12cd34"
CONFIG = '[providers.bedrock]\nbase_url = "{base_url}"\n'
HELLO: Any = [{"role": "user", "content": "Weather?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
USAGE = {"inputTokens": 10, "outputTokens": 6, "totalTokens": 116, "cacheReadInputTokens": 100}
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Sunny."}]}},
    "stopReason": "end_turn",
    "usage": USAGE,
    "metrics": {"latencyMs": 9},
}
EVENTS: Any = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Let me "}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "see. ü"}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "get_weather"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"city":"Pa'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": 'ris"}'}}}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 9}}),
]


@pytest.fixture
def upstream() -> Iterator[BedrockUpstream]:
    with BedrockUpstream() as running:
        yield running


def gateway(upstream: BedrockUpstream, **options: Any) -> GatewayApp:
    credentials = StaticCredentials(AwsCredentials(ACCESS_KEY, SECRET_KEY, SESSION_TOKEN))
    signer = {"sigv4": SignedByRole(credentials, "us-east-1")}
    return GatewayApp(CONFIG.format(base_url=upstream.base_url), authorizers=signer, **options)


@pytest.fixture
def app(upstream: BedrockUpstream) -> Iterator[GatewayApp]:
    with gateway(upstream) as running:
        yield running


@pytest.fixture
def client(app: GatewayApp) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=app.base_url, api_key=KEY, max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", [CLAUDE, ARN])
def test_a_signed_call(app: GatewayApp, client: openai.OpenAI, upstream: BedrockUpstream, model: str) -> None:
    upstream.script(model, Reply(ANSWER))
    answer = client.chat.completions.with_raw_response.create(model=f"bedrock:{model}", messages=HELLO, max_tokens=50)
    completion = answer.parse()
    assert completion.choices[0].message.content == "Sunny."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is not None
    assert (completion.usage.prompt_tokens, completion.usage.prompt_tokens_details.cached_tokens) == (110, 100)
    sent = upstream.last()
    assert sent.json == {
        "messages": [{"role": "user", "content": [{"text": "Weather?"}]}],
        "inferenceConfig": {"maxTokens": 50},
    }
    assert sent.headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
    record = app.record(answer.headers["x-request-id"])
    assert (record.status, record.usage.input_tokens, record.usage.cached_tokens) == ("settled", 110, 100)
    assert record.routed_model == model


def test_a_bedrock_api_key_goes_as_bearer(upstream: BedrockUpstream) -> None:
    upstream.script(CLAUDE, Reply(ANSWER))
    with gateway(upstream, secrets={"bedrock": BEARER}) as app:
        made = openai.OpenAI(base_url=app.base_url, api_key=KEY, max_retries=0)
        assert made.chat.completions.create(model=f"bedrock:{CLAUDE}", messages=HELLO).choices
        made.close()
    assert upstream.last().headers["authorization"] == f"Bearer {BEARER}"
    assert "x-amz-date" not in upstream.last().headers


def test_a_wrong_signature_is_seen(upstream: BedrockUpstream) -> None:
    """The fake's check is real: a signature for another Region is refused, and the caller learns why."""
    upstream.script(CLAUDE, Reply(ANSWER))
    wrong = {
        "sigv4": SignedByRole(StaticCredentials(AwsCredentials(ACCESS_KEY, SECRET_KEY, SESSION_TOKEN)), "eu-west-1")
    }
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), authorizers=wrong) as app:
        made = openai.OpenAI(base_url=app.base_url, api_key=KEY, max_retries=0)
        with pytest.raises(openai.PermissionDeniedError) as refusal:
            made.chat.completions.create(model=f"bedrock:{CLAUDE}", messages=HELLO)
        made.close()
    assert refusal.value.code == "InvalidSignatureException"
    assert refusal.value.type == "authentication_error"


@pytest.mark.parametrize("tear", [None, 1, 7, 100])
def test_a_stream_with_a_tool_call(
    app: GatewayApp, client: openai.OpenAI, upstream: BedrockUpstream, tear: int | None
) -> None:
    upstream.script(CLAUDE, MessageStream(messages(EVENTS), end="eof", tear=tear))
    stream = client.chat.completions.create(
        model=f"bedrock:{CLAUDE}", messages=HELLO, tools=TOOLS, stream=True, stream_options={"include_usage": True}
    )
    text, arguments, names, finish, usage = "", "", [], None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                assert call.function is not None
                arguments += call.function.arguments or ""
                names += [call.function.name] if call.function.name else []
    assert (text, names, arguments, finish) == ("Let me see. ü", ["get_weather"], '{"city":"Paris"}', "tool_calls")
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (110, 6)
    assert upstream.last().path.endswith("/converse-stream")
    record = app.only_record()
    assert (record.status, record.finish_reason, record.usage.output_tokens) == ("settled", "tool_calls", 6)


@pytest.mark.parametrize(
    ("reply", "cls", "code"),
    [
        (exception(429, "ThrottlingException", "slow", {"retry-after": "2"}), openai.RateLimitError, "ThrottlingException"),
        (exception(400, "ValidationException", "Input is too long for requested model."), openai.BadRequestError, "context_length_exceeded"),
        (exception(403, "AccessDeniedException", "no"), openai.PermissionDeniedError, "AccessDeniedException"),
        (exception(404, "ResourceNotFoundException", "no"), openai.NotFoundError, "model_not_found"),
        (exception(503, "ServiceUnavailableException", "busy"), openai.InternalServerError, "ServiceUnavailableException"),
    ],
    ids=["throttled", "too long", "denied", "not found", "unavailable"],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors(
    app: GatewayApp,
    client: openai.OpenAI,
    upstream: BedrockUpstream,
    reply: Reply,
    cls: type[openai.APIStatusError],
    code: str,
    stream: bool,
) -> None:
    upstream.script(CLAUDE, reply)
    with pytest.raises(cls) as refusal:
        client.chat.completions.create(model=f"bedrock:{CLAUDE}", messages=HELLO, stream=stream)
    assert refusal.value.code == code
    assert refusal.value.response.headers.get("retry-after") == dict(reply.headers).get("retry-after")


def test_an_exception_before_content_has_a_status(client: openai.OpenAI, upstream: BedrockUpstream) -> None:
    upstream.script(
        CLAUDE, MessageStream(messages([EVENTS[0], ("throttlingException", {"message": "slow"})]), end="eof")
    )
    with pytest.raises(openai.RateLimitError, match="slow"):
        client.chat.completions.create(model=f"bedrock:{CLAUDE}", messages=HELLO, stream=True)


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ([message("modelStreamErrorException", {"message": "it broke"}, "exception")], "it broke"),
        ([message("contentBlockDelta", {"delta": {"text": "x"}})[:-1] + b"\x00"], "checksum"),
        ([], "ended before"),
    ],
)
def test_a_failure_behind_content_is_in_band(
    app: GatewayApp, client: openai.OpenAI, upstream: BedrockUpstream, tail: list[bytes], told: str
) -> None:
    upstream.script(CLAUDE, MessageStream([*messages(EVENTS[:3]), *tail], end="eof", pause_s=0.05))
    chunks = client.chat.completions.create(model=f"bedrock:{CLAUDE}", messages=HELLO, stream=True)
    texts = [next(chunks).choices[0].delta.content for _ in range(3)]
    assert texts == ["", "Let me ", "see. ü"]
    with pytest.raises(openai.APIError, match=told):
        next(chunks)
    record = app.only_record()
    assert (record.status, record.usage.estimated) == ("failed", True)


def test_a_warning_is_a_header(client: openai.OpenAI, upstream: BedrockUpstream) -> None:
    upstream.script(CLAUDE, Reply(ANSWER))
    answer = client.chat.completions.with_raw_response.create(model=f"bedrock:{CLAUDE}", messages=HELLO, seed=7)
    assert answer.headers["x-gateway-warning"] == "seed was dropped: Bedrock's Converse has no such parameter"


def test_embeddings(client: openai.OpenAI, upstream: BedrockUpstream) -> None:
    upstream.script("amazon.titan-embed-text-v2:0", Reply({"embedding": [0.25, -0.5], "inputTextTokenCount": 3}))
    upstream.script("cohere.embed-v4:0", Reply({"embeddings": {"float": [[0.25, -0.5], [1, 2]]}}))
    titan = client.embeddings.create(model="bedrock:amazon.titan-embed-text-v2:0", input="a", dimensions=256)
    assert (titan.data[0].embedding, titan.usage.prompt_tokens) == ([0.25, -0.5], 3)
    assert upstream.last().json == {"inputText": "a", "dimensions": 256}
    cohere = client.embeddings.create(
        model="bedrock:cohere.embed-v4:0", input=["a", "b"], extra_body={"input_type": "search_query"}
    )
    assert [row.embedding for row in cohere.data] == [[0.25, -0.5], [1, 2]]
    assert upstream.last().json["input_type"] == "search_query"


def test_boto3_reads_what_the_fake_sends(upstream: BedrockUpstream) -> None:
    runtime: Any = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=upstream.base_url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        aws_session_token=SESSION_TOKEN,
        config=Config(retries={"total_max_attempts": 1}),
    )
    asked = [{"role": "user", "content": [{"text": "Weather?"}]}]
    upstream.script(ARN, Reply(ANSWER))
    assert runtime.converse(modelId=ARN, messages=asked)["output"] == ANSWER["output"]
    theirs = upstream.last()
    upstream.script(ARN, MessageStream(messages(EVENTS), end="eof", tear=11))
    events = list(runtime.converse_stream(modelId=ARN, messages=asked)["stream"])
    assert [(name, event) for told in events for name, event in told.items()] == EVENTS
    upstream.script(ARN, exception(429, "ThrottlingException", "slow"))
    with pytest.raises(runtime.exceptions.ThrottlingException, match="slow"):
        runtime.converse(modelId=ARN, messages=asked)
    runtime.close()
    with gateway(upstream) as app, openai.OpenAI(base_url=app.base_url, api_key=KEY, max_retries=0) as ours:
        upstream.script(ARN, Reply(ANSWER))
        ours.chat.completions.create(model=f"bedrock:{ARN}", messages=HELLO)
    assert (upstream.last().target, json.loads(upstream.last().body)) == (theirs.target, json.loads(theirs.body))
