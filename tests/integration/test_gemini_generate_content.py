"""Gemini behind the gateway, end to end: the openai SDK in front, a fake Gemini behind, real HTTP on both sides.

Google's own SDK is the second witness: it reads what the fake serves as we do, and sends what we send.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google import genai
from google.genai import types

from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.memory import MemorySecrets
from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.pipeline.batches import Part
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.provider_keys import SystemKeys
from llm_gateway.schemas.openai_chat import read_embeddings_request
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.google_oauth import GoogleOAuth
from tests.fakes.gateway_app import KEY, GatewayApp
from tests.fakes.gemini_upstream import GeminiUpstream, gemini_answer, gemini_error, gemini_stream
from tests.fakes.legs import leg_at
from tests.fakes.openai_wire import Reply, html_error

CONFIG = """
default_provider = "gemini"
[providers.gemini]
base_url = "{base_url}"
[prices."gemini:gemini-3.5-flash"]
input = "1"
output = "10"
[prices."gemini:gemini-fake-001"]
input = "1"
output = "10"
"""
MODEL = "gemini-3.5-flash"
GOLDEN = Path(__file__).parent.parent / "golden" / "gemini_generate_content"
HELLO: list[Any] = [{"role": "user", "content": "hi"}]
SIGNATURE = "c2lnbmF0dXJl"
CALLS: list[dict[str, Any]] = [
    {"functionCall": {"name": "weather", "args": {"city": "Rome"}, "id": "abc"}, "thoughtSignature": SIGNATURE},
    {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}},
]


@pytest.fixture
def upstream() -> Iterator[GeminiUpstream]:
    with GeminiUpstream() as running:
        running.require_key("g-key")
        yield running


@pytest.fixture
def app(upstream: GeminiUpstream) -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets={"gemini": "g-key"}) as running:
        yield running


@pytest.fixture
def client(app: GatewayApp) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=app.base_url, api_key=KEY, max_retries=0) as made:
        yield made


@pytest.fixture
def google(upstream: GeminiUpstream) -> Iterator[genai.Client]:
    made = genai.Client(
        api_key="g-key", http_options=types.HttpOptions(base_url=upstream.root, api_version="v1beta", timeout=5000)
    )
    yield made
    made.close()


def test_a_chat_and_its_bill(client: openai.OpenAI, app: GatewayApp, upstream: GeminiUpstream) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, extra_body={"verbosity": "low"})
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello from Gemini."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 7
    assert raw.headers["x-gateway-warning"] == "verbosity was dropped: Gemini has no such parameter"
    sent = upstream.last()
    assert sent.target == f"/v1beta/models/{MODEL}:generateContent"
    assert sent.headers["x-goog-api-key"] == "g-key"
    assert "authorization" not in sent.headers
    record = app.record(raw.headers["x-request-id"])
    assert (record.provider, record.answered_model, record.finish_reason) == ("gemini", "gemini-fake-001", "stop")
    assert record.cost_usd == Decimal("0.000034")


def test_a_stream_and_its_bill(client: openai.OpenAI, app: GatewayApp) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello from Gemini."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    assert {(chunk.id, chunk.created) for chunk in chunks} == {("resp-1", chunks[0].created)}
    record = app.only_record()
    assert (record.status, record.cost_usd, record.finish_reason) == ("settled", Decimal("0.000034"), "stop")


def test_tools_over_two_turns_keep_the_signature(client: openai.OpenAI, upstream: GeminiUpstream) -> None:
    upstream.script(MODEL, Reply(gemini_answer(CALLS)), Reply(gemini_answer([{"text": "Warm."}])))
    tools: Any = [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    ]
    first = client.chat.completions.create(model=MODEL, messages=HELLO, tools=tools).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.tool_calls is not None
    results = [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in first.message.tool_calls]
    turn: Any = [*HELLO, first.message.model_dump(), *results]  # with all its nulls, as SDK users send it
    second = client.chat.completions.create(model=MODEL, messages=turn, tools=tools)
    assert second.choices[0].message.content == "Warm."
    _, model, answers = upstream.last().json["contents"]
    assert model == {"role": "model", "parts": CALLS}
    assert answers["parts"] == [
        {"functionResponse": {"name": "weather", "response": {"output": "21"}, "id": "abc"}},
        {"functionResponse": {"name": "weather", "response": {"output": "21"}}},
    ]


def test_a_streamed_thought_comes_as_reasoning(client: openai.OpenAI, upstream: GeminiUpstream) -> None:
    upstream.script(
        MODEL,
        gemini_stream(
            gemini_answer([{"text": "Hm.", "thought": True}], finish=None),
            gemini_answer([{"text": "42", "thoughtSignature": SIGNATURE}]),
            tear=7,
        ),
    )
    stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, reasoning_effort="low")
    deltas = [chunk.choices[0].delta.model_dump(exclude_none=True) for chunk in stream]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["Hm."]
    assert [delta["content"] for delta in deltas if "content" in delta] == ["42"]
    details = [detail for delta in deltas for detail in delta.get("reasoning_details", [])]
    assert [detail["type"] for detail in details] == ["reasoning.text", "reasoning.encrypted"]
    assert upstream.last().json["generationConfig"]["thinkingConfig"] == {
        "thinkingLevel": "LOW",
        "includeThoughts": True,
    }


def test_what_the_sdk_makes_of_a_stream_goes_back_as_gemini_said_it(
    client: openai.OpenAI, upstream: GeminiUpstream
) -> None:
    """The SDK joins every string of a list's deltas by their index: thoughts, signatures, images, none may suffer."""
    blobs = [{"inlineData": {"mimeType": "image/png", "data": data}} for data in ("AAAA", "BBBB")]
    upstream.script(
        MODEL,
        gemini_stream(
            gemini_answer([{"text": "Two ", "thought": True}], finish=None),
            gemini_answer([{"text": "dots.", "thought": True}], finish=None),
            gemini_answer([{"text": "", "thought": True, "thoughtSignature": SIGNATURE}], finish=None),
            gemini_answer([{"text": "Here:", "thoughtSignature": SIGNATURE}], finish=None),
            *(gemini_answer([blob], finish=None) for blob in blobs),
            gemini_answer([{"text": "", "thoughtSignature": SIGNATURE}]),
        ),
        Reply(gemini_answer([{"text": "Gladly."}])),
    )
    with client.chat.completions.stream(model=MODEL, messages=HELLO, reasoning_effort="low") as stream:
        message = stream.get_final_completion().choices[0].message
    turn: Any = [*HELLO, message.model_dump(), {"role": "user", "content": "Again"}]
    client.chat.completions.create(model=MODEL, messages=turn)
    assert upstream.last().json["contents"][1]["parts"] == [
        {"text": "Two dots.", "thought": True, "thoughtSignature": SIGNATURE},
        {"text": "Here:", "thoughtSignature": SIGNATURE},
        {"text": "", "thoughtSignature": SIGNATURE},
        *blobs,
    ]


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}


@pytest.mark.parametrize(
    ("reply", "status", "code", "retry"),
    [
        (gemini_error(429, "RESOURCE_EXHAUSTED", "Slow down.", RETRY), 429, "rate_limit_exceeded", "3"),
        (gemini_error(400, "INVALID_ARGUMENT", "Bad schema."), 400, "INVALID_ARGUMENT", None),
        (gemini_error(404, "NOT_FOUND", "models/x is not found"), 404, "model_not_found", None),
        (gemini_error(403, "PERMISSION_DENIED"), 403, "permission_denied", None),
        (gemini_error(503, "UNAVAILABLE", "overloaded"), 503, "UNAVAILABLE", None),
        (gemini_error(500, "INTERNAL"), 502, "INTERNAL", None),
        (html_error(502), 502, "upstream_error", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_reach_the_caller(
    client: openai.OpenAI,
    upstream: GeminiUpstream,
    reply: Reply,
    status: int,
    code: str,
    retry: str | None,
    stream: bool,
) -> None:
    upstream.script(MODEL, reply)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.response.headers.get("retry-after") == retry


def test_a_key_that_google_does_not_know_is_401(client: openai.OpenAI, upstream: GeminiUpstream) -> None:
    upstream.require_key("another")
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert "g-key" not in str(caught.value)


def test_an_error_inside_a_stream_ends_it_without_done(
    client: openai.OpenAI, upstream: GeminiUpstream, app: GatewayApp
) -> None:
    failing = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    # Apart, for a failure that comes in one read with the first content still gets a status.
    upstream.script(MODEL, gemini_stream(gemini_answer([{"text": "Hel"}], finish=None), failing, pause_s=0.2))
    seen: list[Any] = []
    with pytest.raises(openai.APIError, match="overloaded"):
        seen.extend(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert [chunk.choices[0].delta.content for chunk in seen] == [None, "Hel"]
    assert app.only_record().status == "failed"


def test_a_stream_that_ends_without_its_finish_reason_is_no_answer(
    client: openai.OpenAI, upstream: GeminiUpstream
) -> None:
    upstream.script(MODEL, gemini_stream(gemini_answer([{"text": "Hel"}], finish=None)))
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))


@pytest.mark.parametrize("asked", [{}, {"encoding_format": "float"}])
def test_embeddings(client: openai.OpenAI, upstream: GeminiUpstream, asked: Any) -> None:
    """Without a word about the encoding, the SDK asks for base64 and unpacks it."""
    answer = client.embeddings.create(model="gemini-embedding-001", input=["a", "b"], dimensions=2, **asked)
    assert [item.embedding for item in answer.data] == [[0.25, -0.5], [0.25, -0.5]]
    assert answer.usage.prompt_tokens > 0
    assert upstream.last().target == "/v1beta/models/gemini-embedding-001:batchEmbedContents"


async def test_vertex_by_a_service_account(upstream: GeminiUpstream) -> None:
    """The token is fetched once, from the account's own token endpoint, and goes where the key would."""
    pem = (
        rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )
    account = {
        "type": "service_account",
        "client_email": "a@b",
        "private_key": pem,
        "token_uri": f"{upstream.root}/token",
    }
    upstream.require_key("ya29.token")
    upstream.queue(Reply({"access_token": "ya29.token", "expires_in": 3600}))
    http = open_client()
    secrets = CachedSecrets(MemorySecrets({"gw/provider/google_vertex": json.dumps(account)}))
    dialect = GeminiGenerateContent()
    dispatcher = Dispatcher(
        http, SystemKeys(secrets, "gw"), {dialect.name: dialect}, {"oauth": GoogleOAuth(http, loopback=True)}, print
    )
    base_url = f"{upstream.root}/v1/projects/p/locations/global/publishers/google"
    vertex = Provider("google_vertex", "gemini_generate_content", base_url, "oauth", quirks=Quirks(envelope="vertex"))
    request = read_embeddings_request(b'{"model":"gemini-embedding-001","input":["a"]}')
    try:
        for _ in range(2):
            encoded = dialect.encode("embeddings", request, "gemini-embedding-001", vertex)
            leg = leg_at(vertex, "gemini-embedding-001", within_s=120.0)
            response = await dispatcher.send(leg, Part(request, encoded))
            answer = dialect.decode("embeddings", request, "gemini-embedding-001", await response.read(1 << 20))
            await response.close()
            assert answer.usage is not None
            assert answer.usage.input_tokens == 2
    finally:
        await http.close()
    assert [sent.path for sent in upstream.requests] == [
        "/token",
        *["/v1/projects/p/locations/global/publishers/google/models/gemini-embedding-001:predict"] * 2,
    ]
    assert upstream.last().headers["authorization"] == "Bearer ya29.token"


# -- Google's own SDK as witness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["plain", "tools_parallel", "reasoning", "prompt_cache", "media", "max_tokens"])
def test_googles_sdk_reads_our_golden_answers_as_we_do(
    scenario: str, upstream: GeminiUpstream, google: genai.Client
) -> None:
    served = json.loads((GOLDEN / scenario / "upstream_response.json").read_bytes())
    ours = json.loads((GOLDEN / scenario / "response.json").read_bytes())
    upstream.script(MODEL, Reply(served))
    answer = google.models.generate_content(model=MODEL, contents="hi")
    assert answer.candidates
    message, usage = ours["choices"][0]["message"], answer.usage_metadata
    content = answer.candidates[0].content
    parts = (content.parts if content else None) or []
    assert ("".join(part.text for part in parts if part.text and not part.thought) or None) == message["content"]
    assert [(call.name, call.args or {}) for call in answer.function_calls or []] == [
        (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message.get("tool_calls", [])
    ]
    assert usage is not None
    assert usage.prompt_token_count == ours["usage"]["prompt_tokens"]
    assert (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0) == ours["usage"]["completion_tokens"]
    assert (usage.cached_content_token_count or 0) == ours["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.parametrize("scenario", ["plain_streamed", "reasoning_streamed", "tools_parallel_streamed"])
def test_googles_sdk_reads_our_golden_streams_as_we_do(
    scenario: str, upstream: GeminiUpstream, google: genai.Client
) -> None:
    expected = json.loads((GOLDEN / scenario / "expect.json").read_bytes())
    events = [
        json.loads(line[6:]) for line in (GOLDEN / scenario / "upstream_stream.sse").read_bytes().split(b"\r\n") if line
    ]
    upstream.script(MODEL, gemini_stream(*events))
    written = ""
    for chunk in google.models.generate_content_stream(model=MODEL, contents="hi"):
        assert chunk.candidates
        content = chunk.candidates[0].content
        for part in (content.parts if content else None) or []:
            written += part.text or ""
            if part.function_call:
                written += (
                    f"{part.function_call.name}{json.dumps(part.function_call.args or {}, separators=(',', ':'))}"
                )
    assert written == expected["text"]


def test_googles_sdk_sends_what_we_send(client: openai.OpenAI, upstream: GeminiUpstream, google: genai.Client) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "abc",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                    "extra_content": {"google": {"thought_signature": SIGNATURE}},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "abc", "content": '{"celsius":21}'},
    ]
    client.chat.completions.create(
        model=MODEL,
        messages=messages,
        tools=[{"type": "function", "function": {"name": "weather", "description": "d", "parameters": schema}}],
        tool_choice="required",
        temperature=0.5, top_p=0.9, max_completion_tokens=64, stop=["END"], seed=7, presence_penalty=0.5,
        reasoning_effort="low",
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
    )  # fmt: skip
    ours = upstream.last()
    part = types.Part
    google.models.generate_content(
        model=MODEL,
        contents=[
            types.Content(role="user", parts=[
                part(text="Look"),
                part(inline_data=types.Blob(mime_type="image/png", data=b"\x89PNG\r\n\x1a\n")),
            ]),
            types.Content(role="model", parts=[
                part(function_call=types.FunctionCall(id="abc", name="weather", args={"city": "Rome"}), thought_signature=b"signature"),
            ]),
            types.Content(role="user", parts=[
                part(function_response=types.FunctionResponse(id="abc", name="weather", response={"celsius": 21})),
            ]),
        ],
        config=types.GenerateContentConfig(
            system_instruction=types.Content(parts=[part(text="Be brief.")]),
            tools=[types.Tool(function_declarations=[
                types.FunctionDeclaration(name="weather", description="d", parameters_json_schema=schema),
            ])],
            tool_config=types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)),
            temperature=0.5, top_p=0.9, max_output_tokens=64, stop_sequences=["END"], seed=7, presence_penalty=0.5,
            thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW, include_thoughts=True),
            response_mime_type="application/json", response_json_schema=schema,
        ),
    )  # fmt: skip
    theirs = upstream.last()
    assert theirs.path == ours.path
    assert camel_case(theirs.json) == ours.json


def camel_case(value: Any) -> Any:
    """The SDK leaves some names in the spelling of the protocol's source, which Google reads as well."""
    if isinstance(value, list):
        return [camel_case(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {re.sub(r"_(\w)", lambda found: found[1].upper(), name): camel_case(each) for name, each in value.items()}
