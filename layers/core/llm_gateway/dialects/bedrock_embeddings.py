"""Embeddings of Titan and Cohere on Bedrock, by InvokeModel.

Titan embeds one text a call, Cohere up to 96, and tells its count of tokens in the header
`x-amzn-bedrock-input-token-count` alone; where that is missing the count is estimated. Fields that OpenAI's wire does
not have (`input_type`, `truncate`, `normalize`) go to the model as they are.
Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed-v3.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed-v4.html
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.bedrock_answer import parse_answer
from llm_gateway.dialects.dialect import DecodedAnswer
from llm_gateway.dialects.embeddings import estimated_usage, texts_of, write_embeddings
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest

_OPENAI_FIELDS = {"model", "input", "dimensions", "encoding_format", "user"}
_INPUTS_PER_CALL = {"titan_v1": 1, "titan_v2": 1, "cohere_v3": 96, "cohere_v4": 96}
_COUNT_HEADER = "x-amzn-bedrock-input-token-count"


def inputs_per_call(model: str) -> int | None:
    """See `Dialect.inputs_per_call`."""
    return _INPUTS_PER_CALL.get(capability("bedrock", model).get("embeddings", ""))


def encode_embeddings(fields: Mapping[str, Any], model: str) -> bytes:
    """Raises `InvalidRequest` with the `param` at fault."""
    kind = capability("bedrock", model).get("embeddings")
    texts = texts_of(fields, "Bedrock")
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
    texts = texts_of(fields, "Bedrock")
    tokens = _token_count(answer, headers or {})
    usage = estimated_usage(texts) if tokens is None else Usage(tokens)
    written = write_embeddings(fields, model, texts, _vectors(answer), usage)
    return DecodedAnswer(written, None, None, usage, str)


def _vectors(answer: Mapping[str, Any]) -> Any:
    found = answer.get("embeddings")
    if isinstance(found, dict):
        found = found.get("float")
    if found is None and "embedding" in answer:
        found = [answer["embedding"]]
    return found


def _token_count(answer: Mapping[str, Any], headers: Mapping[str, str]) -> int | None:
    count = answer.get("inputTextTokenCount")
    if isinstance(count, int):
        return count
    told = headers.get(_COUNT_HEADER, "")
    return int(told) if told.isdecimal() else None
