"""What providers send, chunk for chunk: the shapes of their documentation with every field that they send today.

Sources: https://platform.openai.com/docs/api-reference/chat-streaming,
https://platform.claude.com/docs/en/build-with-claude/streaming,
https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse (white space and CRLF as Google's printer has them),
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html (`p` is padding)
"""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from llm_gateway.dialects.dialect import Framing
from llm_gateway.domain.catalog import Dialect as DialectName
from tests.fakes.bedrock_upstream import message

WORDS = (" the", " gateway", " forwards", " every", " chunk", " as", " it", " came", ",", ' "quoted"', " naïve", ".\n")
PIECES = ('{"', "city", '":', ' "', "San", " Francisco", '",', ' "unit', '":', ' "celsius', '"', "}")
ARGUMENTS = {"city": "San Francisco, CA", "unit": "celsius", "days": 3}
"""Strings, an integer: what a model passes to a tool."""


class Wire(NamedTuple):
    """A dialect's stream. `opening` makes the translator ready for a text chunk, `call` for a tool's arguments."""

    dialect: DialectName
    model: str
    framing: Framing
    opening: bytes
    call: bytes
    text: Callable[[int], bytes]
    """The nth chunk of text."""
    arguments: Callable[[int], bytes]
    """The nth chunk of a tool's arguments; of Gemini, which does not cut them, the nth call."""
    answer: bytes
    """A buffered answer of two sentences and one tool call."""
    envelope: Literal["native", "bedrock"] = "native"


def word(number: int) -> str:
    return WORDS[number % len(WORDS)]


def piece(number: int) -> str:
    return PIECES[number % len(PIECES)]


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# -- OpenAI

_ANSWER = "It will be sunny in San Francisco for the next three days. I am looking up the details."
_NAMED = {"id": "chatcmpl-CTEHbOWuP5pJ9mUqK1nK2aTnG8JqD", "object": "chat.completion.chunk", "created": 1761133213,
          "model": "gpt-4.1-mini-2025-04-14", "service_tier": "default", "system_fingerprint": "fp_4c2851f862"}  # fmt: skip


def _openai(delta: Mapping[str, Any]) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return b"data: " + _compact({**_NAMED, "choices": [choice], "usage": None, "obfuscation": "kXq2Vn"}) + b"\n\n"


def _openai_text(number: int) -> bytes:
    return _openai({"content": word(number)})


def _openai_arguments(number: int) -> bytes:
    return _openai({"tool_calls": [{"index": 0, "function": {"arguments": piece(number)}}]})


_OPENAI_CALL = {"index": 0, "id": "call_DdmO9pD3xa9XTPNJ32zg2hcA", "type": "function",
                "function": {"name": "get_weather", "arguments": ""}}  # fmt: skip
OPENAI = Wire(
    "openai_chat",
    "gpt-4.1-mini",
    "sse",
    _openai({"role": "assistant", "content": "", "refusal": None}) + _openai({"content": "It"}),
    _openai({"tool_calls": [_OPENAI_CALL]}),
    _openai_text,
    _openai_arguments,
    _compact(
        {
            **_NAMED,
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": _ANSWER,
                        "refusal": None,
                        "annotations": [],
                        "tool_calls": [
                            {
                                "id": "call_DdmO9pD3xa9XTPNJ32zg2hcA",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": json.dumps(ARGUMENTS)},
                            }
                        ],
                    },
                    "logprobs": None,
                    "finish_reason": "tool_calls",
                }
            ],
            "usage": {
                "prompt_tokens": 212,
                "completion_tokens": 41,
                "total_tokens": 253,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
        }
    ),
)
OPENAI_CRLF = OPENAI._replace(
    text=lambda number: _openai_text(number)[:-2] + b"\r\n\r\n",
    arguments=lambda number: _openai_arguments(number)[:-2] + b"\r\n\r\n",
)
"""The same from a server that ends its lines so: its events are read one by one."""

# -- Anthropic

_CLAUDE_USAGE = {"input_tokens": 212, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 41,
                 "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                 "service_tier": "standard"}  # fmt: skip
_CLAUDE = {"id": "msg_01Aq9w938a90dw8q", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929"}
_CLAUDE_CALL = {"type": "tool_use", "id": "toolu_01T1x1fJ34qAmk2tNTrN7Up6", "name": "get_weather"}


def _claude_event(event: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _compact(event))


def _claude_wrapped(event: Mapping[str, Any]) -> bytes:
    """Of Claude on Bedrock: base64 in a message of its event stream."""
    return message("chunk", {"bytes": b64encode(_compact(event)).decode(), "p": "abcdefghijklmnopqrstuvwx"})


def _claude(
    framing: Framing, framed: Callable[[Mapping[str, Any]], bytes], envelope: Literal["native", "bedrock"]
) -> Wire:
    def delta(index: int, **said: str) -> bytes:
        return framed({"type": "content_block_delta", "index": index, "delta": said})

    started = {
        "type": "message_start",
        "message": {**_CLAUDE, "content": [], "stop_reason": None, "usage": _CLAUDE_USAGE},
    }
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    call = {"type": "content_block_start", "index": 1, "content_block": {**_CLAUDE_CALL, "input": {}}}
    return Wire(
        "anthropic_messages",
        "claude-sonnet-4-5",
        framing,
        framed(started) + framed(block) + framed({"type": "ping"}) + delta(0, type="text_delta", text="It"),
        framed({"type": "content_block_stop", "index": 0}) + framed(call),
        lambda number: delta(0, type="text_delta", text=word(number)),
        lambda number: delta(1, type="input_json_delta", partial_json=piece(number)),
        _compact(
            {
                **_CLAUDE,
                "content": [{"type": "text", "text": _ANSWER}, {**_CLAUDE_CALL, "input": ARGUMENTS}],
                "stop_reason": "tool_use",
                "stop_sequence": None,
                "usage": _CLAUDE_USAGE,
            }
        ),
        envelope,
    )


ANTHROPIC = _claude("sse", _claude_event, "native")
ANTHROPIC_ON_BEDROCK = _claude("aws_event_stream", _claude_wrapped, "bedrock")

# -- Gemini

_GEMINI_NAMED = {"modelVersion": "gemini-2.5-flash", "responseId": "mYqgaP3ALZ-3kdUPwN2r0Ag"}


def _gemini(part: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}],
        "usageMetadata": {
            "promptTokenCount": 212,
            "candidatesTokenCount": number + 1,
            "totalTokenCount": 213 + number,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 212}],
        },
        **_GEMINI_NAMED,
    }


def _gemini_event(answer: Mapping[str, Any]) -> bytes:
    return b"data: %b\r\n\r\n" % json.dumps(answer, ensure_ascii=False, separators=(",", ": ")).encode()


_GEMINI_CALL = {"functionCall": {"name": "get_weather", "args": ARGUMENTS}}
GEMINI = Wire(
    "gemini_generate_content",
    "gemini-2.5-flash",
    "sse",
    _gemini_event(_gemini({"text": "It"}, 0)),
    b"",
    lambda number: _gemini_event(_gemini({"text": word(number)}, number)),
    lambda number: _gemini_event(_gemini(_GEMINI_CALL, number)),
    json.dumps(
        {
            **_gemini({"text": _ANSWER}, 40),
            "candidates": [
                {
                    "content": {"parts": [{"text": _ANSWER}, _GEMINI_CALL], "role": "model"},
                    "finishReason": "STOP",
                    "index": 0,
                }
            ],
        },
        indent=2,
    ).encode(),
)

# -- Converse


def _converse(index: int, delta: Mapping[str, Any], number: int) -> bytes:
    padding = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[: number % 45 + 1]
    return message("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": padding})


_CONVERSE_CALL = {"toolUseId": "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", "name": "get_weather"}
BEDROCK = Wire(
    "bedrock_converse",
    "us.amazon.nova-pro-v1:0",
    "aws_event_stream",
    message("messageStart", {"role": "assistant", "p": "abcd"}) + _converse(0, {"text": "It"}, 3),
    message("contentBlockStop", {"contentBlockIndex": 0, "p": "ab"})
    + message("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": _CONVERSE_CALL}, "p": "abc"}),
    lambda number: _converse(0, {"text": word(number)}, number),
    lambda number: _converse(1, {"toolUse": {"input": piece(number)}}, number),
    _compact(
        {
            "metrics": {"latencyMs": 1204},
            "output": {
                "message": {
                    "content": [{"text": _ANSWER}, {"toolUse": {**_CONVERSE_CALL, "input": ARGUMENTS}}],
                    "role": "assistant",
                }
            },
            "stopReason": "tool_use",
            "usage": {"inputTokens": 212, "outputTokens": 41, "totalTokens": 253},
        }
    ),
)
