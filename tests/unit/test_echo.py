"""Specifies the echo provider: OpenAI's wire without network, and the behaviours its model names ask for.

The `openai` SDK's own models are the judge of the wire: every answer must parse as what the SDK expects.
"""

import asyncio
import base64
import itertools
import math
import re
import struct
import time
from collections.abc import Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped] # its stubs are no dependency of ours
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.echo import MODELS, EchoClient, EchoResponse
from llm_gateway.upstream.echo_schema import make_instance
from llm_gateway.upstream.framing import SseFramer

BASE = "echo://local/v1"
USER = {"role": "user", "content": "hello wide world"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 2},
                "note": {"type": "string"},
            },
            "required": ["city", "unit", "days"],
        },
    },
}
OTHER = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}
CUSTOM = {"type": "custom", "custom": {"name": "run_code"}}
NUMBERS = itertools.count()


def new_client() -> EchoClient:
    return EchoClient(clock=lambda: 1_700_000_000.9, new_id=lambda: f"id{next(NUMBERS)}")


async def call(path: str, body: Any, method: str = "POST", **options: Any) -> EchoResponse:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return await new_client().send(HttpRequest(method, f"{BASE}{path}", {}, data, **options))


async def chat(**fields: Any) -> ChatCompletion:
    response = await call("/chat/completions", {"model": "echo", "messages": [USER]} | fields)
    body = orjson.loads(await response.read(1 << 20))
    assert response.status == 200, body
    assert response.headers["content-type"] == "application/json"
    return ChatCompletion.model_validate(body, strict=True)


async def stream(*, check: bool = True, **fields: Any) -> list[dict[str, Any]]:
    """The chunks, each checked by the SDK's model; the stream must end with `[DONE]`."""
    response = await call("/chat/completions", {"model": "echo", "messages": [USER], "stream": True} | fields)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    framer = SseFramer()
    data = [event.data async for piece in response.chunks() for event in framer.feed(piece)]
    assert data[-1] == b"[DONE]"
    chunks: list[dict[str, Any]] = [orjson.loads(each) for each in data[:-1]]
    for chunk in chunks if check else ():
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    return chunks


def assemble(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """By choice: what a client puts together."""
    found: dict[int, dict[str, Any]] = {}
    for choice in [choice for chunk in chunks for choice in chunk["choices"]]:
        held = found.setdefault(choice["index"], {"content": "", "calls": {}, "finish_reason": None})
        held["content"] += choice["delta"].get("content") or ""
        held["finish_reason"] = choice["finish_reason"] or held["finish_reason"]
        for part in choice["delta"].get("tool_calls") or ():
            one = held["calls"].setdefault(part["index"], {"arguments": ""})
            one |= {key: part[key] for key in ("id", "type") if key in part}
            inner = part.get("function") or part.get("custom")
            one["arguments"] += inner.get("arguments", inner.get("input", ""))
            one["name"] = inner.get("name", one.get("name"))
    return found


async def refusal(body: Any, path: str = "/chat/completions") -> dict[str, Any]:
    response = await call(path, body)
    assert response.status == 400
    error = orjson.loads(await response.read(1 << 16))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return dict(error)


class TestText:
    @pytest.mark.parametrize(
        ("messages", "text", "prompt_tokens"),
        [
            ([USER], "echo: hello wide world", 3),
            ([{"role": "system", "content": "Be brief."}, USER], "echo: hello wide world", 5),
            ([USER, {"role": "assistant", "content": "x"}, {"role": "user", "content": "again"}], "echo: again", 5),
            ([{"role": "system", "content": "only this"}], "echo: only this", 2),
            ([{"role": "user", "content": "  two\n lines "}], "echo:   two\n lines", 2),
            ([{"role": "user", "content": ""}], "echo:", 0),
            (
                [{"role": "user", "content": [
                    {"type": "text", "text": "what is"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
                ]}],
                "echo: what is [image] [audio]", 4,
            ),
            (
                [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
                 {"role": "tool", "tool_call_id": "c", "content": "18 degrees"}],
                "echo: 18 degrees", 5,
            ),
        ],
    )  # fmt: skip
    async def test_the_last_thing_heard_comes_back(
        self, messages: list[Mapping[str, Any]], text: str, prompt_tokens: int
    ) -> None:
        answer = await chat(messages=messages)
        assert answer.choices[0].message.content == text
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        words = len(text.split())
        counted = (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)
        assert counted == (prompt_tokens, words, prompt_tokens + words)
        assert assemble(await stream(messages=messages))[0]["content"] == text

    async def test_the_envelope(self) -> None:
        answer = await chat(model="any/thing:else")
        assert (answer.model, answer.created) == ("any/thing:else", 1_700_000_000)
        assert answer.id.startswith("chatcmpl-id")
        assert answer.id != (await chat()).id

    @pytest.mark.parametrize(
        ("fields", "text", "finish_reason"),
        [
            ({"max_tokens": 2}, "echo: hello", "length"),
            ({"max_completion_tokens": 3, "max_tokens": None}, "echo: hello wide", "length"),
            ({"max_tokens": 4}, "echo: hello wide world", "stop"),
            ({"stop": "wide"}, "echo: hello", "stop"),
            ({"stop": ["none", "o w", ""]}, "echo: hell", "stop"),
            ({"stop": "e"}, "", "stop"),
            ({"stop": None, "n": None, "tools": None, "stream_options": None}, "echo: hello wide world", "stop"),
            ({"tools": [WEATHER]}, "echo: hello wide world", "stop"),
        ],
    )  # fmt: skip
    async def test_limits(self, fields: dict[str, Any], text: str, finish_reason: str) -> None:
        choice = (await chat(**fields)).choices[0]
        assert (choice.message.content, choice.finish_reason) == (text, finish_reason)
        streamed = assemble(await stream(**fields))[0]
        assert (streamed["content"], streamed["finish_reason"]) == (text, finish_reason)

    async def test_several_choices(self) -> None:
        answer = await chat(n=3)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 12
        streamed = assemble(await stream(n=3))
        assert [streamed[at]["content"] for at in range(3)] == ["echo: hello wide world"] * 3

    async def test_logprobs(self) -> None:
        found = (await chat(logprobs=True)).choices[0].logprobs
        assert found is not None
        assert [each.token for each in found.content or ()] == ["echo:", " hello", " wide", " world"]
        chunks = await stream(logprobs=True)
        assert chunks[1]["choices"][0]["logprobs"]["content"][0]["token"] == "echo:"

    async def test_json(self) -> None:
        text = (await chat(response_format={"type": "json_object"})).choices[0].message.content
        assert orjson.loads(text or "") == {"echo": "hello wide world"}
        schema = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
        text = (await chat(response_format=wanted)).choices[0].message.content
        assert orjson.loads(text or "") == {"n": 1}


class TestStream:
    async def test_its_chunks_in_order(self) -> None:
        chunks = await stream(stream_options={"include_usage": True})
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
        assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
        assert [delta["content"] for delta in deltas[1:-1]] == ["echo:", " hello", " wide", " world"]
        assert deltas[-1] == {}
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * 5 + ["stop"]
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
        assert chunks[-1]["choices"] == []
        buffered = await chat()
        assert buffered.usage is not None
        assert chunks[-1]["usage"] == buffered.usage.model_dump(exclude_unset=True)

    @pytest.mark.parametrize("fields", [{}, {"stream_options": {"include_usage": False}}, {"stream_options": {}}])
    async def test_no_usage_unless_asked(self, fields: dict[str, Any]) -> None:
        chunks = await stream(**fields)
        assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)

    async def test_it_comes_event_by_event(self) -> None:
        response = await call("/chat/completions", {"model": "echo", "messages": [USER], "stream": True})
        pieces = [piece async for piece in response.chunks()]
        assert len(pieces) == 7
        assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in pieces)


CHOICE = {"type": "function", "function": {"name": "get_weather"}}
ASKING = [{"role": "user", "content": "Please call the tool."}]


class TestTools:
    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"messages": ASKING, "tools": [WEATHER, OTHER]}, "get_weather"),
            ({"messages": ASKING, "tools": [WEATHER], "tool_choice": "auto"}, "get_weather"),
            ({"tools": [OTHER, WEATHER], "tool_choice": "required"}, "other"),
            ({"tools": [OTHER, WEATHER], "tool_choice": CHOICE}, "get_weather"),
            ({"tools": [OTHER, WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
                "mode": "required", "tools": [CHOICE]}}}, "get_weather"),
        ],
    )  # fmt: skip
    async def test_a_call(self, fields: dict[str, Any], name: str) -> None:
        choice = (await chat(**fields)).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        assert choice.message.tool_calls is not None
        made = choice.message.tool_calls[0]
        assert made.type == "function"
        expected = {"get_weather": {"city": "city", "unit": "celsius", "days": 2}, "other": {}}[name]
        assert (made.function.name, orjson.loads(made.function.arguments)) == (name, expected)
        streamed = assemble(await stream(**fields))[0]
        assert streamed["finish_reason"] == "tool_calls"
        assert streamed["calls"][0] == {
            "id": made.id, "type": "function", "name": name, "arguments": made.function.arguments,
        }  # fmt: skip

    async def test_a_custom_tool(self) -> None:
        fields: dict[str, Any] = {"messages": ASKING, "tools": [CUSTOM]}
        made = (await chat(**fields)).choices[0].message.tool_calls
        assert made is not None
        assert made[0].type == "custom"
        assert (made[0].custom.name, made[0].custom.input) == ("run_code", "Please call the tool.")
        # The SDK has no model of a streamed custom call; it takes what comes.
        chunks = await stream(check=False, **fields)
        assert assemble(chunks)[0]["calls"][0]["arguments"] == "Please call the tool."

    async def test_each_choice_has_a_call_of_its_own(self) -> None:
        answer = await chat(messages=ASKING, tools=[WEATHER], n=2)
        ids = [choice.message.tool_calls[0].id for choice in answer.choices if choice.message.tool_calls]
        assert len(set(ids)) == 2
        streamed = assemble(await stream(messages=ASKING, tools=[WEATHER], n=2))
        assert [held["calls"][0]["id"] for held in streamed.values()] == ids

    @pytest.mark.parametrize(
        "fields",
        [
            {"messages": ASKING},
            {"messages": ASKING, "tools": []},
            {"messages": ASKING, "tools": [WEATHER], "tool_choice": "none"},
            {"messages": [{"role": "user", "content": "recall calling"}], "tools": [WEATHER]},
            {"messages": [*ASKING, {"role": "tool", "tool_call_id": "c", "content": "call done"}], "tools": [WEATHER]},
        ],
    )
    async def test_no_call(self, fields: dict[str, Any]) -> None:
        assert (await chat(**fields)).choices[0].message.tool_calls is None


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"messages": None}, "messages"),
            ({"messages": []}, "messages"),
            ({"messages": "hi"}, "messages"),
            ({"messages": ["hi"]}, "messages[0]"),
            ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
            ({"messages": [USER, {"content": "x"}]}, "messages[1].role"),
            ({"messages": [{"role": "user"}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
            ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
            ({"n": 0}, "n"),
            ({"n": 1000}, "n"),
            ({"n": True}, "n"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_completion_tokens": "9"}, "max_completion_tokens"),
            ({"temperature": 3}, "temperature"),
            ({"top_p": "x"}, "top_p"),
            ({"stop": [1]}, "stop"),
            ({"stream_options": {"include_usage": True}}, "stream_options"),
            ({"tools": [{"type": "function"}]}, "tools[0]"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tools": [OTHER], "tool_choice": CHOICE}, "tool_choice"),
            ({"response_format": {"type": "json_schema"}}, "response_format"),
            ({"model": None}, "model"),
            ({"model": ""}, "model"),
        ],
    )
    async def test_chat(self, fields: dict[str, Any], param: str) -> None:
        error = await refusal({"model": "echo", "messages": [USER]} | fields)
        assert error["param"] == param

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff"])
    async def test_bodies_that_are_no_object(self, body: bytes) -> None:
        assert (await refusal(body))["param"] is None

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("GET", "/chat/completions", 405), ("POST", "/models", 405), ("POST", "/responses", 404), ("GET", "/", 404)],
    )
    async def test_other_routes(self, method: str, path: str, status: int) -> None:
        assert (await call(path, {}, method)).status == status


class TestModels:
    async def test_the_list_and_any_single_one(self) -> None:
        listed = orjson.loads(await (await call("/models", b"", "GET")).read(1 << 16))
        assert [Model.model_validate(row, strict=True).id for row in listed["data"]] == list(MODELS)
        single = orjson.loads(await (await call("/models/vendor%2Fany", b"", "GET")).read(1 << 16))
        assert Model.model_validate(single, strict=True).id == "vendor/any"


class TestEmbeddings:
    async def embed(self, **fields: Any) -> CreateEmbeddingResponse:
        response = await call("/embeddings", {"model": "echo", "encoding_format": "float"} | fields)
        return CreateEmbeddingResponse.model_validate_json(await response.read(1 << 22), strict=True)

    async def test_unit_vectors_that_depend_on_the_words_alone(self) -> None:
        answer = await self.embed(
            input=["the cat sat", "The cat  sat", "a cat sat", "stock prices fell"], dimensions=512
        )
        first, same, near, far = [row.embedding for row in answer.data]
        assert len(first) == 512
        assert math.isclose(math.sqrt(sum(x * x for x in first)), 1, rel_tol=1e-5)
        assert first == same

        def cosine(a: list[float], b: list[float]) -> float:
            return sum(x * y for x, y in zip(a, b, strict=True))

        assert cosine(first, near) > 0.5
        assert abs(cosine(first, far)) < 0.2
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (12, 12)

    async def test_base64_is_the_same_vector(self) -> None:
        plain = (await self.embed(input="hello")).data[0].embedding
        body = {"model": "echo", "input": "hello", "encoding_format": "base64"}
        row = orjson.loads(await (await call("/embeddings", body)).read(1 << 20))["data"][0]
        assert list(struct.unpack("<256f", base64.b64decode(row["embedding"]))) == plain

    @pytest.mark.parametrize(
        ("given", "count", "tokens"),
        [("a b", 1, 2), (["a", "b c"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3), (" ", 1, 1)],
    )
    async def test_inputs(self, given: Any, count: int, tokens: int) -> None:
        answer = await self.embed(input=given, dimensions=None, user="x")
        assert [row.index for row in answer.data] == list(range(count))
        assert answer.usage.prompt_tokens == tokens

    @pytest.mark.parametrize(
        ("fields", "param"),
        [({}, "input"), ({"input": ""}, "input[0]"), ({"input": []}, "input"), ({"input": ["a", ""]}, "input[1]"),
         ({"input": 5}, "input"), ({"input": "a", "dimensions": 0}, "dimensions"),
         ({"input": "a", "dimensions": 10**6}, "dimensions"),
         ({"input": "a", "encoding_format": "x"}, "encoding_format")],
    )  # fmt: skip
    async def test_refusals(self, fields: dict[str, Any], param: str) -> None:
        assert (await refusal({"model": "echo"} | fields, "/embeddings"))["param"] == param


class TestBehaviours:
    @pytest.mark.parametrize(
        ("status", "kind", "code"),
        [(400, "invalid_request_error", None), (401, "authentication_error", "invalid_api_key"),
         (404, "invalid_request_error", "model_not_found"), (429, "rate_limit_error", "rate_limit_exceeded"),
         (500, "server_error", None), (503, "server_error", None)],
    )  # fmt: skip
    @pytest.mark.parametrize("prefix", ["", "vendor/"])
    async def test_errors(self, prefix: str, status: int, kind: str, code: str | None) -> None:
        response = await call("/chat/completions", {"model": f"{prefix}error-{status}", "messages": [USER]})
        error = orjson.loads(await response.read(1 << 16))["error"]
        assert (response.status, error["type"], error["code"]) == (status, kind, code)
        assert ("retry-after" in response.headers) == (status in (429, 503))

    async def test_slow(self) -> None:
        start = time.monotonic()
        assert assemble(await stream(model="slow"))[0]["content"] == "echo: hello wide world"
        assert 0.3 < time.monotonic() - start < 2

    async def test_no_usage(self) -> None:
        assert (await chat(model="no-usage")).usage is None
        chunks = await stream(model="no-usage", stream_options={"include_usage": True})
        assert all("usage" not in chunk for chunk in chunks)

    async def test_an_error_in_the_stream(self) -> None:
        body = {"model": "error-in-stream", "messages": [USER]}
        response = await call("/chat/completions", body | {"stream": True})
        data = [orjson.loads(piece[6:]) async for piece in response.chunks()]
        assert data[-1]["error"]["type"] == "server_error"
        assert data[0]["choices"]
        assert (await call("/chat/completions", body)).status == 500

    @pytest.mark.parametrize("streamed", [True, False])
    @pytest.mark.parametrize(("model", "error"), [("cut", UpstreamCut), ("stall", UpstreamTimeout)])
    async def test_a_body_that_breaks_off(self, model: str, error: type[UpstreamError], streamed: bool) -> None:
        body = {"model": model, "messages": [USER], "stream": streamed}
        response = await call("/chat/completions", body, idle_s=0.05)
        pieces = response.chunks()
        assert await anext(pieces)
        with pytest.raises(error):
            await (await call("/chat/completions", body, idle_s=0.05)).read(1 << 20)
        await response.close()

    async def test_no_answer(self) -> None:
        with pytest.raises(UpstreamTimeout, match=re.escape("within 0.05 s")):
            await call("/chat/completions", {"model": "no-answer"}, first_byte_s=0.05)
        with pytest.raises(UpstreamUnreachable):
            await call("/chat/completions", {"model": "unreachable"})

    async def test_closing_and_cancelling_stop_it(self) -> None:
        response = await call("/chat/completions", {"model": "slow", "messages": [USER], "stream": True})
        pieces = response.chunks()
        await anext(pieces)
        task = asyncio.ensure_future(pieces.__anext__())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await response.close()
        await response.close()
        assert [piece async for piece in response.chunks()] == []

    async def test_read_keeps_to_its_limit(self) -> None:
        with pytest.raises(UpstreamMalformed):
            await (await call("/models", b"", "GET")).read(10)

    async def test_the_upstream_client_finds_it_by_its_scheme(self) -> None:
        client = open_client()
        body = orjson.dumps({"model": "echo", "messages": [USER]})
        for base in ("echo:", "echo://local/v1", "echo://x"):
            response = await client.send(HttpRequest("POST", f"{base}/chat/completions", {}, body))
            assert b"echo: hello wide world" in await response.read(1 << 20)
        await client.close()


def schemas() -> st.SearchStrategy[Any]:
    strings = st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"minLength": st.integers(0, 9), "maxLength": st.integers(9, 20), "enum": st.just(["aaaaaaaaa"])},
    )
    numbers = st.builds(
        lambda kind, low, more, step: {"type": kind, "minimum": low, "maximum": low + more + step, "multipleOf": step},
        st.sampled_from(["integer", "number"]), st.integers(-50, 50), st.integers(0, 50), st.integers(1, 7),
    )  # fmt: skip
    exclusive = st.builds(
        lambda low, width: {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + width},
        st.integers(-5, 5), st.integers(1, 9),
    )  # fmt: skip
    leaves = st.one_of(
        strings, numbers, exclusive, st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 7}, {}, True,
        {"type": ["string", "null"]}, {"$ref": "#/$defs/node"}, {"type": "string", "format": "date-time"}]),
    )  # fmt: skip

    def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        properties = st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
        objects = properties.map(lambda held: {"type": "object", "properties": held, "required": sorted(held)[:2]})
        lists = st.tuples(inner, st.integers(0, 3))
        arrays = lists.map(lambda held: {"type": "array", "items": held[0], "minItems": held[1]})
        choices = st.lists(inner, min_size=1, max_size=3).map(lambda held: {"anyOf": held})
        merged = st.lists(objects, min_size=1, max_size=1).map(lambda held: {"allOf": held})
        return st.one_of(objects, arrays, choices, merged)

    return st.recursive(leaves, nest, max_leaves=8)


DEFINITIONS = {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "integer"}},
                        "required": ["v"]}}  # fmt: skip


@given(schemas())
def test_a_made_instance_is_one_the_schema_accepts(schema: Any) -> None:
    root = {"$defs": DEFINITIONS} | (schema if isinstance(schema, dict) else {"allOf": [schema]})
    jsonschema.validate(make_instance(root), root)


def test_a_schema_that_never_ends_ends() -> None:
    endless = {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}
    assert isinstance(make_instance(endless), dict)
    assert make_instance({"$ref": "#"}) is not None


KEYWORDS = ["type", "enum", "properties", "required", "items", "anyOf", "allOf", "$ref", "minimum", "minLength"]
ODD_SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4),
)


@settings(max_examples=50)
@given(ODD_SCHEMAS)
def test_no_schema_is_too_odd(schema: Any) -> None:
    make_instance(schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["function", "user", "required", "call", "name"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "function", "name", "parameters", "role", "content", "text", "image_url", "allowed_tools", "tools",
         "mode", "schema", "json_schema", "input", "url"]), inner, max_size=4),
)  # fmt: skip
FIELDS = ["messages", "tools", "tool_choice", "response_format", "stop", "n", "max_tokens", "stream", "stream_options",
          "input", "dimensions", "encoding_format", "logprobs"]  # fmt: skip


@given(st.sampled_from(["/chat/completions", "/embeddings"]), st.dictionaries(st.sampled_from(FIELDS), JSON))
async def test_no_body_is_too_odd(path: str, fields: dict[str, Any]) -> None:
    response = await call(path, {"model": "echo", "messages": ASKING, "tools": [WEATHER]} | fields)
    assert response.status in (200, 400)
    assert await response.read(1 << 22)
