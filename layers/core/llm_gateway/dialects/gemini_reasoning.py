"""Thought signatures that belong to text: where they stood in an answer, and how they go back there.

A signature covers one part, and a part with one must not be merged with a part without. Chat Completions has one text
for all of them, so `reasoning_details` notes with each signature the span of the text that it came with.
Source: https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from collections.abc import Mapping, Sequence
from typing import Any

FORMAT = "google-gemini-v1"


def is_geminis(detail: Mapping[str, Any]) -> bool:
    """Whether a detail came from Gemini, also where an SDK joined the formats of several deltas into one string."""
    told = detail.get("format")
    return isinstance(told, str) and bool(told) and not told.replace(FORMAT, "")


def text_signature(data: str, index: int, start: int, end: int) -> dict[str, Any]:
    """The detail for the signature of a text part that made up `content[start:end]`, in characters."""
    return {"type": "reasoning.encrypted", "data": data, "format": FORMAT, "index": index, "span": [start, end]}


def call_signature(data: str, index: int, call_id: str) -> dict[str, Any]:
    return {"type": "reasoning.encrypted", "data": data, "format": FORMAT, "index": index, "id": call_id}


def split_by_signatures(text: str, details: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`text` as the parts it came in, as far as signatures tell them apart.

    A span that no longer fits, since the text was edited, or none at all (history of another gateway) gives the
    signature to what is left of the text.
    """
    parts: list[dict[str, Any]] = []
    at = 0
    for detail in details:
        start, end = _span(detail.get("span"), at, len(text))
        if start > at:
            parts.append({"text": text[at:start]})
        parts.append({"text": text[start:end], "thoughtSignature": detail["data"]})
        at = end
    if at < len(text):
        parts.append({"text": text[at:]})
    return parts


def _span(span: Any, at: int, length: int) -> tuple[int, int]:
    if isinstance(span, list) and len(span) == 2 and all(isinstance(edge, int) for edge in span):
        start, end = span
        if at <= start <= end <= length:
            return start, end
    return at, length
