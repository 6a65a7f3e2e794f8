"""Specifies what a Gemini request refuses, warns of and picks by the model's facts; what the goldens leave out."""

from typing import Any

import orjson
import pytest

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent
from llm_gateway.dialects.gemini_schema import openapi_subset
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import read_chat_request

DIALECT = GeminiGenerateContent()
GEMINI = Provider("gemini", "gemini_generate_content", "https://g.example/v1beta")
VERTEX = Provider("google_vertex", "gemini_generate_content", "https://v.example", quirks=Quirks(envelope="vertex"))
HELLO = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def encode(
    model: str = "gemini-3.5-flash", provider: Provider = GEMINI, **fields: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = read_chat_request(orjson.dumps({"model": model, "messages": [HELLO], **fields}))
    encoded = DIALECT.encode("chat.completions", request, model, provider)
    body: dict[str, Any] = orjson.loads(encoded.body)
    return body, encoded.warnings


def user(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [part]}]


def image(url: str, **more: Any) -> list[dict[str, Any]]:
    return user(picture(url, **more))


def picture(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"audio": {"voice": "x", "format": "mp3"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0]"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"stop": 5}, "stop"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {}}]}}}, "tool_choice"),
        ({"messages": user({"text": "untyped"})}, "messages[0].content[0].type"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"reasoning": {"max_tokens": -1}}, "reasoning.max_tokens"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": user({"type": "hologram"})}, "messages[0].content[0].type"),
        ({"messages": image("http://img.example/a.png")}, "messages[0].content[0].image_url.url"),
        ({"messages": image("data:image/png,raw")}, "messages[0].content[0].image_url.url"),
        ({"messages": image("")}, "messages[0].content[0].image_url.url"),
        ({"messages": image("data:;base64,AAAA", format=["png"])}, "messages[0].content[0].image_url.format"),
        ({"messages": user({"type": "file", "file": {"file_data": "AAAA", "mime_type": 1}})}, "messages[0].content[0].file.mime_type"),
        ({"messages": user({"type": "input_audio", "input_audio": {}})}, "messages[0].content[0].input_audio.data"),
        ({"messages": user({"type": "file", "file": {"file_id": "file-1"}})}, "messages[0].content[0].file"),
        ({"messages": [HELLO, {"role": "tool", "tool_call_id": "c9", "content": "x"}]}, "messages[1].tool_call_id"),
        (
            {"messages": [HELLO, {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "[1]"}}]}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [HELLO, {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_what_gemini_cannot_be_told_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(**fields)
    assert caught.value.param == param


def test_an_older_model_fetches_no_urls_but_reads_what_google_holds() -> None:
    with pytest.raises(InvalidRequest, match="data URI"):
        encode("gemini-2.0-flash", messages=image("https://img.example/a.png"))
    body, _ = encode("gemini-2.0-flash", messages=image("gs://bucket/a.png"))
    assert body["contents"][0]["parts"] == [{"fileData": {"fileUri": "gs://bucket/a.png", "mimeType": "image/png"}}]


def test_vertex_must_know_the_type_behind_a_url() -> None:
    with pytest.raises(InvalidRequest, match="format"):
        encode(provider=VERTEX, messages=image("https://img.example/signed"))
    body, _ = encode(provider=VERTEX, messages=image("https://img.example/signed", format="image/webp"))
    assert body["contents"][0]["parts"][0]["fileData"]["mimeType"] == "image/webp"


@pytest.mark.parametrize(
    ("model", "fields", "config", "warned"),
    [
        ("gemini-3.5-flash", {}, None, False),
        ("gemini-3.5-flash", {"reasoning_effort": "minimal"}, {"thinkingLevel": "MINIMAL", "includeThoughts": True}, False),
        ("gemini-3.1-pro-preview", {"reasoning_effort": "minimal"}, {"thinkingLevel": "LOW", "includeThoughts": True}, False),
        ("gemini-3-pro-preview", {"reasoning_effort": "medium"}, {"thinkingLevel": "HIGH", "includeThoughts": True}, False),
        ("gemini-3.8-flash", {"reasoning_effort": "xhigh"}, {"thinkingLevel": "HIGH", "includeThoughts": True}, False),
        ("gemini-3.8-flash", {"reasoning_effort": "none"}, {"thinkingLevel": "LOW", "includeThoughts": False}, True),
        ("gemini-3.8-flash", {"reasoning": {"max_tokens": 3000}}, {"thinkingLevel": "MEDIUM", "includeThoughts": True}, True),
        ("gemini-3.8-flash", {"reasoning": {"effort": "low", "exclude": True}}, {"thinkingLevel": "LOW", "includeThoughts": False}, False),
        ("gemini-3.8-flash", {"reasoning": {"enabled": True}}, {"includeThoughts": True}, False),
        ("gemini-2.5-flash", {"reasoning_effort": "medium"}, {"thinkingBudget": 8192, "includeThoughts": True}, False),
        ("gemini-2.5-flash", {"reasoning": {"max_tokens": 99999}}, {"thinkingBudget": 24576, "includeThoughts": True}, False),
        ("gemini-2.5-flash-lite", {"reasoning": {"max_tokens": 100}}, {"thinkingBudget": 512, "includeThoughts": True}, False),
        ("gemini-2.5-flash-lite", {"reasoning_effort": "low", "max_tokens": 600}, {"thinkingBudget": 0}, True),
        ("gemini-2.5-flash-lite", {"reasoning_effort": "low", "max_tokens": 1000}, {"thinkingBudget": 800, "includeThoughts": True}, False),
        ("gemini-2.5-pro", {"reasoning_effort": "high", "max_tokens": 100}, {"thinkingBudget": 128, "includeThoughts": True}, True),
        ("gemini-2.5-flash", {"reasoning": {"max_tokens": 900}, "max_tokens": 1000}, {"thinkingBudget": 800, "includeThoughts": True}, False),
        ("gemini-2.5-pro", {"reasoning_effort": "none"}, {"thinkingBudget": 128, "includeThoughts": True}, True),
        ("gemini-2.0-flash", {"reasoning_effort": "none"}, None, False),
        ("gemini-2.5-pro", {"extra_body": {"google": {"thinking_config": {"thinking_budget": -1, "include_thoughts": True}}}},
         {"thinkingBudget": -1, "includeThoughts": True}, False),
    ],
)  # fmt: skip
def test_thinking_is_a_level_or_a_budget_by_the_model(
    model: str, fields: dict[str, Any], config: dict[str, Any] | None, warned: bool
) -> None:
    body, warnings = encode(model, **fields)
    assert body.get("generationConfig", {}).get("thinkingConfig") == config
    assert bool(warnings) is warned


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}},
         {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}},
         {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)  # fmt: skip
def test_tool_choices(choice: Any, config: dict[str, Any]) -> None:
    body, _ = encode(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice=choice)
    assert body["toolConfig"]["functionCallingConfig"] == config


def test_a_system_message_alone_is_what_there_is_to_answer() -> None:
    body, _ = encode(messages=[{"role": "system", "content": "Say hi"}])
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Say hi"}]}]}


def answered_with(*content: dict[str, Any]) -> list[dict[str, Any]]:
    """A conversation whose tool has answered with these parts."""
    return [
        HELLO,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "see"}, *content]},
    ]


PIXEL = picture("data:image/png;base64,AAAA")


@pytest.mark.parametrize(
    "model", ["gemini-3-flash-preview", "gemini-3.5-flash", "gemini-2.5-computer-use-preview-10-2025"]
)
def test_an_image_in_a_tools_result_goes_beside_it(model: str) -> None:
    body, _ = encode(model, messages=answered_with(PIXEL))
    assert body["contents"][2]["parts"][0]["functionResponse"] == {
        "name": "f",
        "response": {"output": "see"},
        "id": "c1",
        "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}],
    }


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.0-flash"])
@pytest.mark.parametrize("provider", [GEMINI, VERTEX])
def test_a_model_that_takes_no_images_in_results_is_not_asked(model: str, provider: Provider) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(model, provider, messages=answered_with(PIXEL))
    assert (caught.value.http_status, caught.value.param) == (400, "messages[2].content[1]")
    assert caught.value.error_code == "unsupported_content"
    assert model in caught.value.message
    body, _ = encode(model, provider, messages=answered_with())
    assert "parts" not in body["contents"][2]["parts"][0]["functionResponse"]


@pytest.mark.parametrize("url", ["https://img.example/a.png", "gs://bucket/a.png"])
def test_vertex_alone_takes_urls_in_a_tools_result(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(messages=answered_with(picture(url)))
    assert (caught.value.http_status, caught.value.param) == (400, "messages[2].content[1].image_url.url")
    body, _ = encode(provider=VERTEX, messages=answered_with(picture(url)))
    assert body["contents"][2]["parts"][0]["functionResponse"]["parts"] == [
        {"fileData": {"fileUri": url, "mimeType": "image/png"}}
    ]


def test_only_models_that_insist_on_a_signature_get_one_that_stands_for_it() -> None:
    assert "thoughtSignature" not in encode("gemini-2.5-flash", messages=answered_with())[0]["contents"][1]["parts"][0]
    assert "thoughtSignature" in encode(messages=answered_with())[0]["contents"][1]["parts"][0]


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (picture("data:image/jpg;base64,AAAA"), "image/jpeg"),
        (picture("data:image/JPG;base64,AAAA"), "image/jpeg"),
        (picture("data:image/jpeg;base64,AAAA"), "image/jpeg"),
        (picture("data:;base64,AAAA", format="image/jpg"), "image/jpeg"),
        (picture("data:;base64,AAAA", mime_type="image/jpg"), "image/jpeg"),
        (picture("https://img.example/a", format="image/jpg"), "image/jpeg"),
        ({"type": "file", "file": {"file_data": "AAAA", "format": "image/jpg"}}, "image/jpeg"),
        ({"type": "file", "file": {"file_data": "data:image/jpg;base64,AAAA"}}, "image/jpeg"),
        (picture("data:image/webp;base64,AAAA"), "image/webp"),
    ],
)
def test_a_jpeg_by_whatever_name_goes_by_its_registered_one(part: dict[str, Any], kind: str) -> None:
    body, _ = encode(messages=user(part))
    (sent,) = body["contents"][0]["parts"]
    assert (sent.get("inlineData") or sent["fileData"])["mimeType"] == kind


def test_what_gemini_does_not_know_is_left_out_with_a_warning_and_nulls_without() -> None:
    body, warnings = encode(verbosity="low", metadata={"a": "b"}, store=True, prediction=None, logit_bias=None)
    assert warnings == tuple(
        f"{name} was dropped: Gemini has no such parameter" for name in ("verbosity", "metadata", "store")
    )
    assert body.keys() == {"contents"}


@pytest.mark.parametrize(
    ("tier", "sent", "warned"),
    [("flex", "flex", 0), ("default", "standard", 0), ("auto", None, 0), ("scale", None, 1), ({}, None, 1)],
)
def test_service_tiers(tier: Any, sent: str | None, warned: int) -> None:
    body, warnings = encode(service_tier=tier)
    assert (body.get("serviceTier"), len(warnings)) == (sent, warned)


@pytest.mark.parametrize(
    ("tier", "header", "warned"),
    [
        ("flex", "flex", 0),
        ("priority", "priority", 0),
        ("default", None, 0),
        ("standard", None, 0),
        ("auto", None, 0),
        (None, None, 0),
        ("scale", None, 1),
    ],
)
def test_vertex_is_told_the_service_tier_in_a_header_alone(tier: Any, header: str | None, warned: int) -> None:
    request = read_chat_request(orjson.dumps({"model": "m", "messages": [HELLO], "service_tier": tier}))
    encoded = DIALECT.encode("chat.completions", request, "gemini-3.5-flash", VERTEX)
    assert b"tier" not in encoded.body.lower()
    assert dict(encoded.headers) == ({"X-Vertex-AI-LLM-Shared-Request-Type": header} if header else {})
    assert len(encoded.warnings) == warned
    assert not DIALECT.encode("chat.completions", request, "gemini-3.5-flash", GEMINI).headers


def test_the_models_name_is_escaped_in_the_path() -> None:
    request = read_chat_request(orjson.dumps({"model": "x", "messages": [HELLO]}))
    assert (
        DIALECT.encode("chat.completions", request, "models/a b/../c", GEMINI).path
        == "/models/a%20b%2F..%2Fc:generateContent"
    )


@pytest.mark.parametrize(
    ("schema", "converted"),
    [
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"type": ["string", "integer", "null"]}, {"nullable": True, "anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"enum": ["a", None]}, {"enum": ["a"], "nullable": True, "type": "string"}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer"}),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}, "description": "d"}, {"type": "string", "description": "d"}),
    ],
)  # fmt: skip
def test_json_schema_as_openapis_subset(schema: dict[str, Any], converted: dict[str, Any]) -> None:
    assert openapi_subset(schema) == converted


@pytest.mark.parametrize("reference", ["#", "#/$defs/none", "https://schemas.example/x"])
def test_a_reference_that_cannot_be_put_in_its_place_is_refused(reference: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"$ref": reference}}}}}
    with pytest.raises(InvalidRequest) as caught:
        encode("gemini-2.0-flash", tools=[tool])
    assert caught.value.param == "tools[0].function.parameters"


@pytest.mark.parametrize("vendor", ["nobody", "../gemini", ""])
def test_of_a_vendor_that_is_not_known_nothing_is_said(vendor: str) -> None:
    assert capability(vendor, "gemini-2.5-pro") == {}
