"""A ConverseStream as chunks of a chat completion.

Order on the wire: messageStart; per block contentBlockStart (tool calls only), contentBlockDelta …, contentBlockStop;
messageStop; metadata with the usage. The chunk with the finish reason waits for the metadata, which comes at once, and
carries a guardrail's trace. A stream that ends after messageStop without metadata is whole, but not counted.
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any

import orjson

from llm_gateway.dialects.bedrock_answer import (
    extra_fields,
    finish_reason_of,
    is_own_tool,
    parse_answer,
    reasoning_encrypted,
    reasoning_text,
    routed_model,
)
from llm_gateway.dialects.bedrock_errors import decode_stream_exception
from llm_gateway.dialects.bedrock_usage import openai_usage, read_converse_usage
from llm_gateway.dialects.dialect import Said, SplitEvents, StreamEvent
from llm_gateway.dialects.thinking_places import Before
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed

_DONE = b"data: [DONE]\n\n"


class BedrockStream:
    """`StreamTranslator` of the `bedrock_converse` dialect. `answer_id` and `created` (Unix seconds) go on each."""

    service_tier: str | None = None  # comes with the counts

    def __init__(
        self, model: str, *, include_usage: bool, split_events: SplitEvents, answer_id: str, created: int
    ) -> None:
        self.started = False
        self.contents = 0
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self._include_usage = include_usage
        self._split_events = split_events
        self._head = orjson.dumps(
            {"id": answer_id, "object": "chat.completion.chunk", "created": created, "model": model}
        )[:-1]
        self._delta_head = b"data: " + self._head + b',"choices":[{"index":0,"delta":'
        self._delta_tail = b',"logprobs":null,"finish_reason":null}]}\n\n'
        self._text_head = self._delta_head + b'{"content":'
        self._text_tail = b"}" + self._delta_tail
        self._greeted = False
        self._told: dict[str, Any] = {}
        """What the last events say beyond OpenAI's wire."""
        self._counted = False
        self._finish_sent = False
        self._failure: UpstreamError | None = None
        self._calls: dict[int, int] = {}
        """Tool calls by the index of their block: which of the answer's calls each is."""
        self._argument_heads: dict[int, bytes] = {}
        self._without_arguments: set[int] = set()
        self._thoughts: dict[int, int] = {}
        self._placed: set[int] = set()
        """Thoughts whose first delta, with what comes once, is out."""
        self._server_tool = False
        self._redacted: dict[int, list[str]] = {}
        self._texts: list[str] = []
        """All that was written; `_content` is the answer among it."""
        self._content: list[str] = []
        self._readers: dict[str | None, Callable[[dict[str, Any]], bytes]] = {
            "messageStart": self._message_start,
            "contentBlockStart": self._block_start,
            "contentBlockDelta": self._block_delta,
            "contentBlockStop": self._block_stop,
            "messageStop": self._message_stop,
            "metadata": self._metadata,
        }

    def feed(self, block: bytes) -> bytes:
        """A failure behind content that may go out is kept until that is out."""
        passed: list[bytes] = []
        begun = self.started
        for event in self._split_events(block):
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
        """Raises the failure that `feed` came upon behind content, and `UpstreamCut` without a messageStop."""
        if self._failure is not None:
            raise self._failure
        if self.finish_reason is None:
            where = "in the middle of a message" if rest else "before the answer was complete"
            raise UpstreamCut(f"The provider's stream ended {where}.")
        out = self._finish_chunk()
        if self._include_usage and self.usage is not None:
            told = {"choices": [], "usage": openai_usage(self.usage)}
            out += b"data: " + self._head + b"," + orjson.dumps(told)[1:] + b"\n\n"
        return out + _DONE

    @property
    def complete(self) -> bool:
        return self._counted or self._failure is not None

    @property
    def whole(self) -> bool:
        return self.finish_reason is not None

    def text(self) -> str:
        return "".join(self._texts)

    def said(self) -> Said:
        opening = {name: value for name, value in orjson.loads(self._head + b"}").items() if name != "object"}
        details = len(self._thoughts) - len(self._redacted)
        return Said("".join(self._content), plain=not self._calls, opening=opening, details=details)

    def _read(self, event: StreamEvent) -> bytes:
        if self._counted:
            return b""
        reader = self._readers.get(event.event)
        if reader is not None:
            return reader(parse_answer(event.data))
        # Only this framing tells failures from events by a header of their own.
        if getattr(event, "failed", False) or (event.event or "").endswith("Exception"):
            raise decode_stream_exception(event.event, event.data)
        return b""

    def _delta(self, delta: dict[str, Any]) -> bytes:
        """A chunk; before the first one the chunk with the role."""
        chunk = self._delta_head + orjson.dumps(delta) + self._delta_tail
        return chunk if self._greeted else self._greeting() + chunk

    def _greeting(self) -> bytes:
        self._greeted = True
        return self._delta_head + b'{"role":"assistant","content":""}' + self._delta_tail

    def _message_start(self, _: dict[str, Any]) -> bytes:
        return b"" if self._greeted else self._greeting()

    def _block_start(self, event: dict[str, Any]) -> bytes:
        start = event.get("start")
        use = start.get("toolUse") if isinstance(start, dict) else None
        if not isinstance(use, dict) or is_own_tool(use):
            self._server_tool = self._server_tool or bool(start)
            return b""
        self.started = True
        at = _index(event)
        self._calls[at] = len(self._calls)
        self._argument_heads[at] = (
            self._delta_head + b'{"tool_calls":[{"index":%d,"function":{"arguments":' % self._calls[at]
        )
        self._without_arguments.add(at)
        self._texts.append(str(use.get("name") or ""))
        function = {"name": use.get("name"), "arguments": ""}
        call = {"index": self._calls[at], "id": use.get("toolUseId"), "type": "function", "function": function}
        return self._delta({"tool_calls": [call]})

    def _block_delta(self, event: dict[str, Any]) -> bytes:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            raise UpstreamMalformed("A delta in the provider's stream is not an object.")
        if isinstance(text := delta.get("text"), str):
            if not text:
                return b""
            self.started = True
            self._texts.append(text)
            self._content.append(text)
            if self._greeted:  # most chunks are this one
                return b"".join((self._text_head, orjson.dumps(text), self._text_tail))
            return self._delta({"content": text})
        if isinstance(use := delta.get("toolUse"), dict):
            return self._arguments(_index(event), use.get("input"))
        if isinstance(thought := delta.get("reasoningContent"), dict):
            return self._thought(_index(event), thought)
        return b""

    def _arguments(self, at: int, piece: Any) -> bytes:
        head = self._argument_heads.get(at)
        if head is None or not isinstance(piece, str) or not piece:
            return b""
        self._without_arguments.discard(at)
        self._texts.append(piece)
        return b"".join((head, orjson.dumps(piece), b"}}]}", self._delta_tail))

    def _thought(self, at: int, thought: dict[str, Any]) -> bytes:
        index = self._thoughts.setdefault(at, len(self._thoughts))
        if isinstance(text := thought.get("text"), str) and text:
            self.started = True
            self._texts.append(text)
            return self._delta({"reasoning_content": text, "reasoning_details": [self._detail(index, text=text)]})
        if isinstance(signature := thought.get("signature"), str) and signature:
            return self._delta({"reasoning_details": [self._detail(index, signature=signature)]})
        if isinstance(redacted := thought.get("redactedContent"), str) and redacted:
            self._redacted.setdefault(at, []).append(redacted)
        return b""

    def _detail(self, index: int, **told: str) -> dict[str, Any]:
        if index in self._placed:
            return {"type": "reasoning.text", **told, "index": index}
        self._placed.add(index)
        return reasoning_text(index, self._before, **told)

    @property
    def _before(self) -> Before:
        return Before(sum(map(len, self._content)), len(self._calls), self._server_tool)

    def _block_stop(self, event: dict[str, Any]) -> bytes:
        at = _index(event)
        out = b""
        if at in self._without_arguments:
            self._without_arguments.discard(at)
            out = self._delta({"tool_calls": [{"index": self._calls[at], "function": {"arguments": "{}"}}]})
        if pieces := self._redacted.pop(at, None):
            detail = reasoning_encrypted(self._thoughts[at], self._before, _joined(pieces))
            out += self._delta({"reasoning_details": [detail]})
        return out

    def _message_stop(self, event: dict[str, Any]) -> bytes:
        self.finish_reason = finish_reason_of(event.get("stopReason"))
        self.started = True
        self._told |= extra_fields(event)
        return b"" if self._greeted else self._greeting()

    def _metadata(self, event: dict[str, Any]) -> bytes:
        if self.finish_reason is None:
            raise UpstreamMalformed("The provider's stream counts an answer that it did not end.")
        self.usage = read_converse_usage(event.get("usage"), event.get("serviceTier"))
        self.model = routed_model(event)
        self._told |= extra_fields(event)
        self._counted = True
        return self._finish_chunk()

    def _finish_chunk(self) -> bytes:
        if self._finish_sent:
            return b""
        self._finish_sent = True
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": self.finish_reason}
        return b"data: " + self._head + b"," + orjson.dumps({"choices": [choice], **self._told})[1:] + b"\n\n"


def _index(event: dict[str, Any]) -> int:
    at = event.get("contentBlockIndex", 0)
    if not isinstance(at, int):
        raise UpstreamMalformed("A block in the provider's stream has no whole number as its index.")
    return at


def _joined(pieces: list[str]) -> str:
    """Pieces of base64, each padded by itself, as one; a single one stays as it is."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(base64.b64decode(piece) for piece in pieces)).decode()
    except binascii.Error:
        raise UpstreamMalformed("The provider's redacted reasoning is not base64.") from None
