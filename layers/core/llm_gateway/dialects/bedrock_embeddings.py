"""Embeddings of Titan and Cohere on Bedrock, by InvokeModel.

Titan embeds one text a call, Cohere up to 96, and tells its count of tokens in the header
`x-amzn-bedrock-input-token-count` alone. Fields that OpenAI's wire does not have (`input_type`, `truncate`,
`normalize`) go to the model as they are.
Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed-v3.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed-v4.html
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.bedrock_answer import parse_answer
from llm_gateway.dialects.dialect import DecodedAnswer
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest, UpstreamMalformed

_OPENAI_FIELDS = {"model", "input", "dimensions", "encoding_format", "user"}
_INPUTS_PER_CALL = {"titan_v1": 1, "titan_v2": 1, "cohere_v3": 96, "cohere_v4": 96}
_COUNT_HEADER = "x-amzn-bedrock-input-token-count"


def inputs_per_call(model: str) -> int | None:
    """See `Dialect.inputs_per_call`."""
    return _INPUTS_PER_CALL.get(capability("bedrock", model).get("embeddings", ""))


def encode_embeddings(fields: Mapping[str, Any], model: str) -> bytes:
    """Raises `InvalidRequest` with the `param` at fault."""
    kind = capability("bedrock", model).get("embeddings")
    texts = _texts(fields["input"])
    if fields.get("encoding_format") not in (None, "float", "base64"):
        raise InvalidRequest("`encoding_format` must be float or base64.", param="encoding_format")
    dimensions = fields.get("dimensions")
    if dimensions is not None and kind in ("titan_v1", "cohere_v3"):
        raise InvalidRequest(f"`{model}` has one size: leave out `dimensions`.", param="dimensions")
    own = {name: value for name, value in fields.items() if name not in _OPENAI_FIELDS and value is not None}
    if kind in ("titan_v1", "titan_v2"):
        if len(texts) > 1:
            raise InvalidRequest(f"`{model}` embeds one text a call, not {len(texts)}.", param="input")
        size = {} if dimensions is None else {"dimensions": dimensions}
        return orjson.dumps({"inputText": texts[0], **size, **own})
    if kind in ("cohere_v3", "cohere_v4"):
        size = {} if dimensions is None else {"output_dimension": dimensions}
        body = {"texts": texts, "input_type": "search_document", "embedding_types": ["float"], **size, **own}
        return orjson.dumps(body)
    raise InvalidRequest(f"The gateway knows no embeddings of `{model}` on Bedrock.", param="model")


def decode_embeddings(
    fields: Mapping[str, Any], model: str, body: bytes, headers: Mapping[str, str] | None
) -> DecodedAnswer:
    """Raises `UpstreamMalformed`. `headers`, where they are known, may hold the count of tokens."""
    answer = parse_answer(body)
    vectors = _vectors(answer)
    encode = _base64 if fields.get("encoding_format") == "base64" else list
    try:
        data = [{"object": "embedding", "index": at, "embedding": encode(row)} for at, row in enumerate(vectors)]
    except (struct.error, OverflowError):
        raise UpstreamMalformed("An embedding in the provider's answer is not made of numbers.") from None
    tokens = _token_count(answer, headers or {})
    counted = None if tokens is None else {"prompt_tokens": tokens, "total_tokens": tokens}
    listed = {"object": "list", "data": data, "model": model, "usage": counted}
    return DecodedAnswer(orjson.dumps(listed), None, None, None if tokens is None else Usage(tokens), str)


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("Bedrock embeds text: `input` must be a string or an array of strings.", param="input")
    return list(texts)


def _vectors(answer: Mapping[str, Any]) -> list[list[float]]:
    found = answer.get("embeddings")
    if isinstance(found, dict):
        found = found.get("float")
    if found is None and isinstance(answer.get("embedding"), list):
        found = [answer["embedding"]]
    if not isinstance(found, list) or not found or not all(isinstance(row, list) for row in found):
        raise UpstreamMalformed("The provider's answer holds no embedding.")
    return found


def _token_count(answer: Mapping[str, Any], headers: Mapping[str, str]) -> int | None:
    count = answer.get("inputTextTokenCount")
    if isinstance(count, int):
        return count
    told = headers.get(_COUNT_HEADER, "")
    return int(told) if told.isdecimal() else None


def _base64(row: list[float]) -> str:
    """Little-endian 32-bit floats, as OpenAI sends them."""
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
