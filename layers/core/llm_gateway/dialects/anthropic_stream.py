"""A Claude stream as a stream of chat completion chunks.

`message_start` names the model and counts the input; content blocks come one after the other, each with a start, deltas
and a stop; `message_delta` gives the stop reason and the final counts; `message_stop` is the end. `ping` and whatever
is not known is passed over; an `error` event may come at any point. On Bedrock each event is base64 in a `chunk`.
Deltas of texts, thoughts and tool arguments, nearly all of a stream, are cut out of the provider's bytes: a JSON string
needs no translation.
Sources: https://platform.claude.com/docs/en/build-with-claude/streaming,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
"""

import re
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from llm_gateway.dialects.anthropic_answer import (
    answer_id,
    finish_reason,
    input_bytes,
    redacted_detail,
    refusal_text,
    thinking_detail,
    tool_call,
)
from llm_gateway.dialects.anthropic_errors import error_event, exception_event
from llm_gateway.dialects.anthropic_usage import merge_counts, openai_usage, read_usage, service_tier
from llm_gateway.dialects.dialect import Said, SplitEvents, StreamEvent
from llm_gateway.dialects.thinking_places import Before
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed
from llm_gateway.schemas.json_splice import value_of

_PLAIN = rb'[^"\\\x00-\x1f]*'
_ESCAPED = rb'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})'  # halves of characters are the parser's to judge
_STRING = rb'("' + _PLAIN + rb"(?:" + _ESCAPED + _PLAIN + rb')*")'
_DELTA_JSON = (
    rb'\{"type": ?"content_block_delta", ?"index": ?(0|[1-9][0-9]*), ?"delta": ?\{"type": ?"'
    rb'(?:text_delta", ?"text": ?' + _STRING
    + rb'|input_json_delta", ?"partial_json": ?' + _STRING
    + rb'|thinking_delta", ?"thinking": ?' + _STRING
    + rb")\} *\} *"
)  # fmt: skip
_DELTA = re.compile(_DELTA_JSON)
_DELTA_START = b"event: content_block_delta\ndata: "
_DELTA_EVENT = re.compile(_DELTA_START + _DELTA_JSON + rb"\n\n")
_OF_A_MESSAGE = frozenset(
    {"content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
)
_SSE_START = (b"event:", b"data:", b":")
_DONE = b"data: [DONE]\n\n"
_ENDS = b"}\n\n"
_THOUGHT_DETAIL = b',"reasoning_details":[{"type":"reasoning.text","text":'
_CHARACTERS_A_TOKEN = 4
_LONGEST_TEXT = 1 << 22
"""Bytes of what was written that are kept for an estimate: more than any model writes."""


class AnthropicStream:
    """`StreamTranslator` of the `anthropic_messages` dialect. Fed with blocks of whole events."""

    service_tier: str | None = None  # comes with the counts

    def __init__(self, *, include_usage: bool, created: int, split_events: SplitEvents) -> None:
        self.started = False
        self.contents = 0
        self.model: str | None = None
        self.finish_reason: str | None = None
        self._include_usage = include_usage
        self._created = created
        self._split_events = split_events
        self._failure: UpstreamError | None = None
        self._stopped = False
        self._counts: dict[str, Any] = {}
        self._final_usage = False
        self._base = self._head = b""
        self._opening: dict[str, Any] = {}
        self._tail = b',"finish_reason":null}]}\n\n'
        self._details = 0
        self._detail_of: dict[int, dict[str, Any]] = {}
        """Of each open thinking block: what its next delta is to begin with."""
        self._server_tool = self._refused = False
        self._said: Said | None = None
        self._calls = 0
        self._call_of: dict[int, tuple[int, bytes, bool]] = {}
        """Of each open tool call: its index for the caller, its input at the start, whether arguments have come."""
        self._argument_heads: dict[bytes, bytes] = {}
        self._thought_tails: dict[bytes, bytes] = {}
        """Of each block whose next deltas are all alike: what stands before arguments, and behind a thought."""
        self._written: list[bytes] = []
        """Texts, thoughts, calls as JSON strings; `_pieces` are the texts among them."""
        self._pieces: list[bytes] = []
        self._written_size = 0

    @property
    def usage(self) -> Usage | None:
        """What was counted; before the final count what was read, and an estimate of what has been written since."""
        counted = read_usage(self._counts)
        if counted is None or self._final_usage:
            return counted
        if not self.started:
            return None
        estimated = -(-self._written_size // _CHARACTERS_A_TOKEN)
        return replace(counted, output_tokens=max(counted.output_tokens, estimated), estimated=True)

    def feed(self, block: bytes) -> bytes:
        passed: list[bytes] = []
        begun = self.started
        at = 0
        if begun and not self.complete and block.startswith(_DELTA_START) and _is_text(block):
            while (found := _DELTA_EVENT.match(block, at)) and (chunk := self._spliced(found)) is not None:
                passed.append(chunk)
                at = found.end()
            if at == len(block):
                self.contents += any(passed)
                return b"".join(passed)
        for event in self._split_events(block[at:]):
            if self._stopped:
                break
            try:
                passed.append(self._read(event))
            except UpstreamError as failure:
                if self.whole and isinstance(failure, UpstreamMalformed):
                    continue  # nothing of the answer can have been lost with it
                if not (begun and any(passed)):
                    raise
                self._failure = failure
                break
        if any(passed):
            self.contents += self.started
        return b"".join(passed)

    def finish(self, rest: bytes) -> bytes:
        """The usage chunk, if asked for, and `[DONE]`. Raises `UpstreamCut` without a stop reason."""
        if self._failure is not None:
            raise self._failure
        tail = b""
        if not self._stopped and rest.lstrip(b"\r\n").startswith(_SSE_START):
            self._said = None if self.whole else self.said()  # without an end the caller never gets the tail
            try:
                tail = self.feed(rest + b"\n\n")  # a last event without its blank line is legal
            except UpstreamMalformed:
                raise UpstreamCut("The provider's stream ended in the middle of an event.") from None
        if self._failure is not None:
            raise self._failure
        if not self.whole:
            raise UpstreamCut("The provider's stream ended before the answer was complete.")
        usage = self.usage
        if self._include_usage and usage is not None:
            told = orjson.dumps(openai_usage(usage))
            tail += b"".join((self._base, b',"choices":[],"usage":', told, _ENDS))
        return tail + _DONE

    @property
    def complete(self) -> bool:
        return self._stopped or self._failure is not None

    @property
    def whole(self) -> bool:
        return self.finish_reason is not None

    def text(self) -> str:
        return "".join([orjson.loads(piece) for piece in self._written])

    def said(self) -> Said:
        if self._said is not None:
            return self._said
        plain = not self._calls and not self._refused and self._written_size < _LONGEST_TEXT
        unsent = sum("format" in detail for detail in self._detail_of.values())
        content = "".join([orjson.loads(piece) for piece in self._pieces])
        return Said(content, plain, self._opening, self._details - unsent)

    def _spliced(self, found: re.Match[bytes]) -> bytes | None:
        """The chunk for a delta like those before it. None for one that is the parser's, with nothing read of it."""
        index, text, arguments, thought = found.groups()
        if text is not None:
            return self._text(text) if text != b'""' else b""
        if arguments is not None:
            head = self._argument_heads.get(index)
            if head is None or arguments == b'""':
                return None
            self._remember(arguments)
            return b"".join((head, arguments, b"}}]}", self._tail))
        tail = self._thought_tails.get(index)
        if tail is None or thought == b'""':
            return None
        self._remember(thought)
        return b"".join((self._head, b'{"reasoning_content":', thought, _THOUGHT_DETAIL, thought, tail))

    def _read(self, event: StreamEvent) -> bytes:
        """What the caller gets for one event."""
        data = _unwrapped(event)
        if not data:
            return b""
        if self.started and (found := _DELTA.fullmatch(data)) and _is_text(data):
            spliced = self._spliced(found)
            if spliced is not None:
                return spliced
        return self._translated(data)

    def _translated(self, data: bytes) -> bytes:
        said = _object(data)
        kind = said.get("type")
        if not self._base and isinstance(kind, str) and kind in _OF_A_MESSAGE:
            raise UpstreamMalformed("The provider's stream did not begin with a message.")
        if kind == "content_block_delta":
            return self._delta(_index(said), said.get("delta"))
        if kind == "content_block_start":
            return self._block(_index(said), said.get("content_block"), data)
        if kind == "content_block_stop":
            return self._block_end(_index(said))
        if kind == "message_start":
            return self._begin(said.get("message"))
        if kind == "message_delta":
            return self._end(said)
        if kind == "error":
            raise error_event(said.get("error"))
        if kind == "message_stop":
            self._stopped = True
            if self.finish_reason is None:
                raise UpstreamMalformed("The provider's stream ended without a stop reason.")
        return b""

    def _begin(self, message: Any) -> bytes:
        if not isinstance(message, dict):
            raise UpstreamMalformed("The provider's stream began without a message.")
        model = message.get("model")
        self.model = model if isinstance(model, str) and model else None
        self._counts = merge_counts({}, message.get("usage"))
        named = {
            "id": answer_id(message, self._created),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.model,
        }
        self._opening = {name: named[name] for name in ("id", "created", "model")}
        if tier := service_tier(message.get("usage")):
            named["service_tier"] = tier
        self._base = b"data: " + orjson.dumps(named)[:-1]
        self._head = self._base + b',"choices":[{"index":0,"delta":'
        return self._chunk({"role": "assistant", "content": ""})

    def _block(self, index: int, block: Any, data: bytes) -> bytes:
        if not isinstance(block, dict):
            raise UpstreamMalformed("A content block of the provider's stream is not an object.")
        kind = block.get("type")
        if kind == "text":
            return self._delta(index, {"type": "text_delta", "text": block.get("text")})
        if kind == "tool_use":
            return self._tool_call(index, block, data)
        if kind == "redacted_thinking":
            detail = redacted_detail(self._details, self._before, block)
            self._details += 1
            return self._content({"reasoning_details": [detail]})
        if kind == "thinking":
            detail = thinking_detail(self._details, self._before, block)
            self._details += 1
            text, signature = detail.pop("text"), detail.pop("signature", None)
            self._detail_of[index] = detail
            self._thought_tails.pop(b"%d" % index, None)
            return self._delta(index, {"type": "thinking_delta", "thinking": text}) + self._delta(
                index, {"type": "signature_delta", "signature": signature}
            )
        self._server_tool = True
        return b""

    def _tool_call(self, index: int, block: Mapping[str, Any], data: bytes) -> bytes:
        given = input_bytes(value_of(data, "content_block") or b"{}")
        self._call_of[index] = (self._calls, given, False)
        self._argument_heads.pop(b"%d" % index, None)
        call = {"index": self._calls, **tool_call(block, "")}
        self._calls += 1
        self._remember(orjson.dumps(call["function"]["name"]))
        return self._content({"tool_calls": [call]})

    def _delta(self, index: int, delta: Any) -> bytes:
        if not isinstance(delta, dict):
            raise UpstreamMalformed("A delta of the provider's stream is not an object.")
        kind = delta.get("type")
        if kind == "text_delta":
            text = delta.get("text")
            return self._text(orjson.dumps(text)) if isinstance(text, str) and text else b""
        if kind == "input_json_delta":
            return self._arguments(index, delta.get("partial_json"))
        if kind == "thinking_delta":
            return self._thought(index, delta.get("thinking"))
        if kind == "signature_delta" and isinstance(delta.get("signature"), str):
            return self._content({"reasoning_details": [self._detail(index, "signature", delta["signature"])]})
        return b""

    def _text(self, quoted: bytes) -> bytes:
        """A chunk for text that is a JSON string already."""
        self.started = True
        self._remember(quoted)
        self._pieces.append(quoted)
        return b"".join((self._head, b'{"content":', quoted, b"}", self._tail))

    def _arguments(self, index: int, part: Any) -> bytes:
        if index not in self._call_of or not isinstance(part, str) or not part:
            return b""  # of a server tool, which runs at the provider; or the empty delta that comes first
        call, given, _ = self._call_of[index]
        self._call_of[index] = (call, given, True)
        self._argument_heads[b"%d" % index] = self._head + b'{"tool_calls":[{"index":%d,"function":{"arguments":' % call
        self._remember(orjson.dumps(part))
        return self._content({"tool_calls": [{"index": call, "function": {"arguments": part}}]})

    def _thought(self, index: int, text: Any) -> bytes:
        if not isinstance(text, str) or not text:
            return b""
        self._remember(orjson.dumps(text))
        detail = self._detail(index, "text", text)
        self._thought_tails[b"%d" % index] = b',"index":%d}]}' % detail["index"] + self._tail
        return self._content({"reasoning_content": text, "reasoning_details": [detail]})

    @property
    def _before(self) -> Before:
        return Before(sum(len(orjson.loads(piece)) for piece in self._pieces), self._calls, self._server_tool)

    def _detail(self, index: int, name: str, value: str) -> dict[str, Any]:
        """A delta of a thinking block. What does not add up (format, position) comes once, with the first."""
        detail = self._detail_of.get(index)
        if detail is None:
            raise UpstreamMalformed("The provider sent thinking that belongs to no block.")
        self._detail_of[index] = {"type": detail["type"], "index": detail["index"]}
        return {"type": detail["type"], name: value, **detail}

    def _block_end(self, index: int) -> bytes:
        """Closes a tool call: one without arguments has them in its start, which says `{}` where there are none."""
        self._argument_heads.pop(b"%d" % index, None)
        call, given, came = self._call_of.pop(index, (0, b"", True))
        if came:
            return b""
        return self._content({"tool_calls": [{"index": call, "function": {"arguments": given.decode()}}]})

    def _end(self, said: Mapping[str, Any]) -> bytes:
        counts = said.get("usage")
        self._counts = merge_counts(self._counts, counts)
        delta = said.get("delta")
        stop = delta.get("stop_reason") if isinstance(delta, dict) else None
        if not isinstance(stop, str) or not isinstance(delta, dict) or self.whole:
            return b""
        unclosed = b"".join([self._block_end(index) for index in list(self._call_of)])
        self._final_usage = isinstance(counts, dict)
        self.finish_reason = finish_reason(stop)
        self.started = True
        refusal = refusal_text(delta.get("stop_details")) if stop == "refusal" else None
        self._refused = refusal is not None
        last = {"index": 0, "delta": {}, "finish_reason": self.finish_reason, "native_finish_reason": stop}
        return b"".join(
            (
                unclosed,
                self._chunk({"refusal": refusal}) if refusal else b"",
                self._base,
                b',"choices":[',
                orjson.dumps(last),
                b"]",
                _ENDS,
            )
        )

    def _content(self, delta: Mapping[str, Any]) -> bytes:
        self.started = True
        return self._chunk(delta)

    def _chunk(self, delta: Mapping[str, Any]) -> bytes:
        return b"".join((self._head, orjson.dumps(delta), self._tail))

    def _remember(self, quoted: bytes) -> None:
        self._written_size += len(quoted) - 2
        if self._written_size < _LONGEST_TEXT:
            self._written.append(quoted)


def _unwrapped(event: StreamEvent) -> bytes:
    """The JSON of an event, out of Bedrock's `{"bytes": base64}` where it is in it."""
    data = event.data
    name = event.event or ""
    if getattr(event, "failed", False):  # an AWS message that is no event
        raise exception_event(name, data)
    if name != "chunk":
        return data
    inner = _object(data).get("bytes")
    try:
        return a2b_base64(inner, strict_mode=True) if isinstance(inner, str) else b""
    except ValueError:
        raise UpstreamMalformed("The provider sent a chunk that is not base64.") from None


def _is_text(block: bytes) -> bool:
    """Whether it is UTF-8: what a parser would refuse must not be spliced."""
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _index(said: Mapping[str, Any]) -> int:
    index = said.get("index")
    if not isinstance(index, int):
        raise UpstreamMalformed("A content block of the provider's stream has no index.")
    return index


def _object(data: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("The provider sent an event that is not JSON.") from None
    if not isinstance(said, dict):
        raise UpstreamMalformed("The provider sent an event that is not a JSON object.")
    return said
