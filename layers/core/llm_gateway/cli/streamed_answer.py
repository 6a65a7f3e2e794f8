"""One streamed chat completion, read as it comes: for `chat`, and for the live call of `doctor`."""

import json as jsonlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llm_gateway.cli.failures import Failure, Refused
from llm_gateway.upstream.framing import SseFramer

if TYPE_CHECKING:
    from llm_gateway.cli.client import Gateway

Message = Mapping[str, str]
_ASKED_AFTER_S: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""The ledger's entry is written after the last byte: deployed, that takes some milliseconds."""


@dataclass
class StreamedAnswer:
    """What has come so far. `usage` is OpenAI's; `first_s` the seconds until there was something to read."""

    text: str = ""
    model: str | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    request_id: str | None = None
    first_s: float | None = None
    total_s: float = 0.0
    whole: bool = field(default=False, repr=False)


class Broken(Refused):
    """The stream ended before the answer did; what came of it was shown."""


def stream_answer(
    gateway: "Gateway",
    messages: Sequence[Message],
    model: str | None,
    show: Callable[[str], None],
    into: StreamedAnswer | None = None,
) -> StreamedAnswer:
    """Shows the answer piece by piece. `into` keeps what came where the caller breaks off.

    Raises `Broken`, and what `Gateway.stream` raises.
    """
    answer = StreamedAnswer() if into is None else into
    body = {"messages": list(messages), "stream": True, "stream_options": {"include_usage": True}}
    if model is not None:
        body["model"] = model
    began = time.perf_counter()
    try:
        with gateway.stream("POST", "/v1/chat/completions", json=body) as response:
            answer.request_id = response.headers.get("x-request-id")
            for chunk in _chunks(response.iter_bytes(), answer):
                text = _take(chunk, answer)
                if not text:
                    continue
                if answer.first_s is None:
                    answer.first_s = time.perf_counter() - began
                answer.text += text
                show(text)
    finally:
        answer.total_s = time.perf_counter() - began
    if not answer.whole:
        raise Broken("the answer broke off before its end", 200, "stream_cut")
    return answer


def cost_of(gateway: "Gateway", request_id: str | None) -> str | None:
    """What a request cost, in exact US dollars, once the ledger knows; None where it does not, or may not be told."""
    if request_id is None:
        return None
    for pause_s in _ASKED_AFTER_S:
        time.sleep(pause_s)
        try:
            record = gateway.get(f"/usage/requests/{request_id}")
        except Failure as failure:  # the answer was given: what cannot be told of it takes nothing away
            if isinstance(failure, Refused) and failure.status == 404:
                continue
            return None
        if record.get("status") != "open":
            cost = record.get("cost_usd")
            return None if cost is None else str(cost)
    return None


def _chunks(blocks: Iterator[bytes], answer: StreamedAnswer) -> Iterator[Mapping[str, Any]]:
    framer = SseFramer()
    for block in blocks:
        for event in framer.feed(block):
            if event.data == b"[DONE]":
                answer.whole = True
                return
            chunk = _object(event.data)
            if "error" in chunk:
                raise _told(chunk["error"])
            yield chunk


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = jsonlib.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Broken("the stream holds what is no JSON object", 200, "stream_malformed")
    return found


def _told(error: Any) -> Broken:
    told = error if isinstance(error, dict) else {"message": error}
    return Broken(str(told.get("message")), 200, told.get("code"))


def _take(chunk: Mapping[str, Any], answer: StreamedAnswer) -> str:
    """The text of a chunk; what else it says goes into the answer."""
    answer.model = chunk.get("model") or answer.model
    answer.usage = chunk.get("usage") or answer.usage
    text = ""
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        text += delta.get("content") or delta.get("refusal") or ""
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    return text
