"""Claude on loopback, in all three envelopes: `OpenAIUpstream`'s server with the paths and keys of Anthropic's wire.

    with AnthropicUpstream() as up:
        up.script("claude-opus-5", Reply(MESSAGE), failure(529, "overloaded_error", "Overloaded"))
        up.script("claude-haiku-4-5", EventStream(events_of(MESSAGE)))
        ...   # POST {up.base_url}/messages, {up.root}/model/{id}/invoke…, {up.root}/…/publishers/anthropic/models/{id}:rawPredict

Without a script a model answers `Hello from Claude.`, streamed if asked so. `require_key` is the key, in `x-api-key` or as a bearer token: both are taken.
Bedrock's requests must be signed by `bedrock_upstream`'s credentials, or carry its bearer key.
Source: https://platform.claude.com/docs/en/api/messages/create, https://platform.claude.com/docs/en/build-with-claude/streaming
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.fakes.bedrock_upstream import BEARER, MessageStream, exception, message, signature_of
from tests.fakes.openai_upstream import OpenAIUpstream, Recorded, Reply, Stream
from tests.fakes.openai_wire import Scenario

USAGE = {"input_tokens": 11, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 5}


def claude_message(
    *blocks: Mapping[str, Any], model: str = "claude-opus-5", stop: str = "end_turn", **more: Any
) -> dict[str, Any]:
    """A whole message; without blocks it says hello."""
    content = list(blocks) or [{"type": "text", "text": "Hello from Claude."}]
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


def failure(status: int, kind: str, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    """A refusal in Anthropic's shape."""
    return Reply(
        {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_fake"}, status, headers or {}
    )


def events_of(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The events in which Anthropic streams a message: every text in words, inputs as JSON in two parts, one ping."""
    usage = {**whole["usage"], "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "ping"},
    ]
    for index, block in enumerate(whole["content"]):
        empty, deltas = _deltas(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None, "stop_details": whole.get("stop_details")}
    counted = {"output_tokens": whole["usage"]["output_tokens"]}
    return [*events, {"type": "message_delta", "delta": stop, "usage": counted}, {"type": "message_stop"}]


def _deltas(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kind = block["type"]
    if kind == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in _words(block["text"])]
    if kind == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": word} for word in _words(block["thinking"])]
        signature = {"type": "signature_delta", "signature": block["signature"]}
        return {"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, signature]
    if kind == "tool_use":
        text = json.dumps(block["input"]) if block["input"] else ""
        parts = ["", text[:7], text[7:]] if text else [""]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
    return dict(block), []


def _words(text: str) -> list[str]:
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


@dataclass
class EventStream(Stream):
    """`events` are Anthropic's, as mappings; bytes go out as they are. `end="eof"` is the proper end."""

    end: Any = "eof"

    def blocks(self, request: Mapping[str, Any]) -> Iterator[bytes]:
        for event in self.events:
            if isinstance(event, Mapping):
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            else:
                yield event if isinstance(event, bytes) else event.encode()


def bedrock_chunks(events: Sequence[Mapping[str, Any]]) -> MessageStream:
    """The same events as Bedrock frames them: base64 in `chunk` messages."""
    return MessageStream(
        [
            message("chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abc"})
            for event in events
        ],
        end="eof",
    )


class AnthropicUpstream(OpenAIUpstream):
    """See the module. Scripts are by model, wherever it stands in the request."""

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/v1")

    @property
    def vertex_url(self) -> str:
        return f"{self.root}/v1/projects/p/locations/global/publishers/anthropic"

    def choose(self, request: Recorded) -> Scenario:
        with self._lock:
            self.requests.append(request)
            if self._queue:
                return self._queue.popleft()
            body = json.loads(request.body)
            model, stream, refusal = self._read(request, body)
            if refusal is not None:
                return refusal
            script = self._scripts.get(model)
            if script:
                return script.popleft() if len(script) > 1 else script[0]
            whole = claude_message(model=model)
            if not stream:
                return Reply(whole)
            return (
                bedrock_chunks(events_of(whole))
                if request.path.startswith("/model/")
                else EventStream(events_of(whole))
            )

    def _read(self, request: Recorded, body: Mapping[str, Any]) -> tuple[str, bool, Reply | None]:  # noqa: PLR0911 - one return a fault
        """Model, whether to stream, and a refusal where the envelope is wrong."""
        if request.path.endswith("/messages"):
            given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
            if self._key not in (None, given):
                return "", False, failure(401, "authentication_error", "invalid x-api-key")
            if "anthropic-version" not in request.headers:
                return "", False, failure(400, "invalid_request_error", "anthropic-version: header is required")
            return body["model"], bool(body.get("stream")), None
        if request.path.startswith("/model/"):
            _, _, model, action = request.path.split("/")
            if body.get("anthropic_version") != "bedrock-2023-05-31" or {"model", "stream"} & body.keys():
                return "", False, exception(400, "ValidationException", "Malformed input request")
            given = request.headers.get("authorization", "")
            if given != f"Bearer {BEARER}" and signature_of(request, "us-east-1") not in given:
                return "", False, exception(403, "InvalidSignatureException", "The signature does not match.")
            return unquote(model), action == "invoke-with-response-stream", None
        model, _, method = request.path.rpartition("/")[2].partition(":")
        if (
            body.get("anthropic_version") != "vertex-2023-10-16"
            or "model" in body
            or "publishers/anthropic" not in request.path
        ):
            return "", False, failure(400, "invalid_request_error", "not Vertex's envelope")
        return unquote(model), method == "streamRawPredict", None
