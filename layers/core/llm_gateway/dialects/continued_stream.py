"""The rest of a broken stream, from another model, in the chunks of the first one.

The caller sees one answer: one `id` and `created`, one role, text without a seam, and usage that counts both. `model`
is the one that writes. Its `reasoning_details` count on from those that went out: merged with them, a signature would
stand for a thought that it was not made for. Members of a chunk are edited in its bytes, so that everything else
stays as it came.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson

from llm_gateway.dialects.dialect import Said, SplitEvents, StreamTranslator
from llm_gateway.dialects.openai_chat_stream import details_end, says_more
from llm_gateway.dialects.seam import Seam
from llm_gateway.domain.usage import Usage
from llm_gateway.schemas.json_splice import elements, remove_member, set_member, value_of
from llm_gateway.schemas.json_text import parse_json

_DONE = b"[DONE]"
_ONE_OF_A_STREAM = ("id", "created")
_PROMPT_DETAILS = {
    "cached_tokens": "cached_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "audio_tokens": "input_audio_tokens",
}
_COMPLETION_DETAILS = {"reasoning_tokens": "reasoning_tokens", "audio_tokens": "output_audio_tokens"}


class ContinuedStream:
    """`StreamTranslator` of a continuation: `inner` translates it, `said` is what the caller has of the answer.

    `usage`, `model`, `finish_reason` are the continuation's own; a usage that goes to the caller adds `before`, what
    came before it. `split_events` is that of server-sent events, whatever framing `inner` reads. `said()` is of the
    whole answer, so that a continuation can be continued. A model that begins the answer anew is `UpstreamMalformed`
    before any of it goes out.
    """

    def __init__(
        self, inner: StreamTranslator, said: Said, before: Usage, *, echoes: bool, split_events: SplitEvents
    ) -> None:
        self._inner = inner
        self._before = before
        self._split_events = split_events
        self._seam: Seam | None = Seam(said.content, echoes=echoes) if said.content else None
        """Until it is known where the new text begins."""
        self._begun = ""
        self._held: list[tuple[bytes, str]] = []
        """Chunks whose texts make up `_begun`."""
        self._first = said
        self._content: list[str] = []
        self._plain = said.plain
        self._details = said.details
        self._text_before = len(said.content)
        """Characters of the content in front of the continuation's own first one."""
        self._one = {name: orjson.dumps(said.opening[name]) for name in _ONE_OF_A_STREAM if name in said.opening}
        self.started = False

    @property
    def contents(self) -> int:
        return self._inner.contents

    @property
    def model(self) -> str | None:
        return self._inner.model

    @property
    def finish_reason(self) -> str | None:
        return self._inner.finish_reason

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def service_tier(self) -> str | None:
        return self._inner.service_tier

    @property
    def complete(self) -> bool:
        return self._inner.complete

    @property
    def whole(self) -> bool:
        return self._inner.whole

    def text(self) -> str:
        return self._inner.text()

    def said(self) -> Said:
        return Said(self._first.content + "".join(self._content), self._plain, self._first.opening, self._details)

    def feed(self, block: bytes) -> bytes:
        return self._joined(self._inner.feed(block))

    def finish(self, rest: bytes) -> bytes:
        return self._joined(self._inner.finish(rest))

    def _joined(self, chunks: bytes) -> bytes:
        events = self._split_events(chunks) if chunks else ()
        return b"".join([self._passed(event.data) for event in events if event.data])

    def _passed(self, data: bytes) -> bytes:
        if data.strip() == _DONE:
            return self._released(ended=True) + b"data: [DONE]\n\n"
        chunk = parse_json(data)
        choice = _choice(chunk) or {}
        delta = _delta(choice)
        content = delta.get("content")
        if self._seam is not None and isinstance(content, str) and content:
            self._held.append((data, content))
            self._begun += content
            return self._released(ended=bool(choice.get("finish_reason")) or says_more(delta))
        ends = choice.get("finish_reason") or says_more(delta)
        return (self._released(ended=True) if ends else b"") + self._one_chunk(data, chunk, content)

    def _released(self, *, ended: bool) -> bytes:
        """What was held back, once it is known how it joins what the caller has."""
        if self._seam is None:
            return b""
        cut = self._seam.cut(self._begun, ended=ended)
        if cut is None:
            return b""
        self._seam = None
        self._text_before -= cut
        out = []
        for data, content in self._held:
            new = content[cut:]
            cut = max(0, cut - len(content))
            shown = data if new == content else _in_delta(data, partial(_with_content, new))
            out.append(self._one_chunk(shown, parse_json(shown), new))
        self._held.clear()
        return b"".join(out)

    def _one_chunk(self, data: bytes, chunk: Mapping[str, Any], content: Any) -> bytes:
        """A chunk as one of the first stream's; nothing for one that would only say who speaks."""
        choice = _choice(chunk)
        usage = chunk.get("usage")
        if choice is not None:
            delta = _delta(choice)
            says = any(value not in (None, "", [], {}) for name, value in delta.items() if name != "role")
            if not says and not choice.get("finish_reason") and not usage:
                return b""
            if "role" in delta:
                data = _in_delta(data, lambda delta: remove_member(delta, "role"))
            if delta.get("reasoning_details"):
                data = _in_delta(data, self._with_details)
                self._details = max(self._details, self._first.details + details_end(delta))
            if isinstance(content, str):
                self._content.append(content)
            self._plain = self._plain and not says_more(delta) and choice.get("index", 0) == 0
            self.started = True
        for name, value in self._one.items():
            data = set_member(data, name, value)
        if isinstance(usage, dict):
            data = set_member(data, "usage", orjson.dumps(_summed(usage, self._before)))
        return b"data: " + data.replace(b"\n", b" ") + b"\n\n"

    def _with_details(self, delta: bytes) -> bytes:
        """The delta, its `reasoning_details` in their places in the whole answer."""
        moved = [self._moved(detail) for detail in elements(value_of(delta, "reasoning_details") or b"[]")]
        return set_member(delta, "reasoning_details", b"[" + b",".join(moved) + b"]")

    def _moved(self, detail: bytes) -> bytes:
        told = parse_json(detail)
        if not isinstance(told, dict):
            return detail
        for name, before in (
            ("index", self._first.details),
            ("position", self._first.details),
            ("offset", self._text_before),
            ("span", self._text_before),
        ):
            match told.get(name):
                case int(at):
                    detail = set_member(detail, name, b"%d" % (at + before))
                case [int(start), int(end)]:
                    detail = set_member(detail, name, b"[%d,%d]" % (start + before, end + before))
        return detail


def _choice(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The chunk's choice; the translators have seen to it that those in a list are objects."""
    choices = chunk.get("choices")
    return choices[0] if isinstance(choices, list) and choices else None


def _delta(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    delta = choice.get("delta")
    return delta if isinstance(delta, dict) else {}


def _with_content(content: str, delta: bytes) -> bytes:
    return set_member(delta, "content", orjson.dumps(content))


def _in_delta(data: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """The chunk with the delta of its first choice edited."""
    first, *others = elements(value_of(data, "choices") or b"[]")
    first = set_member(first, "delta", edit(value_of(first, "delta") or b"{}"))
    return set_member(data, "choices", b"[" + b",".join([first, *others]) + b"]")


def _summed(told: Mapping[str, Any], before: Usage) -> dict[str, Any]:
    """A chunk's usage and what came before it. A cost stays only where it is known of both."""
    prompt = (told.get("prompt_tokens") or 0) + before.input_tokens
    completion = (told.get("completion_tokens") or 0) + before.output_tokens
    # More in total than prompt and completion is what some vendors count beside them.
    apart = (told.get("total_tokens") or 0) - (told.get("prompt_tokens") or 0) - (told.get("completion_tokens") or 0)
    summed = {
        **told,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion + max(0, apart),
    }
    for name, members in (
        ("prompt_tokens_details", _PROMPT_DETAILS),
        ("completion_tokens_details", _COMPLETION_DETAILS),
    ):
        details = dict(told.get(name) or {})
        for member, field in members.items():
            if count := getattr(before, field):
                details[member] = (details.get(member) or 0) + count
        if details:
            summed[name] = details
    if "cost" in told:
        summed.pop("cost")
        if isinstance(told["cost"], int | float) and before.told_cost_usd is not None:
            summed["cost"] = told["cost"] + float(before.told_cost_usd)
    return summed
