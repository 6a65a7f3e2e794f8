"""The passthrough of a Chat Completions stream: bytes go on as they came.

Each event is parsed, which alone tells one that is torn; of a chunk without usage, finish reason or error nothing more
is looked at than that it has none.
Source of the chunks: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.dialects.dialect import Said, SplitEvents, StreamEvent
from llm_gateway.dialects.openai_errors import error_inside
from llm_gateway.dialects.openai_usage import read_usage
from llm_gateway.dialects.service_tier import named_tier
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamFailed, UpstreamMalformed
from llm_gateway.schemas.json_text import parse_json

_DONE = b"[DONE]"
_DONE_EVENT = b"data: [DONE]\n\n"
_DATA = b"data:"
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_BESIDE_CONTENT = frozenset({"role", "reasoning_content", "reasoning", "reasoning_details", "annotations"})
"""Members of a delta that another model need not know of in order to go on with the content."""
_OPENING = ("id", "created", "model")
_FOLD_AT = 4 << 20


class OpenAIStream:
    """`StreamTranslator` of the `openai_chat` dialect. Fed with blocks of whole events."""

    def __init__(self, *, hide_usage: bool, choices: int, split_events: SplitEvents) -> None:
        self.started = False
        self.contents = 0
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
        self._names_reasons = False
        """Whether its choices have a finish reason at all, null until the last; some vendors' never do."""
        self._finished: set[int] = set()
        self._seen: list[bytes] = []
        self._seen_size = 0
        self._texts: list[str] = []
        self._content: list[str] = []
        self._plain = True
        self._details = 0
        self._opening: dict[str, Any] = {}
        self._said: Said | None = None

    def feed(self, block: bytes) -> bytes:
        if self.started and not self._done and self._is_plain(block):
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
        tail = b""
        if rest.strip(b"\r\n"):
            # Without an end the caller never gets the tail: it has not been said.
            self._said = None if self.whole else self.said()
            tail = self._feed_unterminated(rest)
        if self._done and not self._any_choice:
            raise UpstreamMalformed("The provider's stream ended without a single choice.")
        if not self.whole and (not self._done or self._names_reasons):
            # A vendor that has reasons gives one to a whole answer: `[DONE]` alone may end one that was cut short.
            raise UpstreamCut("The provider's stream ended before the answer was complete.")
        return tail + _DONE_EVENT

    @property
    def complete(self) -> bool:
        return self._done or self._failure is not None

    @property
    def whole(self) -> bool:
        return len(self._finished) >= self._expected

    def text(self) -> str:
        self._fold()
        return "".join(self._texts)

    def said(self) -> Said:
        if self._said is not None:
            return self._said
        self._fold()
        return Said("".join(self._content), self._plain, self._opening, self._details)

    def _is_plain(self, block: bytes) -> bool:
        """Whether it is a line of JSON per event and none that has to be read."""
        end = len(block) - 2
        if not block.startswith(_DATA) or not block.endswith(b"\n\n") or b"\r" in block:
            return False
        if block.find(b"\n") == end:
            return self._is_plain_chunk(block[5:])
        events = block[5:end].split(b"\n\ndata:")
        return block.count(b"\n") == 2 * len(events) and all(map(self._is_plain_chunk, events))

    def _is_plain_chunk(self, data: bytes) -> bool:
        try:
            chunk = orjson.loads(data)
            (choice,) = chunk["choices"]
            delta = choice["delta"]
            if chunk.get("usage") is not None or chunk.get("error") is not None or choice.get("error") is not None:
                return False
            if choice.get("finish_reason") or choice.get("index", 0).__class__ is not int:
                return False
            if not self._names_reasons and "finish_reason" in choice:
                self._names_reasons = True
            if delta.get("content") or delta.get("tool_calls") or _has_content(delta):
                self.contents += 1
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return True

    def _read(self, block: bytes) -> bytes:
        """What passes of a block. A failure behind content that may go out is kept until that is out."""
        passed: list[bytes] = []
        begun = self.started
        for event in self._split_events(block):
            try:
                if self._passes(event):
                    passed.append(event.raw)
            except UpstreamError as failure:
                if self.whole and isinstance(failure, UpstreamMalformed):
                    continue  # nothing of the answer can have been lost with it
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
        if self._done:
            return False
        if not event.data.strip():
            return _is_comment(event.raw)
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
        choices = chunk.get("choices", ())
        if choices is None:
            raise UpstreamMalformed("A chunk of the provider's stream has null where its choices belong.")
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
        self._names_reasons = self._names_reasons or "finish_reason" in choice
        reason = choice.get("finish_reason")
        if reason == "error":
            raise UpstreamFailed("The provider ended its stream with an error.")
        if isinstance(reason, str) and reason:
            self._finished.add(index)
            self.finish_reason = self.finish_reason or reason
        delta = choice.get("delta")
        if reason or (isinstance(delta, dict) and _has_content(delta)):
            self.started = True
            self.contents += 1

    def _remember(self, block: bytes) -> None:
        """Keeps what the caller got, for an estimate and for a continuation: unread, and in bounded memory."""
        if block:
            self._seen.append(block)
            self._seen_size += len(block)
            if self._seen_size > _FOLD_AT:
                self._fold()

    def _fold(self) -> None:
        for event in self._split_events(b"".join(self._seen)):
            if event.data.strip():
                chunk = _object(event.data)
                self._opening = self._opening or {name: chunk[name] for name in _OPENING if chunk.get(name)}
                choices = chunk.get("choices")
                for choice in choices if isinstance(choices, list) else ():
                    self._fold_choice(choice)
        self._seen.clear()
        self._seen_size = 0

    def _fold_choice(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        self._texts.extend(written_in(delta))
        content = delta.get("content")
        if isinstance(content, str):
            self._content.append(content)
        self._details = max(self._details, details_end(delta))
        if choice.get("index", 0) != 0 or says_more(delta):
            self._plain = False


def written_in(message: Mapping[str, Any]) -> list[str]:
    """Every text a model wrote in a message or a delta: content, reasoning, refusals, tool calls."""
    texts = [message.get(name) for name in _TEXTS]
    calls = [call.get("function") for call in message.get("tool_calls") or () if isinstance(call, dict)]
    for function in [*calls, message.get("function_call")]:
        if isinstance(function, dict):
            texts += [function.get("name"), function.get("arguments")]
    return [text for text in texts if isinstance(text, str)]


def says_more(delta: Mapping[str, Any]) -> bool:
    """Whether a delta holds what another model would have to know of besides the text: a call, a refusal, audio, …"""
    beyond = {name: value for name, value in delta.items() if name not in _BESIDE_CONTENT}
    if isinstance(beyond.get("content"), str):
        del beyond["content"]
    return _has_content(beyond)


def details_end(delta: Mapping[str, Any]) -> int:
    """The first `index` after those of a delta's `reasoning_details`; 0 where it has none."""
    details = delta.get("reasoning_details")
    found = [detail.get("index") for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    return max((index + 1 for index in found if isinstance(index, int)), default=0)


def _has_content(delta: Mapping[str, Any]) -> bool:
    """Whether a delta holds anything but the role: text, a tool call, audio, or a field that is not known here."""
    return any(value not in (None, "", [], {}) for name, value in delta.items() if name != "role")


def _is_comment(raw: bytes) -> bool:
    """Whether an event without data has nothing to it but comments: for any other the SDKs parse the data it lacks."""
    return all(line.startswith(b":") for line in raw.splitlines() if line)


def _object(data: bytes) -> dict[str, Any]:
    try:
        chunk = parse_json(data)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("The provider sent an event that is not JSON.") from None
    if not isinstance(chunk, dict):
        raise UpstreamMalformed("The provider sent an event that is not a JSON object.")
    return chunk
