"""One answer in every provider's wire, event by event: for tests of what holds for all of them alike."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from llm_gateway.dialects.anthropic_messages import AnthropicMessages
from llm_gateway.dialects.bedrock_converse import BedrockConverse
from llm_gateway.dialects.dialect import Dialect, Framing, StreamTranslator
from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent
from llm_gateway.dialects.openai_chat import OpenAIChat
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request
from llm_gateway.upstream.framings import FRAMINGS
from tests.fakes.bedrock_upstream import message

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        OpenAIChat(),
        AnthropicMessages(now=lambda: 7.0),
        GeminiGenerateContent(now=lambda: 7.0, new_id=lambda: "made-up"),
        BedrockConverse(now=lambda: 7.0, new_id=lambda: "made-up"),
    )
}
REQUEST = read_chat_request(
    b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}'
)
Event = Mapping[str, Any]


def sse(event: Event) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


class Wire(NamedTuple):
    """`start` and `end` stand before and behind the texts; `end` is the finish reason, then what may follow it."""

    dialect: str
    framing: Framing
    start: Sequence[bytes]
    text: Callable[[str], bytes]
    end: Sequence[bytes]
    call: bytes
    """A tool call."""
    malformed: bytes
    """An event whose data is no JSON."""

    def translator(self, request: ModelRequest = REQUEST) -> StreamTranslator:
        return DIALECTS[self.dialect].translator(request, "m", FRAMINGS[self.framing].split_events)

    def stream(self, *texts: str) -> list[bytes]:
        return [*self.start, *map(self.text, texts), *self.end]


def _chunk(delta: Event, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return sse({"id": "chatcmpl-1", "created": 7, "model": "gpt", "choices": [choice]})


OPENAI = Wire(
    "openai_chat",
    "sse",
    [_chunk({"role": "assistant", "content": ""})],
    lambda text: _chunk({"content": text}),
    [
        _chunk({}, "stop"),
        sse({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}}),
        b"data: [DONE]\n\n",
    ],
    _chunk({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
    b"data: {oops}\n\n",
)


def _claude(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\n".encode() + sse({"type": kind, **members})


_COUNTED = {"input_tokens": 5, "output_tokens": 1}
ANTHROPIC = Wire(
    "anthropic_messages",
    "sse",
    [
        _claude("message_start", message={"id": "msg_1", "model": "claude", "usage": _COUNTED}),
        _claude("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ],
    lambda text: _claude("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
    [
        _claude("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}),
        _claude("message_stop"),
    ],
    _claude("content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "f", "input": {}}),
    b"event: content_block_delta\ndata: {oops}\n\n",
)


def _gemini(part: Event, **members: Any) -> bytes:
    candidate = {"content": {"role": "model", "parts": [part]}, "index": 0, **members}
    counts = {"promptTokenCount": 5, "candidatesTokenCount": 3}
    return sse({"candidates": [candidate], "usageMetadata": counts, "modelVersion": "gemini", "responseId": "r"})


GEMINI = Wire(
    "gemini_generate_content",
    "sse",
    [],
    lambda text: _gemini({"text": text}),
    [_gemini({"text": ""}, finishReason="STOP")],
    _gemini({"functionCall": {"name": "f", "args": {}}}),
    b"data: {oops}\n\n",
)

BEDROCK = Wire(
    "bedrock_converse",
    "aws_event_stream",
    [message("messageStart", {"role": "assistant"})],
    lambda text: message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}),
    [
        message("messageStop", {"stopReason": "end_turn"}),
        message("metadata", {"usage": {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}}),
    ],
    message("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
    message("contentBlockDelta", b"{oops}"),
)

WIRES = [OPENAI, ANTHROPIC, GEMINI, BEDROCK]
NAMES = [wire.dialect for wire in WIRES]


def content_of(chunks: bytes) -> str:
    """The text of a stream of chunks."""
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks_of(chunks) for choice in chunk.get("choices", ())
    )


def chunks_of(stream: bytes) -> list[dict[str, Any]]:
    datas = [line.removeprefix(b"data:").strip() for line in stream.splitlines() if line.startswith(b"data:")]
    return [json.loads(data) for data in datas if data != b"[DONE]"]
