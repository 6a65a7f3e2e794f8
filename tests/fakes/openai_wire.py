"""What OpenAI-compatible providers put on the wire, well-behaved and not: the scenarios `OpenAIUpstream` plays.

A scenario is one of `Reply` (a whole body), `Stream` (server-sent events), `ChatStream` (events made from a text and
the request, as a provider makes them), `Raw` (bytes of any kind) and `Vanish` (the connection closes, no answer).
The functions below build the usual ones.

Source: https://platform.openai.com/docs/api-reference/chat, https://openrouter.ai/docs/api-reference/errors
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.fakes.gate import Gate

Event = bytes | str | Mapping[str, Any]
"""A mapping is sent as JSON data, a string as data, bytes as they are (comments, torn lines, CRs)."""
End = Literal["done", "eof", "cut", "cut_mid_event", "stall"]
"""`done`: `[DONE]` and a proper end; `eof`: a proper end without it; `cut`: the connection closes before the end;
`cut_mid_event`: so, after half of the last event; `stall`: silence until the client leaves."""
BodyFraming = Literal["chunked", "length", "close"]


@dataclass
class Reply:
    """A body in one piece. `body`: a mapping or list goes as JSON; bytes as they are."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delay_s: float = 0.0
    """Before the head."""
    cut_at: int | None = None
    """The connection closes after so many bytes of the body, though `content-length` promises all."""
    close: bool = False
    """With `connection: close`, and it does."""
    hold: bool = False
    """Answers only after `gate.release()`."""
    gzip: bool = False
    framing: BodyFraming = "length"
    gate: Gate = field(default_factory=Gate)

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Stream:
    """Server-sent events, one to a write. `gate_after=2` sends two, then waits for `gate.release()`."""

    events: Sequence[Event] = ()
    end: End = "done"
    gate_after: int | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/event-stream; charset=utf-8"
    newline: str = "\n"
    delay_s: float = 0.0
    """Before the head."""
    pause_s: float = 0.0
    """Between two events."""
    per_write: int = 1
    """Events to a write."""
    tear: int | None = None
    """Cuts all bytes into pieces of this length, whatever they are the middle of."""
    gzip: bool = False
    framing: BodyFraming = "chunked"
    hold: bool = False
    """Holds back even the head until `gate.release()`."""
    gate: Gate = field(default_factory=Gate)

    def blocks(self, request: Mapping[str, Any]) -> Iterator[bytes]:
        """The events as bytes, `[DONE]` included."""
        for event in self.events:
            yield encode_event(event, self.newline)
        if self.end == "done":
            yield encode_event("[DONE]", self.newline)


@dataclass
class ChatStream(Stream):
    """A chat completion streamed word by word. `usage` is how the provider tells it:

    `asked` as OpenAI does (null on every chunk and a last one without choices, if `include_usage` was asked for),
    `always` the last chunk even unasked, `with_finish` on the chunk with the finish reason, `every` a running count on
    every chunk, `nulls` null everywhere and no count, `never` no field at all.
    """

    text: str = "Hello from the provider."
    model: str | None = None
    """What the answer calls itself; the requested model by default."""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    usage: Literal["asked", "always", "with_finish", "every", "nulls", "never"] = "asked"
    counts: Mapping[str, Any] | None = None
    finish_reason: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields nobody knows, on every chunk."""

    def blocks(self, request: Mapping[str, Any]) -> Iterator[bytes]:
        for chunk in self._chunks(request):
            yield encode_event(chunk, self.newline)
        if self.end == "done":
            yield encode_event("[DONE]", self.newline)

    def _chunks(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        counts = dict(self.counts or usage_of(request, self.text))
        asked = bool((request.get("stream_options") or {}).get("include_usage"))
        on_all: dict[str, Any] = {"usage": None} if self.usage == "nulls" or (self.usage == "asked" and asked) else {}
        deltas = list(self._deltas())
        for at, delta in enumerate(deltas):
            finish = self._finish() if at == len(deltas) - 1 else None
            chunk = self._chunk(request, [{"index": 0, "delta": delta, "finish_reason": finish}]) | on_all
            if self.usage == "every" or (self.usage == "with_finish" and finish):
                chunk["usage"] = counts
            yield chunk
        if self.usage == "always" or (self.usage == "asked" and asked):
            yield self._chunk(request, []) | {"usage": counts}

    def _deltas(self) -> Iterator[dict[str, Any]]:
        yield {"role": "assistant", "content": None if self.tool_calls else ""}
        if not self.tool_calls:
            yield from ({"content": word} for word in words_of(self.text))
        for index, call in enumerate(self.tool_calls):
            function = call["function"]
            head = {"index": index, "id": call["id"], "type": "function"}
            yield {"tool_calls": [head | {"function": {"name": function["name"], "arguments": ""}}]}
            arguments: str = function["arguments"]
            for start in range(0, len(arguments), 9):
                yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 9]}}]}
        yield {}

    def _finish(self) -> str:
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")

    def _chunk(self, request: Mapping[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": "chatcmpl-fake",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": self.model or request.get("model"),
            **self.extra,
            "choices": choices,
        }


@dataclass
class Raw:
    """Any bytes at all, then the connection closes (or stays, silent)."""

    data: bytes
    close: bool = True


@dataclass
class Vanish:
    """The connection closes when the request has come, without a byte of an answer: what a stale connection does."""


Scenario = Reply | Stream | Raw | Vanish


def encode_event(event: Event, newline: str = "\n") -> bytes:
    if isinstance(event, bytes):
        return event
    text = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))
    return f"data: {text}{newline}{newline}".encode()


def words_of(text: str) -> list[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def usage_of(request: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Counts words: of all string contents, and of the text."""
    contents = [message.get("content") for message in request.get("messages") or ()]
    prompt = sum(len(content.split()) for content in contents if isinstance(content, str))
    completion = len(text.split())
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def tool_call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    """`arguments` is JSON text, kept as it is: that is how big integers and odd spaces get in."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat(
    text: str = "Hello from the provider.",
    *,
    request: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
    no_usage: bool = False,
    tool_calls: Sequence[Mapping[str, Any]] = (),
    finish_reason: str | None = None,
    extra: Mapping[str, Any] | None = None,
    **reply: Any,
) -> Reply:
    """A buffered chat completion. `extra` adds fields; `reply` are `Reply`'s own (`headers`, `delay_s`, `hold`, …)."""
    asked = request or {}
    message: dict[str, Any] = {"role": "assistant", "content": None if tool_calls else text, "refusal": None}
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    finish = finish_reason or ("tool_calls" if tool_calls else "stop")
    body: dict[str, Any] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": asked.get("model", "fake-model"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        **(extra or {}),
    }
    if not no_usage:
        body["usage"] = dict(usage or usage_of(asked, text))
    return Reply(body, **reply)


def error(
    status: int,
    message: str = "The provider says no.",
    *,
    type: str = "invalid_request_error",  # noqa: A002 - the envelope's own name
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """An error in OpenAI's shape."""
    body = {"error": {"message": message, "type": type, "param": param, "code": code}}
    return Reply(body, status, headers or {})


def html_error(status: int = 502, title: str = "Bad gateway") -> Reply:
    """What a proxy in front of a provider says."""
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(page.encode(), status, content_type="text/html")


def empty_error(status: int = 500) -> Reply:
    return Reply(b"", status, content_type="")


def fastapi_error(status: int = 422, detail: Any = "Not allowed here") -> Reply:
    """What vLLM's and others' framework says where they do not."""
    return Reply({"detail": detail}, status)


def string_error(status: int = 400, message: str = "model not loaded") -> Reply:
    """Ollama's older shape."""
    return Reply({"error": message}, status)


def openrouter_error(code: int = 429, message: str = "Rate limited", status: int = 200) -> Reply:
    """OpenRouter's error object, which may come with status 200; `code` is a number there."""
    metadata = {"provider_name": "SomeVendor", "raw": '{"detail":"slow down"}'}
    return Reply({"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "user_1"}, status)


def redirect(location: str, status: int = 307) -> Reply:
    return Reply(b"", status, {"location": location}, content_type="")


def error_event(message: str = "The server had an error.", code: str | int | None = "server_error") -> dict[str, Any]:
    """An error inside a stream that began with 200: give it as an event, with `end="eof"`."""
    return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}


PROCESSING = b": OPENROUTER PROCESSING\n\n"
"""The comment that OpenRouter sends while nothing happens."""
