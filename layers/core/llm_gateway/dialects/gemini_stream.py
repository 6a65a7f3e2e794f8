"""A Gemini stream (`streamGenerateContent?alt=sse`) as chunks of Chat Completions.

Every event is a `GenerateContentResponse`. The wire has no final event: a stream is whole once every candidate has told
its finish reason, or the prompt was blocked. Nearly all events
are one text or one call of a candidate that has begun: those take a short way.
Sources: https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent,
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from llm_gateway.dialects.dialect import Said, SplitEvents
from llm_gateway.dialects.gemini_candidate import CandidateReader, Delta, log_probabilities, written_in
from llm_gateway.dialects.gemini_errors import error_inside
from llm_gateway.dialects.gemini_raw import function_arguments, written_arguments
from llm_gateway.dialects.gemini_usage import billed_searches, read_usage, search_queries, write_usage
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed

_TAIL = b',"finish_reason":null}]}\n\n'

_PLAIN_MEMBERS = frozenset({"content", "reasoning_content", "reasoning_details"})
"""Of a delta: what another model need not know of, and the content that it goes on with."""
_UNPLAIN = frozenset({"finishReason", "logprobsResult", "groundingMetadata"})
"""Members of a candidate that say more than its one part."""


class GeminiStream:
    """`StreamTranslator` of the `gemini_generate_content` dialect. `created` is in Unix seconds."""

    service_tier: str | None = None  # comes with the counts

    def __init__(
        self,
        *,
        model: str,
        created: int,
        fallback_id: str,
        choices: int,
        include_usage: bool,
        split_events: SplitEvents,
    ) -> None:
        """`fallback_id` names the answer where Gemini gives it no `responseId`."""
        self.started = False
        self.contents = 0
        self.model: str | None = None
        self.finish_reason: str | None = None
        self._metadata: Mapping[str, Any] | None = None
        """The last counts, as they came: read when somebody asks."""
        self._asked_model = model
        self._created = created
        self._id: str | None = None
        self._fallback_id = fallback_id
        self._expected = choices
        self._include_usage = include_usage
        self._split_events = split_events
        self._readers: dict[int, CandidateReader] = {}
        self._heads: dict[int, bytes] = {}
        """Of each choice that has begun: what its chunks begin with."""
        self._failure: UpstreamError | None = None
        self._texts: list[str] = []
        self._content: list[str] = []
        self._plain = True
        self._said: Said | None = None
        self._head = b""
        self._queries: set[str] = set()
        self._counted = False
        """Whether the counts of the end have come."""

    def feed(self, block: bytes) -> bytes:
        """What passes of a block. A failure behind content that may go out is kept until that is out."""
        out: list[bytes] = []
        begun = self.started
        for data in _plain_events(block) or [event.data for event in self._split_events(block)]:
            try:
                if data and self._failure is None:
                    answer = _object(data)
                    chunk = self._short(answer, data)
                    if chunk is None:
                        out.extend(self._read(answer, data))
                    else:
                        out.append(chunk)
            except UpstreamError as failure:
                if self.whole and isinstance(failure, UpstreamMalformed):
                    continue  # nothing of the answer can have been lost with it
                if not begun:
                    raise
                self._failure = failure
        if out:
            self.contents += 1
        return b"".join(out)

    def finish(self, rest: bytes) -> bytes:
        """Raises the failure that `feed` came upon behind content; `UpstreamCut` where a candidate is not finished."""
        tail = b""
        if rest.strip(b"\r\n") and self._failure is None:
            self._said = None if self.whole else self.said()  # without an end the caller never gets the tail
            tail = self._feed_unterminated(rest)
        if self._failure is not None:
            raise self._failure
        if not self._readers or any(reader.finish_reason is None for reader in self._readers.values()):
            raise UpstreamCut("The provider's stream ended before the answer was complete.")
        usage = self.usage
        if self._include_usage and usage is not None:
            told = orjson.dumps(write_usage(usage))
            tail += b'%b"choices":[],"usage":%b}\n\n' % (self._head or self._make_head(), told)
        return tail + b"data: [DONE]\n\n"

    def _feed_unterminated(self, rest: bytes) -> bytes:
        """A last event without its blank line is legal; one that is torn says where the stream was cut."""
        torn = UpstreamCut("The provider's stream ended in the middle of an event.")
        try:
            tail = self.feed(rest + b"\n\n")
        except UpstreamMalformed:
            raise torn from None
        if isinstance(self._failure, UpstreamMalformed):
            self._failure = torn
        return tail

    @property
    def usage(self) -> Usage | None:
        return read_usage(self._metadata, billed_searches(self._queries, self.model or self._asked_model))

    @property
    def complete(self) -> bool:
        return self._failure is not None or (self._counted and self.whole)

    @property
    def whole(self) -> bool:
        if self.finish_reason is None:
            return False
        return sum(reader.finish_reason is not None for reader in self._readers.values()) >= self._expected

    def text(self) -> str:
        return "".join(self._texts)

    def said(self) -> Said:
        if self._said is not None:
            return self._said
        model = self.model or self._asked_model
        opening = {"id": self._id or self._fallback_id, "created": self._created, "model": model}
        plain = self._plain and not self._readers.keys() - {0}
        details = self._readers[0].details if 0 in self._readers else 0
        return Said("".join(self._content), plain, opening, details)

    def _short(self, answer: Mapping[str, Any], data: bytes) -> bytes | None:
        """The chunk for one plain text or call, and its counts. None for any other event, of which nothing was read."""
        try:
            (candidate,) = answer["candidates"]
            (part,) = candidate["content"]["parts"]
            index = candidate.get("index", 0)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        if type(part) is not dict or len(part) != 1 or type(index) is not int or self.model is None:
            return None
        if not _UNPLAIN.isdisjoint(candidate) or "error" in answer:
            return None
        head = self._heads.get(index)
        if head is None or self._readers[index].finish_reason is not None:
            return None
        if type(text := part.get("text")) is str and text:
            self._readers[index].write(text)
            self._texts.append(text)
            self._content.append(text)
            chunk = b"".join((head, b'{"content":', orjson.dumps(text), b"}", _TAIL))
        elif type(call := part.get("functionCall")) is dict and (
            spelled := written_arguments(data, [call.get("args")])
        ):
            (delta,) = self._readers[index].read_part(part, spelled[0])
            self._plain = False
            self._texts += (delta["tool_calls"][0]["function"]["name"], spelled[0])
            chunk = b"".join((head, orjson.dumps(delta), _TAIL))
        else:
            return None
        self._read_usage(answer, last=self.finish_reason is not None)
        return chunk

    def _read(self, answer: Mapping[str, Any], data: bytes) -> Iterator[bytes]:
        if failure := error_inside(answer):
            raise failure
        if self._id is None:
            self._id = answer.get("responseId") or self._fallback_id
        if isinstance(answer.get("modelVersion"), str):
            self.model = self.model or answer["modelVersion"]
        if b'"webSearchQueries"' in data:
            self._queries |= search_queries(answer.get("candidates"))
        self._read_usage(answer, last=self.finish_reason is not None or _is_last(answer))
        candidates = answer.get("candidates") or []
        if not isinstance(candidates, list):
            raise UpstreamMalformed("The candidates in the provider's stream are not a list.")
        arguments = function_arguments(answer, data)
        for at, candidate in enumerate(candidates):
            if not isinstance(candidate, dict):
                raise UpstreamMalformed("A candidate in the provider's stream is not an object.")
            yield from self._read_candidate(candidate, arguments.get(at, {}))
        if not candidates and (reason := blocked(answer)):
            yield from self._read_candidate(reason, {})

    def _read_usage(self, answer: Mapping[str, Any], *, last: bool) -> None:
        """Early chunks may count the prompt alone: that is no count of an answer that has begun."""
        metadata = answer.get("usageMetadata")
        if not isinstance(metadata, dict):
            return
        if last or "candidatesTokenCount" in metadata or "thoughtsTokenCount" in metadata:
            self._metadata = metadata
            self._counted = last

    def _read_candidate(self, candidate: Mapping[str, Any], arguments: Mapping[int, str]) -> Iterator[bytes]:
        index = candidate.get("index", 0)
        if not isinstance(index, int):
            raise UpstreamMalformed("A candidate in the provider's stream has no whole number as its index.")
        reader = self._readers.get(index)
        if reader is None:
            reader = self._readers[index] = CandidateReader(self._id or self._fallback_id, index)
        if reader.finish_reason is not None:
            return  # what follows the end is not for the caller
        logprobs = log_probabilities(candidate)
        for delta in reader.read(candidate, arguments):
            yield self._delta(index, delta, logprobs if "content" in delta else None)
            logprobs = None if "content" in delta else logprobs
        for delta in reader.finish(candidate):
            yield self._delta(index, delta)
        if reader.finish_reason is not None:
            self.finish_reason = self.finish_reason or reader.finish_reason
            yield self._delta(index, {}, finish_reason=reader.finish_reason)

    def _delta(
        self,
        index: int,
        delta: Delta,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        """A chunk, behind the one with the role if it is the choice's first."""
        self.started = True
        self._texts += written_in(delta)
        self._remember(delta)
        role = b""
        if index not in self._heads:
            self._heads[index] = b'%b"choices":[{"index":%d,"delta":' % (self._head or self._make_head(), index)
            role = self._chunk(index, {"role": "assistant"})
        return role + self._chunk(index, delta, finish_reason=finish_reason, logprobs=logprobs)

    def _remember(self, delta: Delta) -> None:
        if "content" in delta:
            self._content.append(delta["content"])
        if not _PLAIN_MEMBERS.issuperset(delta):
            self._plain = False

    def _chunk(
        self, index: int, delta: Delta, *, finish_reason: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> bytes:
        choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish_reason}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        return b'%b"choices":[%b]}\n\n' % (self._head or self._make_head(), orjson.dumps(choice))

    def _make_head(self) -> bytes:
        """What all chunks begin with: made once, when the first one goes out."""
        head = {
            "id": self._id or self._fallback_id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.model or self._asked_model,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1] + b","
        return self._head


def blocked(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The candidate that stands for a prompt which was blocked: such an answer has none of its own.

    Source: https://ai.google.dev/api/generate-content#PromptFeedback
    """
    feedback = answer.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    if not isinstance(feedback, dict) or not reason:
        return None
    return {"finishReason": "SAFETY", "finishMessage": feedback.get("blockReasonMessage")}


def _is_last(answer: Mapping[str, Any]) -> bool:
    candidates = answer.get("candidates")
    if not isinstance(candidates, list):
        return blocked(answer) is not None
    return any(isinstance(each, dict) and each.get("finishReason") for each in candidates)


def _plain_events(block: bytes) -> Sequence[bytes] | None:
    """The data of events that are a line of JSON each, as Google sends them; None where the parser has to see to it."""
    if not block.startswith(b"data: {"):
        return None
    end = b"\r\n\r\n" if block.endswith(b"\r\n\r\n") else b"\n\n"
    half = len(end) // 2
    if block.find(b"\n") == len(block) - half - 1 and block.endswith(end):
        if block.find(b"\r") == (len(block) - 4 if half == 2 else -1):
            return (block[6:],)  # one event; a JSON parser skips what stands behind
        return None
    events = block[6:].removesuffix(end).split(end + b"data: ")
    number = len(events)
    if block.count(b"\n") != 2 * number or block.count(b"\r") != 2 * number * (half - 1) or not block.endswith(end):
        return None
    return events


def _object(data: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("The provider sent an event that is not JSON.") from None
    if not isinstance(answer, dict):
        raise UpstreamMalformed("The provider sent an event that is not a JSON object.")
    return answer
