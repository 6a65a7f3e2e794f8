"""Specifies what a Bedrock request refuses, drops and forwards, its path, and embeddings of Titan and Cohere."""

import base64
import json
import re
import struct
from typing import Any

import pytest

from llm_gateway.dialects.anthropic_messages import AnthropicMessages
from llm_gateway.dialects.bedrock_converse import BedrockConverse
from llm_gateway.dialects.dialect import EncodedRequest
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest, UpstreamMalformed
from llm_gateway.schemas.openai_chat import read_chat_request, read_embeddings_request

PROVIDER = Provider("bedrock", "bedrock_converse", "https://h", "sigv4")
DIALECT = BedrockConverse()
HELLO = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}
CLAUDE, NOVA = "anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-lite-v1:0"
KIMI = "moonshot.kimi-k2-thinking"


def encode(model: str = NOVA, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    body = json.dumps({"model": model, "messages": HELLO, **fields}).encode()
    encoded = DIALECT.encode("chat.completions", read_chat_request(body), model, PROVIDER)
    return json.loads(encoded.body), encoded.warnings


PART = "messages[0].content[0]"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"logit_bias": {"1": 2}}, "logit_bias"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"stop": 5}, "stop"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": []}, "tool_choice"),
    ({"additionalModelRequestFields": [1]}, "additionalModelRequestFields"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages"),
    ({"messages": [{"role": "system", "content": "alone"}]}, "messages"),
    ({"messages": [*HELLO, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
    ({"messages": [*HELLO, {"role": "assistant", "tool_calls": {"id": "1"}}]}, "messages[1].tool_calls"),
    ({"messages": [*HELLO, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}, "messages[1].tool_calls[0].id"),
    ({"messages": [{"role": "user", "content": [{"text": "untyped"}]}]}, f"{PART}.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"reasoning_effort": "enormous"}, "reasoning_effort"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}]}, PART),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA=="}}]}]}, PART),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, f"{PART}.image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}, f"{PART}.file"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "aiff"}}]}]}, PART),
    ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, f"{PART}.type"),
    ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, PART),
    ({"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "s3://b/a.png"}}]}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "[1]"}}]}]}, "messages[0].tool_calls[0].function.arguments"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}]}, "messages[0].tool_calls[0].function.arguments"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}]}, "messages[0].tool_calls[0]"),
    ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_would_change_the_answer_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        encode(**fields)
    assert refusal.value.param is not None
    assert refusal.value.param == param


DROPPED = [
    ({"seed": 0}, 1), ({"logit_bias": {}}, 0), ({"presence_penalty": 0.5}, 1), ({"frequency_penalty": 0}, 0),
    ({"parallel_tool_calls": False}, 1), ({"parallel_tool_calls": True}, 0), ({"store": False}, 0), ({"user": "u"}, 1),
    ({"service_tier": "scale"}, 1), ({"service_tier": "auto"}, 0), ({"verbosity": "low"}, 1), ({"metadata": {}}, 0),
    ({"reasoning_effort": "high"}, 1), ({"reasoning_effort": "none"}, 0), ({"seed": None, "n": None, "stop": None}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "warnings"), DROPPED)
def test_what_is_harmless_is_dropped_with_a_warning(fields: dict[str, Any], warnings: int) -> None:
    body, told = encode(**fields)
    assert body == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    assert len(told) == warnings


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("us.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1%3A0"),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/ab12",
            "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fab12",
        ),
    ],
)
def test_the_model_is_escaped_in_the_path(model: str, path: str) -> None:
    request = read_chat_request(json.dumps({"messages": HELLO}).encode())
    assert DIALECT.encode("chat.completions", request, model, PROVIDER).path == f"/model/{path}/converse"


THINKING: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    (CLAUDE, {"reasoning_effort": "high"}, {"thinking": {"type": "enabled", "budget_tokens": 32000}}),
    (CLAUDE, {"reasoning_effort": "high", "max_tokens": 1024}, None),
    (CLAUDE, {"reasoning_effort": "high", "max_tokens": 1025}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
    (CLAUDE, {"reasoning_effort": "none"}, None),
    (CLAUDE, {"reasoning_effort": "low", "thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
    ("anthropic.claude-opus-4-7", {"reasoning_effort": "xhigh"}, {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}}),
    ("anthropic.claude-opus-9", {"reasoning_effort": "minimal"}, {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}}),
    ("anthropic.claude-3-haiku-20240307-v1:0", {"reasoning_effort": "low"}, None),
    ("us.amazon.nova-2-lite-v1:0", {"reasoning_effort": "medium"}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}),
    ("openai.gpt-oss-120b-1:0", {"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "extra"), THINKING)
def test_effort_in_the_words_of_the_model(model: str, fields: dict[str, Any], extra: dict[str, Any] | None) -> None:
    body, _ = encode(model, **fields)
    assert body.get("additionalModelRequestFields") == extra


def test_a_tool_turn_without_its_thoughts_is_not_thought_about() -> None:
    call = {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    result = {"role": "tool", "tool_call_id": "1", "content": "ok"}
    body, warnings = encode(CLAUDE, messages=[*HELLO, call, result], reasoning_effort="low")
    assert "additionalModelRequestFields" not in body
    assert warnings == ("reasoning_effort was dropped: the last tool calls came back without reasoning_details",)
    thought = {**call, "reasoning_details": [{"type": "reasoning.text", "text": "", "signature": "s"}]}
    assert (
        "additionalModelRequestFields" in encode(CLAUDE, messages=[*HELLO, thought, result], reasoning_effort="low")[0]
    )


ON_BOTH: list[dict[str, Any]] = [
    {"reasoning_effort": "high"},
    {"reasoning_effort": "low", "max_tokens": 3000},
    {"reasoning_effort": "high", "temperature": 0.2, "max_tokens": 9000},
    {"temperature": 1.7},
    {"temperature": 0.5, "top_p": 0.9, "top_k": 5},
    {"reasoning_effort": "none"},
    {"reasoning_effort": "low", "tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "tool_choice": "required"},
    {"thinking": {"type": "enabled", "budget_tokens": 2000}, "reasoning_effort": "low"},
    {"max_tokens": 5, "max_completion_tokens": 7},
    {"response_format": {"type": "json_object"}},
]


def asked_of_anthropic(name: str, fields: dict[str, Any]) -> EncodedRequest | InvalidRequest:
    request = read_chat_request(json.dumps({"messages": HELLO, **fields}).encode())
    try:
        return AnthropicMessages().encode("chat.completions", request, name, PROVIDER)
    except InvalidRequest as refusal:
        return refusal


@pytest.mark.parametrize("fields", ON_BOTH)
@pytest.mark.parametrize(
    "name", ["claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-5", "claude-opus-5-5", "claude-3-5-haiku-20241022"]
)
def test_claude_is_asked_alike_on_bedrock_and_on_its_own_api(name: str, fields: dict[str, Any]) -> None:
    own = asked_of_anthropic(name, fields)
    if isinstance(own, InvalidRequest):
        with pytest.raises(InvalidRequest) as caught:
            encode(f"us.anthropic.{name}-v1:0", **fields)
        assert (caught.value.param, caught.value.message) == (own.param, own.message)
        return
    body, warnings = encode(f"us.anthropic.{name}-v1:0", **fields)
    told, extra = body.get("inferenceConfig", {}), body.get("additionalModelRequestFields", {})
    asked = json.loads(own.body)
    sampled = {"temperature": told.get("temperature"), "top_p": told.get("topP"), "top_k": extra.get("top_k")}
    assert sampled == {sampling: asked.get(sampling) for sampling in sampled}
    assert (extra.get("thinking"), extra.get("output_config")) == (asked.get("thinking"), asked.get("output_config"))
    assert told.get("maxTokens", asked["max_tokens"]) == asked["max_tokens"]
    assert [part["text"] for part in body.get("system", ())] == [part["text"] for part in asked.get("system", ())]
    assert [each.split(":")[0] for each in warnings] == [each.split(":")[0] for each in own.warnings]


def test_an_empty_result_of_a_tool_is_an_empty_object() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]}
    empty: list[Any] = ["", " ", None, []]
    for content in empty:
        body, _ = encode(messages=[*HELLO, call, {"role": "tool", "tool_call_id": "1", "content": content}])
        assert body["messages"][2]["content"] == [{"toolResult": {"toolUseId": "1", "content": [{"json": {}}]}}]


def test_claude_does_not_compact() -> None:
    compacting = {"edits": [{"type": "compact_20260112"}]}
    asked: list[dict[str, Any]] = [
        {"context_management": compacting},
        {"additionalModelRequestFields": {"context_management": compacting}},
    ]
    for fields in asked:
        with pytest.raises(InvalidRequest) as refusal:
            encode(CLAUDE, **fields)
        assert refusal.value.param == "context_management.edits[0].type"
    clearing = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    body, _ = encode(CLAUDE, context_management=clearing)
    assert body["additionalModelRequestFields"] == {"context_management": clearing}


LONG = "call_" + "x" * 79
IDS = [
    (CLAUDE, "functions.f:0", "functions_f_0"),
    (KIMI, "functions.f:0", "functions.f:0"),
    (CLAUDE, "tooluse_Ab-1", "tooluse_Ab-1"),
    (NOVA, "ф id/1", "__id_1"),
    (NOVA, "x" * 64, "x" * 64),
]


@pytest.mark.parametrize(("model", "given", "sent"), IDS)
def test_ids_of_other_providers_are_made_to_fit(model: str, given: str, sent: str) -> None:
    assert sent_ids(model, given) == (sent, sent)


@pytest.mark.parametrize("model", [CLAUDE, NOVA])
def test_long_ids_are_cut_and_stay_apart(model: str) -> None:
    first, second = sent_ids(model, f"{LONG}a"), sent_ids(model, f"{LONG}b")
    assert first[0] == first[1] != second[0] == second[1]
    assert all(re.fullmatch("call_x{35}_[0-9a-f]{23}", each) for each in first + second)


def sent_ids(model: str, given: str) -> tuple[str, str]:
    """Of a call and of its result."""
    call = {"role": "assistant", "tool_calls": [{"id": given, "function": {"name": "f", "arguments": "{}"}}]}
    body, _ = encode(model, messages=[*HELLO, call, {"role": "tool", "tool_call_id": given, "content": "ok"}])
    _, called, result = (turn["content"][0] for turn in body["messages"])
    return called["toolUse"]["toolUseId"], result["toolResult"]["toolUseId"]


def test_documents_of_one_name_are_numbered() -> None:
    def document(name: str | None) -> dict[str, Any]:
        return {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": name}}

    names = ["invoice.pdf", "Invoice.pdf", "invoice 2.pdf", None, "document 4.pdf", "n" * 230, "n" * 230, "invoice.pdf"]
    turns = [{"role": "user", "content": [document(name)]} for name in names]
    body, _ = encode(messages=[turn for each in turns for turn in (each, {"role": "assistant", "content": "ok"})])
    found = [block["document"]["name"] for turn in body["messages"] for block in turn["content"] if "document" in block]
    assert found == [
        *("invoice", "Invoice 2", "invoice 2 2", "document 4", "document 4 2", "n" * 200, "n" * 198 + " 2"),
        "invoice 3",
    ]


def test_an_empty_stop_sequence_says_nothing() -> None:
    assert "inferenceConfig" not in encode(stop="")[0]
    assert encode(stop=["", "END"])[0]["inferenceConfig"] == {"stopSequences": ["END"]}


# -- embeddings ------------------------------------------------------------------------------------------------------

TITAN, COHERE, COHERE4 = "amazon.titan-embed-text-v2:0", "cohere.embed-multilingual-v3", "cohere.embed-v4:0"
EMBEDDED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("amazon.titan-embed-text-v1", {"input": "a", "user": "u"}, {"inputText": "a"}),
    (TITAN, {"input": ["a"], "dimensions": 256, "normalize": False}, {"inputText": "a", "dimensions": 256, "normalize": False}),
    (COHERE, {"input": ["a", "b"]}, {"texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"]}),
    (COHERE, {"input": "a", "input_type": "search_query", "truncate": "END"}, {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float"], "truncate": "END"}),
    (f"eu.{COHERE4}", {"input": "a", "dimensions": 512}, {"texts": ["a"], "input_type": "search_document", "embedding_types": ["float"], "output_dimension": 512}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "body"), EMBEDDED)
def test_embeddings_go_up(model: str, fields: dict[str, Any], body: dict[str, Any]) -> None:
    request = read_embeddings_request(json.dumps({"model": model, **fields}).encode())
    encoded = DIALECT.encode("embeddings", request, model, PROVIDER)
    assert encoded.path == f"/model/{model.replace(':', '%3A')}/invoke"
    assert json.loads(encoded.body) == body


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        (TITAN, {"input": ["a", "b"]}, "input"),
        (TITAN, {"input": [1, 2]}, "input"),
        (TITAN, {"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ("amazon.titan-embed-text-v1", {"input": "a", "dimensions": 256}, "dimensions"),
        (COHERE, {"input": "a", "dimensions": 256}, "dimensions"),
        (CLAUDE, {"input": "a"}, "model"),
    ],
)
def test_embeddings_that_are_refused(model: str, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        DIALECT.encode("embeddings", read_embeddings_request(json.dumps(fields).encode()), model, PROVIDER)
    assert refusal.value.param == param


ROWS = [[0.25, -0.5], [1.0, 0.125]]
TITAN_ANSWER = {"embedding": ROWS[0], "inputTextTokenCount": 5, "embeddingsByType": {"float": ROWS[0]}}


@pytest.mark.parametrize(
    ("model", "answer", "headers", "rows", "tokens"),
    [
        (TITAN, TITAN_ANSWER, None, ROWS[:1], 5),
        (COHERE, {"id": "1", "response_type": "embeddings_floats", "embeddings": ROWS, "texts": ["a", "b"]}, None, ROWS, None),
        (TITAN, {"embedding": ROWS[0]}, None, ROWS[:1], None),
        (COHERE4, {"id": "1", "response_type": "embeddings_by_type", "embeddings": {"float": ROWS}}, {"x-amzn-bedrock-input-token-count": "7"}, ROWS, 7),
    ],
)  # fmt: skip
def test_embeddings_come_down(
    model: str, answer: dict[str, Any], headers: dict[str, str] | None, rows: list[list[float]], tokens: int | None
) -> None:
    for encoding in ("float", "base64", None):
        request = read_embeddings_request(
            json.dumps({"input": ["Hello", "you"][: len(rows)], "encoding_format": encoding}).encode()
        )
        decoded = DIALECT.decode("embeddings", request, model, json.dumps(answer).encode(), headers)
        body = json.loads(decoded.body)
        found = [item["embedding"] for item in body["data"]]
        if encoding == "base64":
            found = [list(struct.unpack("<2f", base64.b64decode(text))) for text in found]
        assert found == rows
        assert [item["index"] for item in body["data"]] == list(range(len(rows)))
        assert (body["object"], body["model"]) == ("list", model)
        counted = Usage([2, 3][len(rows) - 1], estimated=True) if tokens is None else Usage(tokens)
        assert decoded.usage == counted
        assert body["usage"] == {"prompt_tokens": counted.input_tokens, "total_tokens": counted.input_tokens}


@pytest.mark.parametrize(
    "answer", [b"{}", b'{"embeddings":[]}', b'{"embedding":["x"]}', b'{"embedding":7}', b'{"embeddings":[[1.5],[2.5]]}']
)
def test_an_answer_without_an_embedding_for_each_input_is_malformed(answer: bytes) -> None:
    request = read_embeddings_request(b'{"input":"a","encoding_format":"base64"}')
    with pytest.raises(UpstreamMalformed):
        DIALECT.decode("embeddings", request, TITAN, answer)
