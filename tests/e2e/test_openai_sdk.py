"""The official `openai` SDK, sync and async, against a real `llm-gateway run` and a fake provider over real HTTP."""

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionToolParam

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, Stream, chat, tool_call

HELLO: list[Any] = [{"role": "user", "content": "Hello there, how are you?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CONFIG = """
default_provider = "corp"
default_model = "fast"

[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
api_key_env = "CORP_API_KEY"

[models.fast]
deployments = [{{ provider = "corp", model = "small-1" }}]

[prices."corp:small-1"]
input = "0.10"
output = "0.40"
cached_input = "0.025"

[teams.search]

[keys.search-prod]
team = "search"
key = "sk-search-prod-for-local-use"
models = ["fast", "echo:*"]
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        running.require_key("sk-corp-secret")
        yield running


@pytest.fixture(scope="module")
def served(
    upstream: OpenAIUpstream, tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]
) -> Iterator[GatewayProcess]:
    process = GatewayProcess(
        tmp_path_factory.mktemp("served"),
        environ={**bare_environ, "CORP_API_KEY": "sk-corp-secret"},
        config=CONFIG.format(base_url=upstream.base_url),
    ).start()
    yield process
    process.stop()
    process.clean_up()


@pytest.fixture
def client(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served.base_url, api_key=served.key, max_retries=0, timeout=20) as made:
        yield made


def entry(served: GatewayProcess, request_id: str, key: str | None = None) -> dict[str, Any]:
    """The ledger's entry, once it is no longer open: accounts are written after the last byte."""
    root = served.base_url.removesuffix("/v1")
    for _ in range(100):
        answer = httpx.get(
            f"{root}/usage/requests/{request_id}", headers={"Authorization": f"bearer {key or served.key}"}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        if found["status"] != "open":
            return found
    raise AssertionError("the entry stayed open")


def test_chat_through_echo(client: openai.OpenAI, served: GatewayProcess) -> None:
    raw = client.chat.completions.with_raw_response.create(model="echo:demo", messages=HELLO)
    answer = raw.parse()
    assert "Hello there, how are you?" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    told = json.loads(raw.text)["x_gateway"]
    assert told["provider"] == "echo"
    assert told["cost_usd"] == raw.headers["x-gateway-cost-usd"]
    assert float(raw.headers["x-gateway-overhead-ms"]) >= 0
    found = entry(served, raw.headers["x-request-id"])
    assert found["usage"]["input_tokens"] == answer.usage.prompt_tokens
    assert found["cost_usd"] == told["cost_usd"]
    assert Decimal(found["cost_usd"]) == (
        answer.usage.prompt_tokens * 1 + answer.usage.completion_tokens * 2
    ) / Decimal(10**6)


def test_everything_passes_to_a_compatible_provider_unchanged(client: openai.OpenAI, upstream: OpenAIUpstream) -> None:
    client.chat.completions.create(
        model="fast",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this? ü"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                ],
            },
        ],
        tools=[WEATHER],
        tool_choice="auto",
        response_format={"type": "json_object"},
        n=2,
        logprobs=True,
        top_logprobs=3,
        extra_body={"from_the_future": {"big": 12345678901234567890, "nothing": None}},
    )
    sent = upstream.last()
    assert sent.path == "/v1/chat/completions"
    assert sent.headers["authorization"] == "Bearer sk-corp-secret"
    assert served_key_never_left(sent.raw_headers)
    assert sent.json["model"] == "small-1"
    assert sent.json["from_the_future"] == {"big": 12345678901234567890, "nothing": None}
    assert sent.json["messages"][1]["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert {"tools", "tool_choice", "response_format", "n", "logprobs", "top_logprobs"} <= sent.json.keys()
    assert "stream_options" not in sent.json


def served_key_never_left(headers: list[tuple[bytes, bytes]]) -> bool:
    return not any(b"sk-local" in value or b"sk-search" in value for _, value in headers)


def test_unknown_fields_come_back(client: openai.OpenAI, upstream: OpenAIUpstream) -> None:
    body = b'{"id":"c1","object":"chat.completion","created":1,"model":"small-1-2026","novel":{"n":123456789012345678901234567890},"choices":[{"index":0,"message":{"role":"assistant","content":"ok","mood":"calm"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
    upstream.script("small-1", Reply(body))
    raw = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO)
    assert raw.http_response.content.startswith(body[:-1])
    assert raw.parse().model == "small-1-2026"
    off = client.chat.completions.with_raw_response.create(
        model="fast", messages=HELLO, extra_headers={"x-gateway-body": "off"}
    )
    assert off.http_response.content == body


def test_tools_streamed_and_not(client: openai.OpenAI) -> None:
    buffered = client.chat.completions.create(
        model="echo:demo", messages=HELLO, tools=[WEATHER], tool_choice="required"
    )
    assert buffered.choices[0].finish_reason == "tool_calls"
    calls = buffered.choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert "city" in json.loads(calls[0].function.arguments)
    with client.chat.completions.stream(
        model="echo:demo", messages=HELLO, tools=[WEATHER], tool_choice="required"
    ) as s:
        final = s.get_final_completion()
    streamed = final.choices[0].message.tool_calls
    assert streamed
    assert streamed[0].function.arguments == calls[0].function.arguments


def test_streamed_and_buffered_cost_the_same(
    client: openai.OpenAI, served: GatewayProcess, upstream: OpenAIUpstream
) -> None:
    counts = {
        "prompt_tokens": 1017,
        "completion_tokens": 53,
        "total_tokens": 1070,
        "prompt_tokens_details": {"cached_tokens": 1000},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    upstream.script("small-1", chat("One two three", usage=counts), ChatStream(text="One two three", counts=counts))
    raw = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO)
    streamed = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO, stream=True)
    chunks = list(streamed.parse())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "One two three"
    assert all(chunk.choices for chunk in chunks), "the usage chunk is hidden from one who did not ask for it"
    assert upstream.last().json["stream_options"] == {"include_usage": True}
    entries = [entry(served, answer.headers["x-request-id"]) for answer in (raw, streamed)]
    expected = (17 * Decimal("0.10") + 1000 * Decimal("0.025") + 53 * Decimal("0.40")) / 10**6
    for found in entries:
        assert Decimal(found["cost_usd"]) == expected
        assert found["usage"]["cached_tokens"] == 1000
        assert found["usage"]["reasoning_tokens"] == 40
        assert found["estimated"] is False
        assert (found["requested_model"], found["provider"], found["routed_model"]) == ("fast", "corp", "small-1")
        assert found["price_version"]
    assert raw.headers["x-gateway-cost-usd"] == entries[1]["cost_usd"]
    assert entries[1]["ttft_ms"] is not None


def test_usage_chunk_for_one_who_asks(client: openai.OpenAI, upstream: OpenAIUpstream) -> None:
    upstream.script("small-1", ChatStream(text="a b"))
    chunks = list(
        client.chat.completions.create(
            model="fast", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_is_estimated_and_says_so(
    client: openai.OpenAI, served: GatewayProcess, upstream: OpenAIUpstream
) -> None:
    upstream.script("small-1", ChatStream(text="one two three four five six", usage="never"))
    raw = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO, stream=True)
    list(raw.parse())
    found = entry(served, raw.headers["x-request-id"])
    assert found["estimated"] is True
    assert 4 <= found["usage"]["output_tokens"] <= 12
    assert found["usage"]["input_tokens"] > 4
    assert Decimal(found["cost_usd"]) > 0


def test_the_first_chunk_arrives_while_the_provider_still_produces(
    client: openai.OpenAI, upstream: OpenAIUpstream
) -> None:
    scenario = ChatStream(text="first second third", gate_after=2)
    upstream.script("small-1", scenario)
    with client.chat.completions.create(model="fast", messages=HELLO, stream=True) as stream:
        first = next(iter(stream))
        assert first.choices[0].delta is not None
        assert upstream.last().done_at is None
        scenario.gate.release()
        rest = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert rest.endswith("third")


async def test_async_clients_in_parallel(served: GatewayProcess, upstream: OpenAIUpstream) -> None:
    upstream.script("small-1", ChatStream(text="a b c d", pause_s=0.01))
    async with openai.AsyncOpenAI(base_url=served.base_url, api_key=served.key, max_retries=0) as client:

        async def one(number: int) -> str:
            stream = await client.chat.completions.create(
                model="fast", messages=[{"role": "user", "content": str(number)}], stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert await asyncio.gather(*(one(number) for number in range(20))) == ["a b c d"] * 20


def test_an_idempotency_key_makes_one_call_of_two(
    client: openai.OpenAI, served: GatewayProcess, upstream: OpenAIUpstream
) -> None:
    """The SDK sends no key by itself, not even when it retries; with one in `extra_headers` its retries are covered too."""
    upstream.script("small-1", ChatStream(text="kept as it was"))
    retrying = client.with_options(max_retries=5)
    before = len(upstream.requests)
    texts, ids = [], []
    for _ in range(2):
        raw = retrying.chat.completions.with_raw_response.create(
            model="fast", messages=HELLO, stream=True, extra_headers={"Idempotency-Key": "order-66"}
        )
        texts.append("".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()))
        ids.append((raw.headers["x-request-id"], raw.headers.get("x-gateway-original-request-id")))
    assert texts == ["kept as it was"] * 2
    (first, _), (second, original) = ids
    assert original == first != second
    assert len(upstream.requests) == before + 1
    assert Decimal(entry(served, first)["cost_usd"]) > 0
    assert "idempotency-key" not in upstream.last().headers
    with pytest.raises(openai.UnprocessableEntityError) as reused:
        client.chat.completions.create(
            model="fast", messages=[*HELLO, *HELLO], extra_headers={"Idempotency-Key": "order-66"}
        )
    assert reused.value.code == "idempotency_key_reused"


def test_embeddings(client: openai.OpenAI, served: GatewayProcess) -> None:
    raw = client.embeddings.with_raw_response.create(model="echo:vectors", input=["alpha", "beta"])
    answer = raw.parse()
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.data[0].embedding != answer.data[1].embedding
    found = entry(served, raw.headers["x-request-id"])
    assert (found["endpoint"], found["usage"]["input_tokens"]) == ("embeddings", answer.usage.prompt_tokens)


def test_models(client: openai.OpenAI, served: GatewayProcess) -> None:
    names = [model.id for model in client.models.list()]
    assert "fast" in names
    assert any(name.startswith("echo:") for name in names)
    assert client.models.retrieve("fast").owned_by == "corp"
    assert client.models.retrieve("corp/small-1").id == "corp/small-1"
    restricted = openai.OpenAI(base_url=served.base_url, api_key="sk-search-prod-for-local-use", max_retries=0)
    assert {model.id.split(":")[0] for model in restricted.models.list()} == {"fast", "echo"}
    with pytest.raises(openai.NotFoundError) as caught:
        restricted.models.retrieve("corp:other")
    assert caught.value.code == "model_not_found"


def test_a_team_key_sees_its_own_requests_only(
    client: openai.OpenAI, served: GatewayProcess, upstream: OpenAIUpstream
) -> None:
    upstream.script("small-1", chat("ok"))
    own = openai.OpenAI(base_url=served.base_url, api_key="sk-search-prod-for-local-use", max_retries=0)
    mine = own.chat.completions.with_raw_response.create(model="fast", messages=HELLO, user="u-7")
    theirs = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO)
    found = entry(served, mine.headers["x-request-id"], "sk-search-prod-for-local-use")
    assert (found["key"], found["team"], found["user"]) == ("search-prod", "search", "u-7")
    entry(served, mine.headers["x-request-id"])
    root = served.base_url.removesuffix("/v1")
    hidden = httpx.get(
        f"{root}/usage/requests/{theirs.headers['x-request-id']}",
        headers={"Authorization": "Bearer sk-search-prod-for-local-use"},
    )
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "not_found")
    with pytest.raises(openai.PermissionDeniedError):
        own.chat.completions.create(model="corp:small-1", messages=HELLO)


@pytest.mark.parametrize("path", ["", "/openai/v1"])
def test_the_same_paths_under_other_prefixes(served: GatewayProcess, path: str) -> None:
    root = served.base_url.removesuffix("/v1")
    with openai.OpenAI(base_url=root + path, api_key=served.key, max_retries=0) as client:
        assert client.chat.completions.create(model="echo:demo", messages=HELLO).choices
        assert list(client.models.list())


def test_azure_clients_work_unchanged(served: GatewayProcess, upstream: OpenAIUpstream) -> None:
    upstream.script("small-1", chat("from azure"))
    root = served.base_url.removesuffix("/v1")
    with openai.AzureOpenAI(azure_endpoint=root, api_key=served.key, api_version="2024-10-21", max_retries=0) as client:
        answer = client.chat.completions.create(model="fast", messages=HELLO)
    assert answer.choices[0].message.content == "from azure"
    assert upstream.last().json["model"] == "small-1"


def test_the_item_in_dynamodb_is_what_the_api_tells(client: openai.OpenAI, served: GatewayProcess) -> None:
    raw = client.chat.completions.with_raw_response.create(model="echo:demo", messages=HELLO)
    request_id = raw.headers["x-request-id"]
    found = entry(served, request_id)
    dynamodb = served.client("dynamodb")
    table = next(name for name in dynamodb.list_tables()["TableNames"] if name.endswith("ledger"))
    item = dynamodb.get_item(TableName=table, Key={"pk": {"S": f"req#{request_id}"}}, ConsistentRead=True)["Item"]
    assert Decimal(item["cost"]["N"]) == Decimal(found["cost_usd"])
    assert item["status"] == {"S": "settled"}
    assert int(item["ttl"]["N"]) > 0
    assert "sk-local" not in json.dumps(item)


def test_tool_calls_without_usage_count_their_arguments(
    client: openai.OpenAI, served: GatewayProcess, upstream: OpenAIUpstream
) -> None:
    call = tool_call("get_weather", '{"city": "Paris"}')
    upstream.script("small-1", ChatStream(text="", tool_calls=[call], usage="never"))
    raw = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO, tools=[WEATHER], stream=True)
    list(raw.parse())
    found = entry(served, raw.headers["x-request-id"])
    assert found["finish_reason"] == "tool_calls"
    assert found["usage"]["output_tokens"] > 0


def test_a_stream_of_bare_events_is_forwarded_byte_for_byte(served: GatewayProcess, upstream: OpenAIUpstream) -> None:
    events: list[bytes] = [
        b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}],"novel":1.10}\r\n\r\n',
        b": still here\n\n",
        b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    ]
    upstream.script("small-1", Stream(events))
    answer = httpx.post(
        f"{served.base_url}/chat/completions",
        json={"model": "fast", "messages": HELLO, "stream": True},
        headers={"Authorization": f"BEARER {served.key}"},
    )
    assert answer.content == b"".join(events) + b"data: [DONE]\n\n"
    assert answer.headers["content-type"].startswith("text/event-stream")
