"""The passthrough of a Chat Completions stream: bytes go on as they came, and only what must be read is parsed.

A block of plain chunks that hold no usage, no finish reason and no error costs two searches by regular expression.
Source of the chunks: https://platform.openai.com/docs/api-reference/chat-streaming
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.dialects.dialect import SplitEvents, StreamEvent
from llm_gateway.dialects.openai_errors import error_inside
from llm_gateway.dialects.openai_usage import read_usage
from llm_gateway.dialects.service_tier import named_tier
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamFailed, UpstreamMalformed

_PLAIN = re.compile(rb"(?:data: ?\{[^\r\n]*\}\n\n)+")
_TELLING = re.compile(rb'"usage"\s*:\s*\{|"finish_reason"\s*:\s*"|"error"\s*:\s*[^\sn]')
_DONE = b"[DONE]"
_DONE_EVENT = b"data: [DONE]\n\n"
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_FOLD_AT = 4 << 20


class OpenAIStream:
    """`StreamTranslator` of the `openai_chat` dialect. Fed with blocks of whole events."""

    def __init__(self, *, hide_usage: bool, choices: int, split_events: SplitEvents) -> None:
        self.started = False
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self._hide_usage = hide_usage
        self._split_events = split_events
        self.service_tier: str | None = None
        self._done = False
        self._failure: UpstreamError | None = None
        self._expected = choices
        self._any_choice = False
        self._finished: set[int] = set()
        self._seen: list[bytes] = []
        self._seen_size = 0
        self._texts: list[str] = []

    def feed(self, block: bytes) -> bytes:
        if self.started and not self._done and _PLAIN.fullmatch(block) and not _TELLING.search(block):
            self._remember(block)
            return block
        passed = self._read(block)
        self._remember(passed)
        return passed

    def finish(self, rest: bytes) -> bytes:
        """Ends with `[DONE]`, the provider's or ours: a stream whose every choice gave its finish reason is whole.

        Raises the failure that `feed` came upon behind content.
        """
        if self._failure is not None:
            raise self._failure
        tail = self._feed_unterminated(rest) if rest.strip(b"\r\n") else b""
        if self._done and not self._any_choice:
            raise UpstreamMalformed("The provider's stream ended without a single choice.")
        if not self._done and len(self._finished) < self._expected:
            raise UpstreamCut("The provider's stream ended before the answer was complete.")
        return tail + _DONE_EVENT

    @property
    def complete(self) -> bool:
        return self._done or self._failure is not None

    def text(self) -> str:
        self._fold()
        return "".join(self._texts)

    def _read(self, block: bytes) -> bytes:
        """What passes of a block. A failure behind content that may go out is kept until that is out."""
        passed: list[bytes] = []
        begun = self.started
        for event in self._split_events(block):
            try:
                if self._passes(event):
                    passed.append(event.raw)
            except UpstreamError as failure:
                if not (begun and passed):
                    self._remember(b"".join(passed))
                    raise
                self._failure = failure
                break
        return b"".join(passed)

    def _feed_unterminated(self, rest: bytes) -> bytes:
        """A last event without its blank line is legal; one that is torn says where the stream was cut."""
        try:
            return self.feed(rest + b"\n\n")
        except UpstreamMalformed:
            raise UpstreamCut("The provider's stream ended in the middle of an event.") from None

    def _passes(self, event: StreamEvent) -> bool:
        """Reads one event, and says whether the caller gets it."""
        if self._done or not event.data:
            return not self._done
        if event.data.strip() == _DONE:
            self._done = True
            return False
        chunk = _object(event.data)
        if failure := error_inside(chunk):
            raise failure
        if event.event == "error":
            raise UpstreamFailed(str(chunk.get("message") or "The provider reported an error in its stream."))
        if self.model is None and isinstance(chunk.get("model"), str):
            self.model = chunk["model"] or None
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            self._read_choice(choice)
        self.service_tier = named_tier(chunk.get("service_tier")) or self.service_tier
        if usage := read_usage(chunk.get("usage"), self.service_tier):
            self.usage = usage
            return bool(choices) or not self._hide_usage
        return True

    def _read_choice(self, choice: Any) -> None:
        if not isinstance(choice, dict):
            raise UpstreamMalformed("A choice in the provider's stream is not an object.")
        if failure := error_inside(choice):
            raise failure
        index = choice.get("index", 0)
        if not isinstance(index, int):
            raise UpstreamMalformed("A choice in the provider's stream has no whole number as its index.")
        self._any_choice = True
        reason = choice.get("finish_reason")
        if reason == "error":
            raise UpstreamFailed("The provider ended its stream with an error.")
        if isinstance(reason, str) and reason:
            self._finished.add(index)
            self.finish_reason = self.finish_reason or reason
        delta = choice.get("delta")
        if reason or (isinstance(delta, dict) and _has_content(delta)):
            self.started = True

    def _remember(self, block: bytes) -> None:
        """Keeps what the caller got, for an estimate should no usage come: unread, and in bounded memory."""
        if self.usage is None and block:
            self._seen.append(block)
            self._seen_size += len(block)
            if self._seen_size > _FOLD_AT:
                self._fold()

    def _fold(self) -> None:
        for event in self._split_events(b"".join(self._seen)):
            if event.data:
                for choice in _object(event.data).get("choices") or ():
                    delta = choice.get("delta")
                    if isinstance(delta, dict):
                        self._texts.extend(written_in(delta))
        self._seen.clear()
        self._seen_size = 0


def written_in(message: Mapping[str, Any]) -> list[str]:
    """Every text a model wrote in a message or a delta: content, reasoning, refusals, tool calls."""
    texts = [message.get(name) for name in _TEXTS]
    calls = [call.get("function") for call in message.get("tool_calls") or () if isinstance(call, dict)]
    for function in [*calls, message.get("function_call")]:
        if isinstance(function, dict):
            texts += [function.get("name"), function.get("arguments")]
    return [text for text in texts if isinstance(text, str)]


def _has_content(delta: Mapping[str, Any]) -> bool:
    """Whether a delta holds anything but the role: text, a tool call, audio, or a field that is not known here."""
    return any(value not in (None, "", [], {}) for name, value in delta.items() if name != "role")


def _object(data: bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("The provider sent an event that is not JSON.") from None
    if not isinstance(chunk, dict):
        raise UpstreamMalformed("The provider sent an event that is not a JSON object.")
    return chunk
