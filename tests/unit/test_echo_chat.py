"""Specifies the echo provider's chat completions: the text, its limits, its stream and its tool calls, without network.

The `openai` SDK's own models are the judge of the wire: every answer must parse as what the SDK expects.
"""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from tests.unit.echo_calls import ASKING, CHOICE, CUSTOM, OTHER, USER, WEATHER, assemble, call, chat, stream


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
