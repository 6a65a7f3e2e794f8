"""Specifies what the echo provider refuses, and which field it blames: as OpenAI would, whatever it is sent."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.echo_calls import ASKING, CHOICE, OTHER, USER, WEATHER, call, refusal


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
