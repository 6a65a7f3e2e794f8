"""Token counts without a tokenizer: for reservations, rate limits, and usage that a provider does not report.

A tokenizer's ranks weigh megabytes and belong to one vendor. Here every character has a weight by its class; the
weights are a least-squares fit to OpenAI's o200k_base over prose in 30 languages, program text, JSON and SQL. On a page
of those an estimate is 0.7 to 1.2 times the true count, on a sentence up to 1.4 times. Random base64 and hexadecimal
text is underestimated, base64 by 60 %. Every weight is positive, so more text never counts less.
"""

import string
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

_LETTERS = string.ascii_letters.encode()
_DIGITS = string.digits.encode()
_BREAKS = b"\t\n\v\f\r"
_CONTINUATIONS = bytes(range(0x80, 0xC0))

_LETTER, _DIGIT, _SPACE, _BREAK, _OTHER_ASCII = 210, 480, 130, 100, 700
"""Thousandths of a token a character."""

_BY_FIRST_BYTE = (
    (bytes(range(0xC0, 0xC6)), 1200),  # Latin letters with accents: they break words apart
    (bytes(range(0xC6, 0xE0)), 300),  # Greek, Cyrillic, Hebrew, Arabic
    (b"\xe0", 340),  # Indic scripts, Thai
    (b"\xe1\xe2\xee\xef", 900),  # symbols, typographic punctuation, full-width forms; Vietnamese letters
    (bytes(range(0xE3, 0xEA)), 830),  # Chinese, Japanese
    (bytes(range(0xEA, 0xEE)), 750),  # Korean
    (bytes(range(0xF0, 0xF8)), 1650),  # emoji, rare ideographs
)
"""Thousandths of a token a character, by the first byte of its UTF-8."""

MESSAGE_TOKENS = 3
"""Around every message; and once more for the start of the answer.
https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken"""

IMAGE_TOKENS = 765
LOW_DETAIL_IMAGE_TOKENS = 85
"""What OpenAI's vision models count for an image of 1024 x 1024 in high detail, and for any in low detail.
https://platform.openai.com/docs/guides/images-vision"""

AUDIO_CHARACTERS_A_TOKEN = 2000
"""Base64 characters: audio counts 10 tokens a second, and a second of 128 kbit/s is 21,000 of them."""

FILE_CHARACTERS_A_TOKEN = 64
"""Base64 characters of an attached document: coarse, since its pages are read as text and as images."""


def estimate_tokens(text: str) -> int:
    """Tokens of `text`: 0 for none, else at least 1. Linear in its length, about 2 µs a kilobyte of English."""
    if not text:
        return 0
    return -(-_thousandths(text) // 1000)


def estimate_request_tokens(request: Mapping[str, Any]) -> int:
    """Input tokens of a body in OpenAI's shape: chat (`messages`), completions (`prompt`), embeddings (`input`).

    Counts contents, tool calls, tools and response formats, images and audio by the flat numbers of this module.
    Shapes that it does not know count as the JSON text they are; it never raises on what a JSON parser gave.
    """
    thousandths = 0
    messages = request.get("messages")
    if isinstance(messages, list):
        thousandths += 1000 * MESSAGE_TOKENS + sum(map(_message, messages))
    for field in ("prompt", "input"):
        if field in request:
            thousandths += _input(request[field])
    for field in ("tools", "functions", "response_format"):
        if request.get(field):
            thousandths += _json(request[field])
    return -(-thousandths // 1000)


def _thousandths(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    # `translate` deletes a class at memory speed, and each pass runs over what the last one left.
    rest = data.translate(None, _LETTERS)
    total = _LETTER * (len(data) - len(rest))
    spaces = rest.count(b" ")
    rest = rest.translate(None, b" ")
    total += _SPACE * spaces
    without_digits = rest.translate(None, _DIGITS)
    total += _DIGIT * (len(rest) - len(without_digits))
    others = without_digits.translate(None, _BREAKS)
    total += _BREAK * (len(without_digits) - len(others))
    if text.isascii():
        return total + _OTHER_ASCII * len(others)
    firsts = others.translate(None, _CONTINUATIONS)
    for members, weight in _BY_FIRST_BYTE:
        remaining = firsts.translate(None, members)
        total += weight * (len(firsts) - len(remaining))
        firsts = remaining
    return total + _OTHER_ASCII * len(firsts)


def _message(message: Any) -> int:
    if not isinstance(message, dict):
        return _json(message)
    total = 1000 * MESSAGE_TOKENS
    for field, value in message.items():
        if value is None:
            continue
        if field == "content" and isinstance(value, list):
            total += sum(map(_part, value))
        elif isinstance(value, str):
            total += _thousandths(value)
        elif field == "tool_calls" and isinstance(value, list):
            total += sum(map(_tool_call, value))
        else:
            total += _json(value)
    return total


def _part(part: Any) -> int:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        return _json(part)
    inner = part.get(kind)
    if kind in {"text", "refusal"} and isinstance(inner, str):
        return _thousandths(inner)
    if kind == "image_url":
        low = isinstance(inner, dict) and inner.get("detail") == "low"
        return 1000 * (LOW_DETAIL_IMAGE_TOKENS if low else IMAGE_TOKENS)
    if kind == "input_audio" and isinstance(inner, dict) and isinstance(inner.get("data"), str):
        return 1000 * len(inner["data"]) // AUDIO_CHARACTERS_A_TOKEN + 1000
    if kind == "file" and isinstance(inner, dict) and isinstance(inner.get("file_data"), str):
        return 1000 * len(inner["file_data"]) // FILE_CHARACTERS_A_TOKEN + 1000
    return _json(part)


def _tool_call(call: Any) -> int:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return _json(call)
    return 1000 * MESSAGE_TOKENS + sum(_thousandths(value) for value in function.values() if isinstance(value, str))


def _input(value: Any) -> int:
    """Text, token numbers, or a list of either: the forms of `prompt` and of an embedding's `input`."""
    if isinstance(value, str):
        return _thousandths(value)
    if isinstance(value, list):
        return (
            sum(1000 if isinstance(each, int) else _input(each) for each in value) if _shallow(value) else _json(value)
        )
    return _json(value)


def _shallow(values: Iterable[Any]) -> bool:
    return all(
        isinstance(each, str | int) or (isinstance(each, list) and all(isinstance(token, int) for token in each))
        for each in values
    )


def _json(value: Any) -> int:
    try:
        return _thousandths(orjson.dumps(value).decode())
    except orjson.JSONEncodeError:
        # Nested deeper than orjson writes (254), or a lone surrogate: count the strings in it instead.
        return sum(map(_thousandths, _strings(value)))


def _strings(value: Any) -> Iterable[str]:
    """Every string in a JSON value, and every number as its text; without recursion."""
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            pending += each.keys()
            pending += each.values()
        elif isinstance(each, list):
            pending += each
        elif each is not None:
            yield str(each)
