"""Specifies what of a chat request Claude is told, told otherwise, spared with a warning, or refused: rule by rule."""

import json
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.anthropic_answer import FORMAT
from llm_gateway.dialects.anthropic_messages import AnthropicMessages
from llm_gateway.dialects.dialect import EncodedRequest
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.json_splice import elements
from llm_gateway.schemas.openai_chat import read_chat_request, read_embeddings_request

DIALECT = AnthropicMessages()
PROVIDER = Provider("anthropic", "anthropic_messages", "https://api.example/v1")
HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
NAMED = {"type": "function", "function": {"name": "f"}}


def encode(model: str = "claude-opus-4-6", provider: Provider = PROVIDER, **fields: Any) -> EncodedRequest:
    request = read_chat_request(json.dumps({"model": model, "messages": HELLO, **fields}).encode())
    return DIALECT.encode("chat.completions", request, model, provider)


def body_of(model: str = "claude-opus-4-6", **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encode(model, **fields).body)
    return body


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"modalities": ["text", "audio"], "audio": {"voice": "a"}}, "modalities"),
    ({"modalities": ["text", "image"]}, "modalities"),
    ({"logit_bias": {"1": 5}}, "logit_bias"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"stop": [1]}, "stop"),
    ({"stop": 5}, "stop"),
    ({"reasoning_effort": "hard"}, "reasoning_effort"),
    ({"response_format": {"type": "grammar"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ({"model": "claude-3-haiku-20240307", "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "response_format"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "web_search"}]}}}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}}}, "tool_choice"),
    ({"model": "claude-opus-5-5", "tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
    ({"model": "claude-sonnet-5-5", "tools": TOOLS, "tool_choice": NAMED}, "tool_choice"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function"),
    ({"tools": [*TOOLS, {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}]}, "tools[1].type"),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]}}, "context_management.edits[1].type"),
    ({"compaction": {"type": "summarize"}}, "compaction"),
    ({"output_config": "high"}, "output_config"),
    ({"anthropic_beta": ["a\r\nx-api-key: b"]}, "anthropic_beta"),
    ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages"),
    ({"messages": [{"role": "system", "content": "alone"}]}, "messages"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"text": "untyped"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content[0].image_url.url"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}}]}]}, "messages[0].content[0].image_url.url"),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}}]}]}, "messages[0].content[0].file.file_data"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[1]"}}]}]}, "messages[0].tool_calls[0].function.arguments"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"a'}}]}]}, "messages[0].tool_calls[0].function.arguments"),
    ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_refused_where_the_answer_would_be_wrong(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(**fields)
    assert caught.value.param == param
    assert caught.value.http_status == 400


def test_no_embeddings() -> None:
    request = read_embeddings_request(b'{"model":"claude-opus-5","input":"x"}')
    with pytest.raises(InvalidRequest):
        DIALECT.encode("embeddings", request, "claude-opus-5", PROVIDER)


@pytest.mark.parametrize(
    "name",
    [
        *("seed", "frequency_penalty", "presence_penalty", "verbosity", "prediction", "a_field_of_tomorrow"),
        *("store", "metadata", "prompt_cache_key"),
    ],
)
def test_dropped_with_a_warning(name: str) -> None:
    value: Any = 1 if name.endswith("penalty") else {"x": 1}
    encoded = encode(**{name: value})
    assert json.loads(encoded.body).keys() == {"model", "max_tokens", "messages"}
    assert encoded.warnings == (f"{name} was dropped: Claude has no such parameter",)


def test_nulls_and_what_says_nothing_need_no_warning() -> None:
    names = (
        *("temperature", "top_p", "n", "stop", "seed", "logit_bias", "tools", "tool_choice", "response_format", "user"),
        *(
            "reasoning_effort",
            "service_tier",
            "metadata",
            "stream_options",
            "max_completion_tokens",
            "audio",
            "modalities",
        ),
    )
    nothing: dict[str, Any] = {
        "frequency_penalty": 0,
        "store": False,
        "metadata": {},
        "logprobs": False,
        "logit_bias": {},
    }
    encoded = encode(**{**dict.fromkeys(names), **nothing})
    assert encoded.warnings == ()
    assert json.loads(encoded.body).keys() == {"model", "max_tokens", "messages"}


def test_fields_of_the_messages_api_go_up_as_they_are() -> None:
    own: dict[str, Any] = {
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        "container": "c",
        "inference_geo": "us",
        "mcp_servers": [{"url": "x"}],
    }
    body = body_of(**own, thinking={"type": "enabled", "budget_tokens": 2000}, metadata={"user_id": "m"}, top_k=5)
    assert {name: body[name] for name in own} == own
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert body["metadata"] == {"user_id": "m"}
    assert "top_k" not in body


ADAPTIVE = {"type": "adaptive"}
SHOWN = {"type": "adaptive", "display": "summarized"}
REASONING: list[tuple[str, dict[str, Any], Any, str | None, int]] = [
    # model, fields, thinking, effort, warnings
    ("claude-opus-4-6", {}, None, None, 0),
    ("claude-opus-4-6", {"reasoning_effort": "none"}, None, None, 0),
    ("claude-opus-4-6", {"reasoning_effort": "minimal"}, ADAPTIVE, "low", 0),
    ("claude-opus-4-6", {"reasoning_effort": "xhigh"}, ADAPTIVE, "high", 1),
    ("claude-opus-4-6", {"reasoning_effort": "max"}, ADAPTIVE, "max", 0),
    ("claude-opus-4-8", {"reasoning_effort": "high"}, SHOWN, "high", 0),
    ("claude-opus-4-8", {"reasoning_effort": "high", "output_config": {"effort": "low"}}, SHOWN, "low", 0),
    ("claude-opus-5", {"reasoning_effort": "none"}, {"type": "disabled"}, None, 0),
    ("claude-sonnet-5-5", {"reasoning_effort": "none"}, {"type": "between_tools"}, None, 0),
    ("claude-opus-5-5", {"reasoning_effort": "none"}, None, "low", 1),
    ("claude-opus-5", {"tools": TOOLS, "tool_choice": NAMED}, {"type": "disabled"}, None, 0),
    ("claude-opus-5", {"tools": TOOLS, "tool_choice": "required", "reasoning_effort": "high"}, {"type": "disabled"}, None, 1),
    ("claude-opus-4-6", {"tools": TOOLS, "tool_choice": "required", "reasoning_effort": "high"}, None, None, 1),
    ("claude-opus-4-6", {"tools": TOOLS, "tool_choice": "none", "reasoning_effort": "high"}, ADAPTIVE, "high", 0),
    ("claude-opus-4-5", {"reasoning_effort": "high"}, {"type": "enabled", "budget_tokens": 32000}, None, 0),
    ("claude-opus-4-5", {"reasoning_effort": "minimal", "max_tokens": 4000}, {"type": "enabled", "budget_tokens": 1024}, None, 0),
    ("claude-opus-4-5", {"reasoning_effort": "max", "max_tokens": 2000}, {"type": "enabled", "budget_tokens": 1900}, None, 0),
    ("claude-opus-4-5", {"reasoning_effort": "low", "max_tokens": 1025}, {"type": "enabled", "budget_tokens": 1024}, None, 0),
    ("claude-opus-4-5", {"reasoning_effort": "low", "max_tokens": 1024}, None, None, 1),
    ("claude-3-5-haiku-latest", {"reasoning_effort": "low"}, None, None, 1),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 12800}, None, 0),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "thinking", "effort", "warnings"), REASONING)
def test_reasoning(model: str, fields: dict[str, Any], thinking: Any, effort: str | None, warnings: int) -> None:
    encoded = encode(model, **fields)
    body = json.loads(encoded.body)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert len(encoded.warnings) == warnings


@given(st.integers(0, 200_000), st.sampled_from(["minimal", "low", "medium", "high", "xhigh", "max"]))
def test_a_budget_stays_within_what_the_caller_allowed(limit: int, effort: str) -> None:
    body = body_of("claude-sonnet-4-5", max_tokens=limit, reasoning_effort=effort)
    assert body["max_tokens"] == limit
    if "thinking" in body:
        assert 1024 <= body["thinking"]["budget_tokens"] < limit
    else:
        assert limit <= 1024


def test_a_budget_waits_while_a_tool_loop_has_lost_its_thinking() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    signed = {"type": "reasoning.text", "text": "t", "signature": "s", "format": FORMAT, "index": 0}
    result = {"role": "tool", "tool_call_id": "a", "content": "x"}
    for details, thinks in (([], False), ([signed], True)):
        turn = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_details": details}
        fields: dict[str, Any] = {"messages": [*HELLO, turn, result], "tools": TOOLS, "reasoning_effort": "low"}
        encoded = encode("claude-sonnet-4-5", **fields)
        assert ("thinking" in json.loads(encoded.body)) == thinks
        assert bool(encoded.warnings) != thinks
        assert "thinking" in body_of("claude-opus-4-6", **fields)


SAMPLING: list[tuple[str, dict[str, Any], dict[str, Any], int]] = [
    (
        "claude-3-haiku-20240307",
        {"temperature": 0.1, "top_p": 0.9, "top_k": 4},
        {"temperature": 0.1, "top_p": 0.9, "top_k": 4},
        0,
    ),
    ("claude-opus-4-6", {"temperature": 0.1, "top_p": 0.9}, {"temperature": 0.1}, 1),
    ("claude-opus-4-6", {"top_p": 0.9}, {"top_p": 0.9}, 0),
    ("claude-opus-4-6", {"temperature": 1.7}, {"temperature": 1}, 1),
    ("claude-opus-4-6", {"temperature": 0, "reasoning_effort": "low"}, {}, 1),
    ("claude-opus-4-6", {"temperature": 1, "reasoning_effort": "low"}, {}, 0),
    ("claude-opus-5-5", {"temperature": 0, "top_p": 1, "top_k": 1}, {}, 2),
    ("a-model-of-somebody-else", {"temperature": 0.5}, {"temperature": 0.5}, 0),
]


@pytest.mark.parametrize(("model", "fields", "sent", "warnings"), SAMPLING)
def test_sampling(model: str, fields: dict[str, Any], sent: dict[str, Any], warnings: int) -> None:
    encoded = encode(model, **fields)
    body = json.loads(encoded.body)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == sent
    assert len(encoded.warnings) == warnings


def test_max_tokens_is_the_models_own_limit_where_the_caller_names_none() -> None:
    assert body_of("claude-opus-5-5")["max_tokens"] == capability("anthropic", "claude-opus-5-5")["max_output_tokens"]
    assert body_of("claude-3-haiku-20240307")["max_tokens"] == 4096
    assert body_of("someone-elses")["max_tokens"] == 8192
    encoded = encode(max_tokens=5, max_completion_tokens=7)
    assert json.loads(encoded.body)["max_tokens"] == 7
    assert encoded.warnings == ("max_tokens was dropped: max_completion_tokens says otherwise",)
    assert encode(max_tokens=7, max_completion_tokens=7).warnings == ()


def test_json_object_is_asked_for_in_words() -> None:
    encoded = encode(response_format={"type": "json_object"})
    body = json.loads(encoded.body)
    assert "JSON object" in body["system"][0]["text"]
    assert "output_config" not in body
    assert len(encoded.warnings) == 1


def test_schemas_are_closed_where_they_do_not_say() -> None:
    schema = {
        "type": "object",
        "properties": {"type": {"type": "string"}, "map": {"type": "object", "additionalProperties": True}},
        "$defs": {"a": {"type": "object"}},
        "enum": [{"type": "object"}],
        "examples": [{"type": "object"}],
    }
    sent = body_of(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    closed = sent["output_config"]["format"]["schema"]
    assert closed["additionalProperties"] is False
    assert closed["properties"]["map"] == {"type": "object", "additionalProperties": True}
    assert closed["$defs"]["a"] == {"type": "object", "additionalProperties": False}
    assert closed["enum"] == closed["examples"] == [{"type": "object"}]


def test_a_property_may_be_called_like_a_keyword() -> None:
    names = {"properties", "default", "const", "enum", "$defs", "type"}
    schema = {"type": "object", "properties": {name: {"type": "object"} for name in names}}
    sent = body_of(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    described = sent["output_config"]["format"]["schema"]["properties"]
    assert described == {name: {"type": "object", "additionalProperties": False} for name in names}


@pytest.mark.parametrize("kind", ["image/jpg", "IMAGE/JPG", "image/jpeg"])
def test_a_jpeg_is_called_by_its_right_name(kind: str) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:{kind};base64,AA=="}}
    (block,) = body_of(messages=[{"role": "user", "content": [image]}])["messages"][0]["content"]
    assert block["source"] == {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}


def test_an_empty_stop_sequence_says_nothing() -> None:
    encoded = encode(stop="")
    assert "stop_sequences" not in json.loads(encoded.body)
    assert encoded.warnings == ()
    assert body_of(stop=["", "END"])["stop_sequences"] == ["END"]


def test_tools_of_anthropics_own_and_allowed_tools() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    assert body_of(tools=[search])["tools"] == [search]
    other = {"type": "function", "function": {"name": "g"}}
    chosen = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
    body = body_of(tools=[*TOOLS, other], tool_choice=chosen)
    assert [tool["name"] for tool in body["tools"]] == ["f"]
    assert body["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("tier", "sent", "warnings"),
    [
        ("auto", "auto", 0),
        ("default", "standard_only", 0),
        ("priority", "auto", 0),
        ("standard_only", "standard_only", 0),
        ("flex", None, 1),
    ],
)
def test_service_tiers(tier: str, sent: str | None, warnings: int) -> None:
    encoded = encode(service_tier=tier)
    assert json.loads(encoded.body).get("service_tier") == sent
    assert len(encoded.warnings) == warnings


def test_beta_features_of_the_request_join_the_configured_ones() -> None:
    configured = Provider(
        "a",
        "anthropic_messages",
        "https://x/v1",
        headers={"Anthropic-Beta": "one,two", "anthropic-version": "2026-10-21"},
    )
    assert encode(provider=configured, anthropic_beta=["three", "one"]).headers == {"Anthropic-Beta": "one,two,three"}
    assert encode(provider=configured).headers == {}
    bedrock = Provider(
        "b", "anthropic_messages", "https://x", headers={"anthropic-beta": "one"}, quirks=Quirks(envelope="bedrock")
    )
    assert json.loads(encode(provider=bedrock, anthropic_beta=["two"]).body)["anthropic_beta"] == ["two", "one"]


def test_a_prefill_does_not_end_in_white_space() -> None:
    body = body_of(messages=[*HELLO, {"role": "assistant", "content": "The answer is ( \n"}])
    assert body["messages"][-1]["content"] == [{"type": "text", "text": "The answer is ("}]


def test_unmerged_reasoning_details_are_merged() -> None:
    pieces = [
        {"type": "reasoning.text", "text": "a", "format": FORMAT, "index": 0},
        {"type": "reasoning.text", "text": "b", "index": 0},
        {"type": "reasoning.text", "signature": "s", "index": 0},
        {"type": "reasoning.encrypted", "data": "d", "format": FORMAT, "index": 1},
        {"type": "reasoning.text", "text": "x", "signature": "y", "format": "openai-responses-v1", "index": 2},
        "junk",
    ]
    body = body_of(messages=[*HELLO, {"role": "assistant", "content": "c", "reasoning_details": pieces}, *HELLO])
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "ab", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "c"},
    ]


ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
BLOCKS = st.lists(
    st.one_of(
        st.text(alphabet='ab "\\\u2028é', min_size=1, max_size=8).map(
            lambda text: {"type": "text", "text": "x" + text}
        ),
        st.tuples(st.text(max_size=6), st.text("AZ=", min_size=1, max_size=6)).map(
            lambda given: {"type": "thinking", "thinking": given[0], "signature": given[1]}
        ),
        st.text("AZ=", min_size=1, max_size=6).map(lambda data: {"type": "redacted_thinking", "data": data}),
        st.dictionaries(st.text(max_size=5), ARGUMENTS, max_size=3).map(
            lambda input_: {"type": "tool_use", "id": "toolu_1", "name": "f", "input": input_}
        ),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(BLOCKS)
def test_an_answer_given_back_is_the_answer(blocks: list[dict[str, Any]]) -> None:
    """Claude -> OpenAI -> Claude: every byte of thinking and input, and the order, but for texts that follow another."""
    whole = {"type": "message", "model": "m", "content": blocks, "stop_reason": "end_turn", "usage": {}}
    request = read_chat_request(json.dumps({"model": "m", "messages": HELLO}).encode())
    answer = DIALECT.decode("chat.completions", request, "m", json.dumps(whole).encode())
    said = json.loads(answer.body)["choices"][0]["message"]
    sent = body_of(messages=[*HELLO, said, *HELLO])
    turns = [turn["content"] for turn in sent["messages"] if turn["role"] == "assistant"]
    assert turns == ([given_back(blocks)] if given_back(blocks) else [])


def given_back(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Between two thoughts one text and then the calls; no thought at the end."""
    turn: list[dict[str, Any]] = []
    for thinks, group in groupby(blocks, key=lambda block: block["type"] not in ("text", "tool_use")):
        said = list(group)
        text = "".join(block["text"] for block in said if block["type"] == "text")
        turn += [{"type": "text", "text": text}] if text else []
        turn += said if thinks else [block for block in said if block["type"] == "tool_use"]
    while turn and turn[-1]["type"] not in ("text", "tool_use"):
        turn.pop()
    return turn


PARTS = [
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
    "content",
    "schema",
    "json_schema",
    "allowed_tools",
    "tools",
    "signature",
    "data",
    "tool_call_id",
    "reasoning_details",
    "tool_calls",
    "cache_control",
]
FIELDS = [
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "stop",
    "reasoning_effort",
    "thinking",
    "metadata",
    "user",
    "service_tier",
    "modalities",
    "audio",
    "functions",
    "output_config",
    "anthropic_beta",
    "top_k",
    "logit_bias",
    "cache_control",
    "safety_identifier",
    "поле\x7f",
]
JSON = st.recursive(
    st.sampled_from([None, True, 0, 1.5, -1, "", "x", "text", "function", "auto", "поле\n", "data:;base64,"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PARTS), inner, max_size=5),
    max_leaves=10,
)
MESSAGES = st.lists(
    st.builds(
        lambda role, more: {**more, "role": role},
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.dictionaries(
            st.sampled_from(["content", "tool_calls", "tool_call_id", "reasoning_details", "refusal", "is_error"]),
            JSON,
            max_size=4,
        ),
    ),
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), MESSAGES)
def test_whatever_is_sent_goes_up_or_is_refused(fields: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    try:
        encoded = encode(**{**fields, "messages": [*HELLO, *messages]})
    except InvalidRequest:
        return
    json.loads(encoded.body)
    assert all(warning.isascii() and warning.isprintable() for warning in encoded.warnings)


def test_too_deep_a_schema_is_refused() -> None:
    for depth in (400, 900):
        body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"schema":'
        nested = b'{"items":' * depth + b"{}" + b"}" * depth
        request = read_chat_request(body + nested + b"}}}")
        with pytest.raises(InvalidRequest):
            DIALECT.encode("chat.completions", request, "claude-opus-5", PROVIDER)


def test_many_unknown_fields_make_a_short_header() -> None:
    fields: dict[str, Any] = {f"field_{number}": 1 for number in range(500)}
    assert len(encode(**fields).warnings) == 11


@given(st.lists(ARGUMENTS, max_size=5), st.sampled_from([None, 2]))
def test_elements(values: list[Any], indent: int | None) -> None:
    array = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    assert [json.loads(element) for element in elements(array)] == values
