"""Claude through the gateway, end to end: the openai SDK in front, real HTTP and framing behind, in all three envelopes.

Anthropic's own SDK is the second witness: it reads what the fake serves as what was meant, and the request that it
builds for a conversation is the request that the gateway sends for the same conversation in OpenAI's terms.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from anthropic import Anthropic, AnthropicBedrock
from openai import OpenAI

from llm_gateway.upstream.authorize import Authorizer, BearerKey, SignedByRole
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.fakes.anthropic_upstream import (
    AnthropicUpstream,
    EventStream,
    bedrock_chunks,
    claude_message,
    events_of,
    failure,
)
from tests.fakes.bedrock_upstream import ACCESS_KEY, BEARER, SECRET_KEY, SESSION_TOKEN, message
from tests.fakes.gateway_app import KEY, GatewayApp
from tests.fakes.openai_upstream import Reply

CONFIG = """
default_provider = "anthropic"
[providers.anthropic]
base_url = "{up.base_url}"
[providers.anthropic_bedrock]
base_url = "{up.root}"
[providers.anthropic_vertex]
base_url = "{up.vertex_url}"
"""
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
THOUGHT: dict[str, Any] = {"type": "thinking", "thinking": "Ask the weather service.", "signature": "EqQBCgIYAh=="}
REDACTED: dict[str, Any] = {"type": "redacted_thinking", "data": "EmwKAhgB=="}
CALL: dict[str, Any] = {"type": "tool_use", "id": "toolu_01", "name": "get_weather", "input": {"city": "Paris"}}


@pytest.fixture
def up() -> Iterator[AnthropicUpstream]:
    with AnthropicUpstream() as running:
        running.require_key("sk-ant-test")
        yield running


@pytest.fixture
def app(up: AnthropicUpstream) -> Iterator[GatewayApp]:
    credentials = StaticCredentials(AwsCredentials(ACCESS_KEY, SECRET_KEY, SESSION_TOKEN))
    authorizers: dict[str, Authorizer] = {"sigv4": SignedByRole(credentials, "us-east-1"), "oauth": BearerKey()}
    secrets = {"anthropic": "sk-ant-test", "google_vertex": "ya29.token"}
    with GatewayApp(CONFIG.format(up=up), secrets=secrets, authorizers=authorizers) as running:
        yield running


@pytest.fixture
def client(app: GatewayApp) -> Iterator[OpenAI]:
    with OpenAI(base_url=app.base_url, api_key=KEY, max_retries=0) as made:
        yield made


MODELS = [
    "claude-opus-5",
    "anthropic_bedrock:us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "anthropic_vertex:claude-opus-4-5@20251101",
]


@pytest.mark.parametrize("model", MODELS)
def test_buffered(client: OpenAI, app: GatewayApp, up: AnthropicUpstream, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=50)
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello from Claude."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 5)
    record = app.record(raw.headers["x-request-id"])
    assert (record.status, record.usage.input_tokens, record.finish_reason) == ("settled", 11, "stop")
    assert record.cost_usd is not None
    sent = up.last()
    assert sent.json["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    assert "sk-test-admin" not in str(sent.headers)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tear", [None, 7])
def test_streamed(client: OpenAI, up: AnthropicUpstream, model: str, tear: int | None) -> None:
    whole = claude_message(THOUGHT, {"type": "text", "text": "Let me see."}, CALL, stop="tool_use")
    stream = bedrock_chunks(events_of(whole)) if "bedrock" in model else EventStream(events_of(whole))
    stream.tear = tear
    up.script(model.partition("anthropic_")[2].partition(":")[2] or model, stream)
    with client.chat.completions.stream(
        model=model, messages=HELLO, tools=TOOLS, reasoning_effort="low", stream_options={"include_usage": True}
    ) as events:
        for _ in events:
            pass
        final = events.get_final_completion()
    said = final.choices[0].message
    assert said.content == "Let me see."
    assert said.tool_calls is not None
    assert said.tool_calls[0].function.arguments == '{"city": "Paris"}'
    extra = said.model_dump()
    assert extra["reasoning_content"] == THOUGHT["thinking"]
    (detail,) = extra["reasoning_details"]
    assert (detail["text"], detail["signature"]) == (THOUGHT["thinking"], THOUGHT["signature"])
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage is not None
    assert final.usage.total_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_goes_back_byte_for_byte(client: OpenAI, up: AnthropicUpstream, stream: bool) -> None:
    blocks = [THOUGHT, REDACTED, {"type": "text", "text": "Let me see."}, {**THOUGHT, "signature": "second=="}, CALL]
    whole = claude_message(*blocks, stop="tool_use")
    up.script("claude-opus-5", EventStream(events_of(whole)) if stream else Reply(whole), Reply(claude_message()))
    if stream:
        with client.chat.completions.stream(model="claude-opus-5", messages=HELLO, tools=TOOLS) as events:
            for _ in events:
                pass
            said: Any = events.get_final_completion().choices[0].message
    else:
        said = client.chat.completions.create(model="claude-opus-5", messages=HELLO, tools=TOOLS).choices[0].message
    turn = said.model_dump()
    turn.pop("parsed", None)
    for call in turn["tool_calls"]:
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
    result: Any = {"role": "tool", "tool_call_id": "toolu_01", "content": "Sunny"}
    client.chat.completions.create(model="claude-opus-5", messages=[*HELLO, turn, result], tools=TOOLS)
    assert up.last().json["messages"][1] == {"role": "assistant", "content": blocks}


def test_warnings_stand_in_a_header(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="claude-opus-5", messages=HELLO, seed=1, temperature=0)
    assert raw.headers["x-gateway-warning"] == (
        "temperature was dropped: the model takes none; seed was dropped: Claude has no such parameter"
    )


ERRORS: list[tuple[Reply, type[openai.APIStatusError], int, str | None]] = [
    (failure(429, "rate_limit_error", "slow down", {"retry-after": "7"}), openai.RateLimitError, 429, "7"),
    (failure(529, "overloaded_error", "Overloaded"), openai.InternalServerError, 503, None),
    (failure(404, "not_found_error", "model: claude-9"), openai.NotFoundError, 404, None),
    (failure(400, "invalid_request_error", "prompt is too long: 9 > 8"), openai.BadRequestError, 400, None),
    (failure(403, "permission_error", "not yours"), openai.PermissionDeniedError, 403, None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("reply", "kind", "status", "retry_after"), ERRORS)
def test_errors(
    client: OpenAI,
    up: AnthropicUpstream,
    reply: Reply,
    kind: type[openai.APIStatusError],
    status: int,
    retry_after: str | None,
    stream: bool,
) -> None:
    up.queue(reply, reply, reply)
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model="claude-opus-5", messages=HELLO, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.response.headers.get("retry-after") == retry_after
    body = caught.value.body
    assert isinstance(body, dict)
    assert body["message"] == reply.body["error"]["message"]


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def test_an_error_before_content_has_a_status(app: GatewayApp, up: AnthropicUpstream) -> None:
    up.queue(*[EventStream([events_of(claude_message())[0], OVERLOADED])] * 3)
    answer = post(app, "claude-opus-5")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "Overloaded"


@pytest.mark.parametrize("bedrock", [False, True])
def test_an_error_after_content_is_in_band(app: GatewayApp, up: AnthropicUpstream, bedrock: bool) -> None:
    begun = events_of(claude_message())[:5]
    if bedrock:
        broken = bedrock_chunks(begun)
        broken.pause_s = 0.03
        broken.events = [*broken.events, message("throttlingException", {"message": "Overloaded"}, "exception")]
        up.queue(broken)
    else:
        up.queue(EventStream([*begun, OVERLOADED], pause_s=0.03))
    answer = post(app, "anthropic_bedrock:m" if bedrock else "claude-opus-5")
    assert answer.status_code == 200
    assert "Hello" in answer.text
    assert "[DONE]" not in answer.text
    assert json.loads(answer.text.strip().rpartition("data: ")[2])["error"]["message"] == "Overloaded"
    record = app.record(answer.headers["x-request-id"])
    assert (record.status, record.usage.input_tokens, record.usage.estimated) == ("failed", 11, True)


def test_a_stream_without_its_stop_reason_is_cut(app: GatewayApp, up: AnthropicUpstream) -> None:
    up.queue(EventStream(events_of(claude_message())[:-2]))
    answer = post(app, "claude-opus-5")
    assert "upstream_cut" in answer.text
    assert "[DONE]" not in answer.text


def test_a_bedrock_api_key_goes_as_bearer(up: AnthropicUpstream) -> None:
    with GatewayApp(
        CONFIG.format(up=up),
        secrets={"bedrock": BEARER},
        authorizers={"sigv4": SignedByRole(StaticCredentials(AwsCredentials("a", "b", None)), "us-east-1")},
    ) as app:
        assert post(app, "anthropic_bedrock:m", stream=False).status_code == 200
    assert up.last().headers["authorization"] == f"Bearer {BEARER}"


def post(app: GatewayApp, model: str, *, stream: bool = True) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "stream": stream}
    return httpx.post(f"{app.base_url}/chat/completions", json=body, headers=app.auth)


# -- the second witness ----------------------------------------------------------------------------------------------


@pytest.fixture
def witness(up: AnthropicUpstream) -> Iterator[Anthropic]:
    with Anthropic(base_url=up.root, api_key="sk-ant-test", max_retries=0) as made:
        yield made


def test_anthropics_sdk_reads_what_the_fake_serves(witness: Anthropic, up: AnthropicUpstream) -> None:
    whole = claude_message(THOUGHT, REDACTED, {"type": "text", "text": "Let me see."}, CALL, stop="tool_use")
    up.script("claude-opus-5", Reply(whole), EventStream(events_of(whole)))
    buffered = witness.messages.create(model="claude-opus-5", max_tokens=9, messages=HELLO)
    with witness.messages.stream(model="claude-opus-5", max_tokens=9, messages=HELLO) as stream:
        streamed = stream.get_final_message()
    for read in (buffered, streamed):
        assert [
            block.model_dump(exclude_none=True, exclude={"parsed_output", "caller"}) for block in read.content
        ] == whole["content"]
        assert (read.stop_reason, read.usage.input_tokens, read.usage.output_tokens) == ("tool_use", 11, 5)


def test_anthropics_bedrock_sdk_reads_what_the_fake_serves(up: AnthropicUpstream) -> None:
    with (
        AnthropicBedrock(
            base_url=up.root,
            aws_region="us-east-1",
            aws_access_key=ACCESS_KEY,
            aws_secret_key=SECRET_KEY,
            aws_session_token=SESSION_TOKEN,
            max_retries=0,
        ) as client,
        client.messages.create(
            model="m", max_tokens=9, messages=HELLO, stream=True, extra_body={"anthropic_version": "bedrock-2023-05-31"}
        ) as stream,
    ):
        kinds = [event.type for event in stream]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert up.last().path == "/model/m/invoke-with-response-stream"


def test_the_gateway_sends_what_anthropics_sdk_sends(witness: Anthropic, client: OpenAI, up: AnthropicUpstream) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    witness.messages.create(
        model="claude-opus-5",
        max_tokens=2048,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=[
            {"role": "user", "content": [
                {"type": "text", "text": "Weather here?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "EqQB=="},
                {"type": "tool_use", "id": "toolu_01", "name": "get_weather", "input": {"city": "Paris"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_01", "content": "Sunny"}, {"type": "text", "text": "Well?"}]},
        ],
        tools=[{"name": "get_weather", "description": "The weather", "input_schema": schema, "strict": True}],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        metadata={"user_id": "u-1"},
        service_tier="standard_only",
        thinking={"type": "adaptive", "display": "summarized"},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": schema}},
    )  # fmt: skip
    theirs = up.last()
    turn: Any = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "toolu_01",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
            }
        ],
        "reasoning_details": [
            {
                "type": "reasoning.text",
                "text": "Hm.",
                "signature": "EqQB==",
                "format": "anthropic-claude-v1",
                "index": 0,
            }
        ],
    }
    system: Any = {
        "role": "system",
        "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    }
    client.chat.completions.create(
        model="claude-opus-5",
        max_completion_tokens=2048,
        messages=[
            system,
            {"role": "user", "content": [
                {"type": "text", "text": "Weather here?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
            turn,
            {"role": "tool", "tool_call_id": "toolu_01", "content": "Sunny"},
            {"role": "user", "content": "Well?"},
        ],
        tools=[{"type": "function", "function": {"name": "get_weather", "description": "The weather", "parameters": schema, "strict": True}}],
        parallel_tool_calls=False,
        stop="END",
        user="u-1",
        service_tier="default",
        reasoning_effort="high",
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}},
    )  # fmt: skip
    ours = up.last()
    assert ours.json == theirs.json
    assert ours.path == theirs.path
    assert ours.headers["x-api-key"] == "sk-ant-test"
    assert ours.headers["anthropic-version"] == "2023-06-01"
