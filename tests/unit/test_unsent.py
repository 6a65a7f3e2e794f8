"""Specifies that nothing a caller asks for is lost without a word, on any wire of its own: told, sent, or refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.loading import Dialects
from llm_gateway.dialects.unsent import OPENAIS_OWN
from llm_gateway.domain.catalog import Provider
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import read_chat_request

WIRES = [
    ("anthropic_messages", "claude-opus-4-6", "Claude"),
    ("gemini_generate_content", "gemini-2.5-flash", "Gemini"),
    ("bedrock_converse", "amazon.nova-lite-v1:0", "Bedrock's Converse"),
]
HELLO = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f"}}
ASKING: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"}, "frequency_penalty": 0.5, "function_call": "auto",
    "functions": [{"name": "f"}], "logit_bias": {"1": 5}, "logprobs": True, "max_completion_tokens": 7, "max_tokens": 7,
    "messages": [HELLO], "metadata": {"a": "b"}, "modalities": ["text", "audio"], "model": "m", "n": 2,
    "parallel_tool_calls": False, "prediction": {"type": "content", "content": "x"}, "presence_penalty": 0.5,
    "prompt_cache_key": "k", "prompt_cache_retention": "24h", "reasoning_effort": "low",
    "response_format": {"type": "json_object"}, "safety_identifier": "s", "seed": 0, "service_tier": "priority",
    "stop": "x", "store": True, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5,
    "tool_choice": "required", "tools": [TOOL], "top_logprobs": 2, "top_p": 0.5, "user": "u", "verbosity": "low",
    "web_search_options": {},
}  # fmt: skip
"""A value of every member that OpenAI documents, which asks for something."""
NEEDED = {
    "tool_choice": ["tools"],
    "stream_options": ["stream"],
    "parallel_tool_calls": ["tools"],
}
READ_BY_THE_GATEWAY = {"model", "messages", "stream", "stream_options"}


def encode(wire: str, model: str, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = read_chat_request(json.dumps({"model": model, "messages": [HELLO], **fields}).encode())
    encoded = Dialects()[wire].encode("chat.completions", request, model, Provider("p", "openai_chat", "https://x"))
    body: dict[str, Any] = json.loads(encoded.body)
    return body, encoded.warnings


def test_every_member_has_an_asking_value() -> None:
    assert ASKING.keys() == OPENAIS_OWN


@pytest.mark.parametrize(("wire", "model", "vendor"), WIRES)
@pytest.mark.parametrize("name", sorted(OPENAIS_OWN - READ_BY_THE_GATEWAY))
def test_a_member_of_openais_is_sent_told_or_refused(wire: str, model: str, vendor: str, name: str) -> None:
    besides = {other: ASKING[other] for other in NEEDED.get(name, ())}
    try:
        body, warnings = encode(wire, model, **besides, **{name: ASKING[name]})
    except InvalidRequest as error:
        found = error.param
    else:
        sent = body != encode(wire, model, **besides)[0]
        found = name if sent or any(warning.startswith(name) for warning in warnings) else None
    assert found == name


@pytest.mark.parametrize(("wire", "model", "vendor"), WIRES)
def test_what_stands_in_messages_images_and_tools_is_told_too(wire: str, model: str, vendor: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "high"}}
    messages = [
        {"role": "user", "name": "ann", "content": [image]},
        {"role": "assistant", "content": "x", "audio": {"id": "a"}, "annotations": [], "reasoning_content": "r"},
        {"role": "user", "name": None, "content": [{**image, "image_url": {**image["image_url"], "detail": "auto"}}]},  # type: ignore[dict-item] # a literal of mixed values
    ]
    tool = {"type": "function", "function": {"name": "f", "rank": 1, "strict": True}}
    _, warnings = encode(wire, model, messages=messages, tools=[tool])
    told = [f"{name} of messages" for name in ("name", "audio", "reasoning_content")] + [
        "detail of images",
        "rank of tools",
    ]
    told += ["strict of tools"] if vendor == "Gemini" else []
    assert sorted(warnings) == sorted(f"{each} was dropped: {vendor} has no such parameter" for each in told)


@pytest.mark.parametrize(("wire", "model", "vendor"), WIRES)
def test_an_answer_given_back_as_it_came_needs_no_warning(wire: str, model: str, vendor: str) -> None:
    said = {
        "role": "assistant", "content": "x", "refusal": None, "annotations": [], "audio": None, "function_call": None,
        "tool_calls": None, "reasoning_content": "t",
        "reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s", "index": 0}],
    }  # fmt: skip
    assert encode(wire, model, messages=[HELLO, said, HELLO])[1] == ()


PARTS = (
    *(
        "type",
        "text",
        "image_url",
        "url",
        "file",
        "file_data",
        "function",
        "name",
        "arguments",
        "id",
        "index",
        "format",
    ),
    *(
        "content",
        "schema",
        "json_schema",
        "allowed_tools",
        "tools",
        "mode",
        "signature",
        "data",
        "tool_call_id",
        "detail",
    ),
    *("reasoning_details", "tool_calls", "cache_control", "effort", "max_tokens"),
)
JSON = st.recursive(
    st.sampled_from([None, True, 0, 1.5, -1, "", "x", "text", "function", "auto", "required", "low", "data:;base64,"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PARTS), inner, max_size=5),
    max_leaves=10,
)
OWN = (
    "thinking",
    "output_config",
    "reasoning",
    "google",
    "extra_body",
    "generationConfig",
    "additionalModelRequestFields",
)
MESSAGES = st.lists(
    st.builds(
        lambda role, more: {**more, "role": role},
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.dictionaries(
            st.sampled_from(["content", "tool_calls", "tool_call_id", "reasoning_details", "images"]), JSON
        ),
    ),
    max_size=3,
)


@pytest.mark.parametrize(
    ("wire", "model", "vendor"), [*WIRES, ("bedrock_converse", "anthropic.claude-opus-4-6-v1", "")]
)
@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted({*OPENAIS_OWN, *OWN, "top_k"} - {"messages", "model"})), JSON, max_size=4),
    MESSAGES,
)
def test_whatever_is_sent_goes_up_or_is_refused(
    wire: str, model: str, vendor: str, fields: dict[str, Any], messages: list[dict[str, Any]]
) -> None:
    try:
        _, warnings = encode(wire, model, **{**fields, "messages": [HELLO, *messages]})
    except InvalidRequest:
        return
    assert all(warning.isascii() and warning.isprintable() for warning in warnings)
