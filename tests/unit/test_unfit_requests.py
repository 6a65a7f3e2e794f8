"""Specifies what is refused of a model before its provider is called: only what its documentation says it would reject."""

import json
from typing import Any

import pytest

from llm_gateway.dialects.anthropic_messages import AnthropicMessages
from llm_gateway.dialects.bedrock_converse import BedrockConverse
from llm_gateway.dialects.dialect import Dialect
from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent
from llm_gateway.dialects.openai_chat import OpenAIChat
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import read_chat_request

ANTHROPIC: tuple[Dialect, Provider] = (AnthropicMessages(), Provider("anthropic", "anthropic_messages", "https://a"))
BEDROCK: tuple[Dialect, Provider] = (BedrockConverse(), Provider("bedrock", "bedrock_converse", "https://b", "sigv4"))
GEMINI: tuple[Dialect, Provider] = (GeminiGenerateContent(), Provider("gemini", "gemini_generate_content", "https://g"))
OPENAI: tuple[Dialect, Provider] = (OpenAIChat(), Provider("deepseek", "openai_chat", "https://o", quirks=Quirks()))

TOOLS = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]}
SCHEMA = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
    }
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
DOCUMENT = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}


def encode(wire: tuple[Dialect, Provider], model: str, *parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": "What is it?"}, *parts]
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    asked = {"model": model, "messages": [*history, {"role": "user", "content": content}], **fields}
    dialect, provider = wire
    encoded = dialect.encode("chat.completions", read_chat_request(json.dumps(asked).encode()), model, provider)
    body: dict[str, Any] = json.loads(encoded.body)
    return body


@pytest.mark.parametrize(
    ("wire", "model", "parts", "fields", "param", "what"),
    [
        (BEDROCK, "us.amazon.nova-micro-v1:0", [IMAGE], {}, "messages[2].content[1]", "images"),
        (BEDROCK, "amazon.nova-micro-v1:0", [DOCUMENT], {}, "messages[2].content[1]", "documents"),
        (BEDROCK, "amazon.titan-text-express-v1", [], TOOLS, "tools", "tools"),
        (BEDROCK, "ai21.jamba-1-5-large-v1:0", [IMAGE], {}, "messages[2].content[1]", "images"),
        (ANTHROPIC, "claude-2.1", [IMAGE], {}, "messages[2].content[1]", "images"),
        (ANTHROPIC, "claude-instant-1.2", [], TOOLS, "tools", "tools"),
        (GEMINI, "gemini-2.5-flash-preview-tts", [IMAGE], {}, "messages[2].content[1]", "images"),
        (ANTHROPIC, "claude-3-haiku-20240307", [], SCHEMA, "response_format", "schema"),
    ],
)
def test_what_a_model_is_known_not_to_take_is_a_clear_400(
    wire: tuple[Dialect, Provider],
    model: str,
    parts: list[dict[str, Any]],
    fields: dict[str, Any],
    param: str,
    what: str,
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(wire, model, *parts, **fields)
    assert (caught.value.http_status, caught.value.error_type, caught.value.param) == (
        400,
        "invalid_request_error",
        param,
    )
    assert what in caught.value.message


@pytest.mark.parametrize(
    ("wire", "model"),
    [
        (BEDROCK, "acme.model-of-tomorrow-v1:0"),
        (BEDROCK, "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"),
        (BEDROCK, "us.amazon.nova-lite-v1:0"),
        (ANTHROPIC, "claude-of-tomorrow"),
        (ANTHROPIC, "acme-model"),
        (GEMINI, "gemini-of-tomorrow"),
        (OPENAI, "deepseek-chat"),
        (OPENAI, "a-text-model"),
    ],
)
def test_of_an_unknown_model_nothing_is_refused(wire: tuple[Dialect, Provider], model: str) -> None:
    body = json.dumps(encode(wire, model, IMAGE, DOCUMENT, **TOOLS, **SCHEMA))
    assert "iVBORw0KGgo=" in body
    assert "JVBERi0=" in body
    assert '"f"' in body


def test_tools_that_do_not_go_up_are_not_refused() -> None:
    body = encode(BEDROCK, "amazon.titan-text-express-v1", tool_choice="none", **TOOLS)
    assert "toolConfig" not in body


def test_what_a_model_takes_beside_what_it_does_not_is_taken() -> None:
    assert "toolConfig" in encode(BEDROCK, "amazon.nova-micro-v1:0", **TOOLS)
    assert "document" in json.dumps(encode(BEDROCK, "ai21.jamba-1-5-mini-v1:0", DOCUMENT))
