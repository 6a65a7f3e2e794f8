"""Embeddings of the dialects with a wire of their own: OpenAI's request read, and its answer written.

Source: https://platform.openai.com/docs/api-reference/embeddings; `encoding_format` base64 is of little-endian 32-bit
floats.
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest, UpstreamMalformed


def texts_of(fields: Mapping[str, Any], vendor: str) -> list[str]:
    """The inputs, in order. Raises `InvalidRequest` for token numbers, and for a format of vectors that is none."""
    given = fields["input"]
    texts = [given] if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest(f"{vendor} embeds texts: `input` must be a string or an array of strings.", param="input")
    if fields.get("encoding_format") not in (None, "float", "base64"):
        raise InvalidRequest("`encoding_format` must be float or base64.", param="encoding_format")
    return list(texts)


def estimated_usage(texts: Sequence[str]) -> Usage:
    """For a wire that does not count.

    A token is about four characters, says https://ai.google.dev/gemini-api/docs/tokens; of UTF-8, four bytes.
    """
    return Usage(input_tokens=sum(-(-len(text.encode()) // 4) for text in texts), estimated=True)


def write_embeddings(fields: Mapping[str, Any], model: str, texts: Sequence[str], rows: Any, usage: Usage) -> bytes:
    """OpenAI's answer. Raises `UpstreamMalformed` for anything but one vector for each text."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise UpstreamMalformed("The provider's answer holds no embedding.")
    if len(rows) != len(texts):
        raise UpstreamMalformed("The provider did not give one embedding for each input.")
    as_text = fields.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": at, "embedding": _packed(row) if as_text else row}
        for at, row in enumerate(rows)
    ]
    counted = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": counted})


def _packed(row: Sequence[float]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
    except (struct.error, OverflowError):
        raise UpstreamMalformed("An embedding in the provider's answer is not made of numbers.") from None
