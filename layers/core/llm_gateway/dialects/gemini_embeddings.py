"""Embeddings of the Gemini API (`batchEmbedContents`) and of Vertex AI (`predict`, `embedContent`).

On Vertex, `gemini-embedding-001` and the older models have `predict`, Gemini models after them `embedContent`, which
takes one content: `{"content", "embedContentConfig"}` -> `{"embedding": {"values"}, "usageMetadata"}`.
Sources: https://ai.google.dev/api/embeddings#method:-models.batchembedcontents,
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api,
https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings (one instance a call, or 250),
https://github.com/googleapis/python-genai/issues/2165 (one content a call), and the shapes in python-genai's models.py,
https://platform.openai.com/docs/api-reference/embeddings (`encoding_format`: base64 of little-endian 32-bit floats)
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest, UpstreamMalformed
from llm_gateway.schemas.openai_chat import ModelRequest

_GEMINI_API_INPUTS = 100
_VERTEX_INPUTS = 250
_READ = frozenset({"model", "input", "dimensions", "encoding_format", "user", "task_type", "title"})


def inputs_per_call(model: str, *, vertex: bool) -> int:
    """See `Dialect.inputs_per_call`."""
    if not vertex:
        return _GEMINI_API_INPUTS
    return 1 if model.startswith("gemini-embedding-") else _VERTEX_INPUTS


def encode_embeddings(request: ModelRequest, model: str, *, vertex: bool) -> tuple[str, bytes, list[str]]:
    """The method's name, the body, and what could not be said. Raises `InvalidRequest`."""
    fields = request.fields
    texts = _inputs(fields["input"])
    dimensions = fields.get("dimensions")
    if fields.get("encoding_format") not in (None, "float", "base64"):
        raise InvalidRequest("`encoding_format` must be float or base64.", param="encoding_format")
    given = {name: fields[name] for name in ("task_type", "title") if fields.get(name) is not None}
    warnings = [f"{name} is not sent: Gemini has none" for name in sorted(fields.keys() - _READ) if fields[name]]
    if vertex and _has_embed_content(model):
        return "embedContent", orjson.dumps(_one_content(texts, given, dimensions)), warnings
    if vertex:
        body: dict[str, Any] = {"instances": [{"content": text, **given} for text in texts]}
        if dimensions is not None:
            body["parameters"] = {"outputDimensionality": dimensions}
        return "predict", orjson.dumps(body), warnings
    shared: dict[str, Any] = {"model": f"models/{model}"}
    if "task_type" in given:
        shared["taskType"] = given["task_type"]
    if "title" in given:
        shared["title"] = given["title"]
    if dimensions is not None:
        shared["outputDimensionality"] = dimensions
    requests = [{**shared, "content": {"parts": [{"text": text}]}} for text in texts]
    return "batchEmbedContents", orjson.dumps({"requests": requests}), warnings


def decode_embeddings(request: ModelRequest, model: str, answer: Mapping[str, Any]) -> tuple[bytes, Usage]:
    """OpenAI's answer, and its usage: counted where the wire counts (Vertex, later models), estimated where not."""
    vectors = _vectors(answer)
    if len(vectors) != len(_inputs(request.fields["input"])):
        raise UpstreamMalformed("The provider did not give one embedding for each input.")
    as_text = request.fields.get("encoding_format") == "base64"
    usage = _usage(answer) or _estimated(request)
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": at, "embedding": _packed(vector) if as_text else vector}
            for at, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens},
    }
    return orjson.dumps(body), usage


def _has_embed_content(model: str) -> bool:
    return model.startswith("gemini-embedding-") and model != "gemini-embedding-001"


def _one_content(texts: list[str], given: Mapping[str, Any], dimensions: Any) -> dict[str, Any]:
    if len(texts) > 1:
        raise InvalidRequest(f"This model embeds one text a call, not {len(texts)}.", param="input")
    asked = {"taskType": given.get("task_type"), "title": given.get("title"), "outputDimensionality": dimensions}
    config = {name: value for name, value in asked.items() if value is not None}
    content = {"role": "user", "parts": [{"text": texts[0]}]}
    return {"content": content, **({"embedContentConfig": config} if config else {})}


def _inputs(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("Gemini embeds texts, and takes no token numbers.", param="input")
    return list(texts)


def _vectors(answer: Mapping[str, Any]) -> list[list[float]]:
    if isinstance(listed := answer.get("predictions"), list):
        found = [each.get("embeddings") for each in listed if isinstance(each, dict)]
    elif isinstance(listed := answer.get("embeddings"), list):
        found = listed
    else:
        found = [answer.get("embedding")]
    vectors = [each.get("values") for each in found if isinstance(each, dict)]
    if not vectors or not all(isinstance(vector, list) for vector in vectors):
        raise UpstreamMalformed("The provider's answer holds no embedding.")
    return [vector for vector in vectors if isinstance(vector, list)]


def _usage(answer: Mapping[str, Any]) -> Usage | None:
    metadata = answer.get("usageMetadata")
    count = metadata.get("promptTokenCount") if isinstance(metadata, dict) else None
    if isinstance(count, int):
        return Usage(input_tokens=count)
    counts = []
    for each in answer.get("predictions") or ():
        embedding = each.get("embeddings") if isinstance(each, dict) else None
        statistics = embedding.get("statistics") if isinstance(embedding, dict) else None
        counts.append(statistics.get("token_count") if isinstance(statistics, dict) else None)
    known = [int(count) for count in counts if isinstance(count, int | float)]
    return Usage(input_tokens=sum(known)) if known and len(known) == len(counts) else None


def _estimated(request: ModelRequest) -> Usage:
    """A token is about four characters, says https://ai.google.dev/gemini-api/docs/tokens; of UTF-8, four bytes."""
    texts = _inputs(request.fields["input"])
    return Usage(input_tokens=sum(-(-len(text.encode()) // 4) for text in texts), estimated=True)


def _packed(vector: list[float]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (struct.error, OverflowError):
        raise UpstreamMalformed("An embedding in the provider's answer is not made of numbers.") from None
