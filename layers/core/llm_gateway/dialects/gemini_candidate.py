"""One candidate of a Gemini answer as one choice of Chat Completions: the path that buffered and streamed share.

A `CandidateReader` turns what comes of a candidate into deltas; a whole answer is the sum of its deltas.
Sources: https://ai.google.dev/api/generate-content#candidate, https://ai.google.dev/api/generate-content#FinishReason,
https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from collections.abc import Iterable, Mapping
from typing import Any

from llm_gateway.dialects.gemini_contents import MADE_UP
from llm_gateway.dialects.gemini_reasoning import FORMAT, call_signature, text_signature
from llm_gateway.errors import UpstreamFailed, UpstreamMalformed, UpstreamRejected

Delta = dict[str, Any]

_LENGTH = frozenset({"MAX_TOKENS", "CONTINUATION"})
_FILTERED = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}
    | {"IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR", "ESCALATION", "PUP_LIMITED_DISABLED"}
)
_FAILED = frozenset(
    {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE", "NO_IMAGE"}
    | {"IMAGE_OTHER"}
)
"""The model failed at the answer: what there is of it must not pass as one."""


class CandidateReader:
    """Reads one candidate's pieces in order. `answer_id` goes into the ids of calls that come without."""

    def __init__(self, answer_id: str, index: int) -> None:
        self.finish_reason: str | None = None
        self._answer_id = answer_id
        self._index = index
        self._written = 0
        self._calls = 0
        self._details = 0
        self._images = 0
        self._thinking = False
        """Whether a detail of thoughts is open: something of it has been told, its signature has not."""

    @property
    def details(self) -> int:
        """How many `reasoning_details` were begun."""
        return self._details + self._thinking

    def read(self, candidate: Mapping[str, Any], arguments: Mapping[int, str]) -> list[Delta]:
        """The deltas, in order. `arguments` are the calls' JSON texts by the position of their part."""
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        if parts is not None and not isinstance(parts, list):
            raise UpstreamMalformed("The parts of the provider's answer are not a list.")
        deltas: list[Delta] = []
        for position, part in enumerate(parts or ()):
            if not isinstance(part, dict):
                raise UpstreamMalformed("A part of the provider's answer is not an object.")
            deltas += self.read_part(part, arguments.get(position, "{}"))
        return deltas

    def read_part(self, part: Mapping[str, Any], arguments: str) -> list[Delta]:
        """The deltas of one part. Kinds that are not known here (code that Google ran, its results) are left out."""
        signature = part.get("thoughtSignature")
        text = part.get("text")
        if part.get("thought") is True:
            return self._thought(text, signature)
        self._end_thought()
        if isinstance(call := part.get("functionCall"), dict):
            return self._call(call, arguments, signature)
        if isinstance(blob := part.get("inlineData"), dict):
            number, self._images = self._images, self._images + 1
            return [{"images": [{"index": number, **_image(blob, signature)}]}]
        deltas: list[Delta] = []
        start = self._written
        if isinstance(text, str) and text:
            self._written += len(text)
            deltas.append({"content": text})
        if signature:
            deltas.append({"reasoning_details": [text_signature(signature, self._next(), start, self._written)]})
        return deltas

    def write(self, text: str) -> None:
        """What `read` does for a part that is text alone, where the delta is made elsewhere."""
        self._end_thought()
        self._written += len(text)

    def _end_thought(self) -> None:
        if self._thinking:
            self._thinking = False
            self._details += 1

    def _thought(self, text: Any, signature: Any) -> list[Delta]:
        """Thoughts that follow one another are one block, which its signature ends."""
        deltas: list[Delta] = []
        if isinstance(text, str) and text:
            deltas.append({"reasoning_content": text, "reasoning_details": [{**self._thought_head(), "text": text}]})
        if signature:
            deltas.append({"reasoning_details": [{**self._thought_head(), "signature": signature}]})
            self._end_thought()
        return deltas

    def _thought_head(self) -> dict[str, Any]:
        """What the next detail of thoughts begins with. SDKs join strings of one index: its format comes once."""
        told = {} if self._thinking else {"format": FORMAT}
        self._thinking = True
        return {"type": "reasoning.text", **told, "index": self._details}

    def _call(self, call: Mapping[str, Any], arguments: str, signature: Any) -> list[Delta]:
        number, self._calls = self._calls, self._calls + 1
        made_up = f"{MADE_UP}{self._answer_id}_{self._index}_{number}"
        call_id = call.get("id") or made_up
        told: dict[str, Any] = {
            "index": number,
            "id": call_id,
            "type": "function",
            "function": {"name": str(call.get("name") or ""), "arguments": arguments},
        }
        if not signature:
            return [{"tool_calls": [told]}]
        told["extra_content"] = {"google": {"thought_signature": signature}}
        return [
            {"tool_calls": [told]},
            {"reasoning_details": [call_signature(signature, self._next(), call_id)]},
        ]

    def _next(self) -> int:
        self._details += 1
        return self._details - 1

    def finish(self, candidate: Mapping[str, Any]) -> list[Delta]:
        """Takes the finish reason, if there is one. Raises `UpstreamError` where the model failed at the answer."""
        reason = candidate.get("finishReason")
        message = candidate.get("finishMessage")
        if not isinstance(reason, str) or reason in ("", "FINISH_REASON_UNSPECIFIED"):
            return []
        if reason == "MISSING_THOUGHT_SIGNATURE":
            raise UpstreamRejected(message or "A call in the history lacks its thought signature.", param="messages")
        if reason in _FAILED:
            raise UpstreamFailed(message or f"The model's answer failed: {reason}.", code=reason.lower())
        if reason in _FILTERED:
            self.finish_reason = "content_filter"
            return [{"refusal": message}] if isinstance(message, str) and message else []
        self.finish_reason = "length" if reason in _LENGTH else self.ordinary_end
        return []

    @property
    def ordinary_end(self) -> str:
        """Gemini ends a tool call as it ends a text."""
        return "tool_calls" if self._calls else "stop"


def merged(deltas: Iterable[Delta]) -> dict[str, Any]:
    """The message that deltas add up to."""
    texts: dict[str, list[str]] = {}
    details: dict[int, dict[str, Any]] = {}
    lists: dict[str, list[Any]] = {}
    for delta in deltas:
        for name, value in delta.items():
            if name == "reasoning_details":
                for detail in value:
                    _merge_detail(details.setdefault(detail["index"], {}), detail)
            elif isinstance(value, list):
                # A place to merge at is a delta's; in a message, OpenAI's calls have none.
                lists.setdefault(name, []).extend(
                    {key: inner for key, inner in each.items() if key != "index"} for each in value
                )
            else:
                texts.setdefault(name, []).append(value)
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    message |= {name: "".join(pieces) for name, pieces in texts.items()}
    if details:
        lists["reasoning_details"] = list(details.values())
    return message | lists


def written_in(delta: Delta) -> Iterable[str]:
    """Every text that the model wrote in a delta."""
    for name in ("reasoning_content", "content", "refusal"):
        if name in delta:
            yield delta[name]
    for call in delta.get("tool_calls", ()):
        yield call["function"]["name"]
        yield call["function"]["arguments"]


def log_probabilities(candidate: Mapping[str, Any]) -> dict[str, Any] | None:
    """Gemini's `logprobsResult` as OpenAI's `logprobs`.

    Source: https://ai.google.dev/api/generate-content#LogprobsResult
    """
    result = candidate.get("logprobsResult")
    chosen = result.get("chosenCandidates") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(chosen, list):
        return None
    tops = result.get("topCandidates")
    tops = tops if isinstance(tops, list) else []
    listed = []
    for at, token in enumerate(chosen):
        top = tops[at].get("candidates") if at < len(tops) and isinstance(tops[at], dict) else None
        listed.append(
            {**_token(token), "top_logprobs": [_token(each) for each in top] if isinstance(top, list) else []}
        )
    return {"content": listed, "refusal": None}


def _token(candidate: Any) -> dict[str, Any]:
    if not isinstance(candidate, dict):
        raise UpstreamMalformed("A token in the provider's log probabilities is not an object.")
    token = str(candidate.get("token", ""))
    # Zero is left out by the wire, as every field at its default.
    return {"token": token, "logprob": candidate.get("logProbability", 0.0), "bytes": list(token.encode())}


def _image(blob: Mapping[str, Any], signature: Any) -> dict[str, Any]:
    """https://openrouter.ai/docs/features/multimodal/image-generation has the shape."""
    image: dict[str, Any] = {
        "type": "image_url",
        "image_url": {"url": f"data:{blob.get('mimeType') or ''};base64,{blob.get('data') or ''}"},
    }
    if signature:
        image["extra_content"] = {"google": {"thought_signature": signature}}
    return image


def _merge_detail(into: dict[str, Any], detail: Mapping[str, Any]) -> None:
    for name, value in detail.items():
        into[name] = into[name] + value if name == "text" and name in into else value
