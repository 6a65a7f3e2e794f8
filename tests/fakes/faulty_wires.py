"""What each wire's provider says, well-formed, in the pieces that a faulty one breaks: answers, events, refusals.

Sources: https://platform.openai.com/docs/api-reference/chat, https://platform.claude.com/docs/en/build-with-claude/streaming,
https://ai.google.dev/api/generate-content,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from llm_gateway.upstream.aws_event_stream import MAX_PAYLOAD
from llm_gateway.upstream.framing import MAX_EVENT
from tests.fakes.bedrock_upstream import message
from tests.fakes.faulty_upstream import Seen

TEXT = "One day the river rose higher than anyone in the old mill town could remember."
INPUT_TOKENS = 20
"""What every provider counts for every prompt; of output it counts the words."""


def words_of(text: str) -> list[str]:
    """The words, each but the first with the space before it."""
    found = [f" {word}" for word in text.split()]
    return [found[0].lstrip() if not text.startswith(" ") else found[0], *found[1:]] if found else []


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class Wire(ABC):
    """One dialect. `model` is what the answer calls itself."""

    dialect: str
    prefix: str
    """Of a base URL, behind the host."""
    stream_type = "text/event-stream; charset=utf-8"
    largest_event = MAX_EVENT
    """Bytes that the gateway reads of one event at most."""
    terminator = b""
    """The event that ends a stream and says nothing else; empty where the wire has none."""

    @abstractmethod
    def wants_stream(self, seen: Seen) -> bool: ...

    @abstractmethod
    def prefill(self, seen: Seen) -> str:
        """The text of the answer that the request begins itself; empty where it does not."""
        ...

    @abstractmethod
    def whole(self, text: str, model: str) -> bytes: ...

    @abstractmethod
    def opening(self, model: str) -> Sequence[bytes]:
        """Events before any content."""
        ...

    @abstractmethod
    def word(self, text: str, model: str, padding: int = 0) -> bytes:
        """An event of content, made longer by a member that nobody knows."""
        ...

    @abstractmethod
    def finish(self, words: int, model: str) -> Sequence[bytes]:
        """From the finish reason on, usage included; without the terminator."""
        ...

    @abstractmethod
    def malformed(self) -> bytes:
        """An event in the wire's framing whose data makes no sense."""
        ...

    @abstractmethod
    def error_event(self) -> bytes:
        """A failure of the provider inside a stream."""
        ...

    @abstractmethod
    def refusal(self, status: int, text: str = "The provider says no.") -> Refusal: ...

    @abstractmethod
    def too_long(self) -> Refusal:
        """The prompt does not fit the model's context."""
        ...

    @abstractmethod
    def blocked(self) -> Refusal:
        """The prompt is against the provider's policy."""
        ...

    def garbage(self) -> bytes:
        """What stands behind a stream's end, and should not."""
        return b"data: {oops\n\n"

    def comment(self) -> bytes:
        """Bytes that keep a connection alive and say nothing; empty where the wire has none."""
        return b": ping\n\n"

    def events(self, text: str, model: str) -> list[bytes]:
        words = words_of(text)
        said = [self.word(each, model) for each in words]
        end = [self.terminator] if self.terminator else []
        return [*self.opening(model), *said, *self.finish(len(words), model), *end]


def _sse(event: Any, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(event) + b"\n\n"


class OpenAIWire(Wire):
    dialect = "openai_chat"
    prefix = "/v1"
    terminator = b"data: [DONE]\n\n"

    def wants_stream(self, seen: Seen) -> bool:
        return bool(seen.json.get("stream"))

    def prefill(self, seen: Seen) -> str:
        last = seen.json["messages"][-1]
        return str(last["content"]) if last["role"] == "assistant" else ""

    def whole(self, text: str, model: str) -> bytes:
        said = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}
        head = {"id": f"chatcmpl-{model}", "object": "chat.completion", "created": 1_700_000_000, "model": model}
        return orjson.dumps({**head, "choices": [choice], "usage": _openai_usage(len(words_of(text)))})

    def opening(self, model: str) -> Sequence[bytes]:
        return [self._chunk(model, {"role": "assistant", "content": ""})]

    def word(self, text: str, model: str, padding: int = 0) -> bytes:
        return self._chunk(model, {"content": text}, **({"padding": "x" * padding} if padding else {}))

    def finish(self, words: int, model: str) -> Sequence[bytes]:
        return [
            self._chunk(model, {}, finish="stop"),
            self._chunk(model, None, usage=_openai_usage(words)),
        ]

    def malformed(self) -> bytes:
        return b"data: {oops}\n\n"

    def error_event(self) -> bytes:
        return _sse({"error": {"message": "The server had an error.", "type": "server_error", "code": "server_error"}})

    def refusal(self, status: int, text: str = "The provider says no.") -> Refusal:
        kind = {429: "rate_limit_error", 401: "authentication_error"}.get(status, "server_error")
        kind = "invalid_request_error" if status in (400, 422) else kind
        return Refusal(status, _openai_error(text, kind, None))

    def too_long(self) -> Refusal:
        text = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
        return Refusal(400, _openai_error(text, "invalid_request_error", "context_length_exceeded"))

    def blocked(self) -> Refusal:
        return Refusal(
            400, _openai_error("Blocked by our policy.", "invalid_request_error", "content_policy_violation")
        )

    def _chunk(self, model: str, delta: Mapping[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        head = {"id": f"chatcmpl-{model}", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model}
        return _sse({**head, "choices": choices, **more})


def _openai_usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": INPUT_TOKENS, "completion_tokens": words, "total_tokens": INPUT_TOKENS + words}


def _openai_error(text: str, kind: str, code: str | None) -> bytes:
    return orjson.dumps({"error": {"message": text, "type": kind, "param": None, "code": code}})


class AnthropicWire(Wire):
    dialect = "anthropic_messages"
    prefix = "/v1"
    terminator = _sse({"type": "message_stop"}, "message_stop")

    def wants_stream(self, seen: Seen) -> bool:
        return bool(seen.json.get("stream"))

    def prefill(self, seen: Seen) -> str:
        last = seen.json["messages"][-1]
        return _joined(last["content"]) if last["role"] == "assistant" else ""

    def whole(self, text: str, model: str) -> bytes:
        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": len(words_of(text))}
        said = {**self._message(model), "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
        return orjson.dumps({**said, "usage": usage})

    def opening(self, model: str) -> Sequence[bytes]:
        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": 1}
        begun = {"type": "message_start", "message": {**self._message(model), "usage": usage}}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return [_sse(begun, "message_start"), _sse({"type": "ping"}, "ping"), _sse(block, "content_block_start")]

    def word(self, text: str, model: str, padding: int = 0) -> bytes:
        event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        return _sse({**event, **({"padding": "x" * padding} if padding else {})}, "content_block_delta")

    def finish(self, words: int, model: str) -> Sequence[bytes]:
        stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
        return [
            _sse({"type": "content_block_stop", "index": 0}, "content_block_stop"),
            _sse({**stop, "usage": {"output_tokens": words}}, "message_delta"),
        ]

    def malformed(self) -> bytes:
        return b"event: content_block_delta\ndata: {oops}\n\n"

    def error_event(self) -> bytes:
        return _sse({"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}, "error")

    def refusal(self, status: int, text: str = "The provider says no.") -> Refusal:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
        kinds |= {529: "overloaded_error", 504: "timeout_error", 409: "conflict_error"}
        return Refusal(status, _anthropic_error(kinds.get(status, "api_error"), text))

    def too_long(self) -> Refusal:
        text = "prompt is too long: 210000 tokens > 200000 maximum"
        return Refusal(400, _anthropic_error("invalid_request_error", text))

    def blocked(self) -> Refusal:
        return Refusal(400, _anthropic_error("invalid_request_error", "Output blocked by content filtering policy"))

    def _message(self, model: str) -> dict[str, Any]:
        named = {"id": f"msg_{model}", "type": "message", "role": "assistant", "model": model}
        return {**named, "content": [], "stop_reason": None, "stop_sequence": None}


def _anthropic_error(kind: str, text: str) -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_fake"})


class GeminiWire(Wire):
    """It has no terminator: the finish reason is the end."""

    dialect = "gemini_generate_content"
    prefix = "/v1beta"

    def wants_stream(self, seen: Seen) -> bool:
        return "streamGenerateContent" in seen.path

    def prefill(self, seen: Seen) -> str:
        last = seen.json["contents"][-1]
        return _joined(last["parts"]) if last["role"] == "model" else ""

    def whole(self, text: str, model: str) -> bytes:
        return orjson.dumps(self._answer(model, text, "STOP", len(words_of(text))))

    def opening(self, model: str) -> Sequence[bytes]:
        return [_sse(self._answer(model, ""))]

    def word(self, text: str, model: str, padding: int = 0) -> bytes:
        return _sse({**self._answer(model, text), **({"padding": "x" * padding} if padding else {})})

    def finish(self, words: int, model: str) -> Sequence[bytes]:
        return [_sse(self._answer(model, "", "STOP", words))]

    def malformed(self) -> bytes:
        return b"data: {oops}\n\n"

    def error_event(self) -> bytes:
        return _sse({"error": {"code": 500, "message": "An internal error has occurred.", "status": "INTERNAL"}})

    def refusal(self, status: int, text: str = "The provider says no.") -> Refusal:
        words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 409: "ABORTED", 429: "RESOURCE_EXHAUSTED"}
        words |= {500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
        return Refusal(status, _gemini_error(status, words.get(status, "UNKNOWN"), text))

    def too_long(self) -> Refusal:
        text = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
        return Refusal(400, _gemini_error(400, "INVALID_ARGUMENT", text))

    def blocked(self) -> Refusal:
        """No refusal by HTTP: an answer without candidates."""
        body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": "m"}
        return Refusal(200, orjson.dumps({**body, "usageMetadata": {"promptTokenCount": INPUT_TOKENS}}))

    def _answer(self, model: str, text: str, finish: str | None = None, words: int | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}
        if finish is not None:
            candidate["finishReason"] = finish
        counts = {"promptTokenCount": INPUT_TOKENS}
        if words is not None:
            counts |= {"candidatesTokenCount": words, "totalTokenCount": INPUT_TOKENS + words}
        return {"candidates": [candidate], "usageMetadata": counts, **self._named(model)}

    def _named(self, model: str) -> dict[str, Any]:
        return {"modelVersion": model, "responseId": f"resp-{model}"}


def _gemini_error(status: int, word: str, text: str) -> bytes:
    return orjson.dumps({"error": {"code": status, "message": text, "status": word}})


class BedrockWire(Wire):
    """Converse. The finish reason is `messageStop`; usage follows it, and nothing else."""

    dialect = "bedrock_converse"
    prefix = ""
    stream_type = "application/vnd.amazon.eventstream"
    largest_event = MAX_PAYLOAD

    def wants_stream(self, seen: Seen) -> bool:
        return seen.path.endswith("/converse-stream")

    def prefill(self, seen: Seen) -> str:
        last = seen.json["messages"][-1]
        return _joined(last["content"]) if last["role"] == "assistant" else ""

    def whole(self, text: str, model: str) -> bytes:
        said = {"message": {"role": "assistant", "content": [{"text": text}]}}
        return orjson.dumps({"output": said, "stopReason": "end_turn", **_bedrock_usage(len(words_of(text)))})

    def opening(self, model: str) -> Sequence[bytes]:
        return [message("messageStart", {"role": "assistant"})]

    def word(self, text: str, model: str, padding: int = 0) -> bytes:
        filling = {"p": "x" * padding} if padding else {}
        return message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}, **filling})

    def finish(self, words: int, model: str) -> Sequence[bytes]:
        return [
            message("contentBlockStop", {"contentBlockIndex": 0}),
            message("messageStop", {"stopReason": "end_turn"}),
            message("metadata", _bedrock_usage(words)),
        ]

    def malformed(self) -> bytes:
        return message("contentBlockDelta", b"{oops}")

    def error_event(self) -> bytes:
        return message("internalServerException", {"message": "The server had an error."}, "exception")

    def refusal(self, status: int, text: str = "The provider says no.") -> Refusal:
        kinds = {400: "ValidationException", 401: "UnrecognizedClientException", 408: "ModelTimeoutException"}
        kinds |= {429: "ThrottlingException", 503: "ServiceUnavailableException"}
        return _bedrock_error(status, kinds.get(status, "InternalServerException"), text)

    def too_long(self) -> Refusal:
        return _bedrock_error(400, "ValidationException", "Input is too long for requested model.")

    def blocked(self) -> Refusal:
        text = "Output blocked by content filtering policy"
        return _bedrock_error(400, "ValidationException", text)

    def garbage(self) -> bytes:
        return b"\x00\x00oops, this is no message"

    def comment(self) -> bytes:
        return b""


def _bedrock_usage(words: int) -> dict[str, Any]:
    counts = {"inputTokens": INPUT_TOKENS, "outputTokens": words, "totalTokens": INPUT_TOKENS + words}
    return {"usage": counts, "metrics": {"latencyMs": 9}}


def _bedrock_error(status: int, kind: str, text: str) -> Refusal:
    return Refusal(status, orjson.dumps({"message": text}), {"x-amzn-ErrorType": kind})


def _joined(parts: Sequence[Mapping[str, Any]] | str) -> str:
    return parts if isinstance(parts, str) else "".join(part.get("text", "") for part in parts)


WIRES: tuple[Wire, ...] = (OpenAIWire(), AnthropicWire(), GeminiWire(), BedrockWire())
