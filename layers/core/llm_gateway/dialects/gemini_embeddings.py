"""Embeddings of the Gemini API (`batchEmbedContents`) and of Vertex AI (`predict`, `embedContent`).

On Vertex, `gemini-embedding-001` and the older models have `predict`, Gemini models after them `embedContent`, which
takes one content: `{"content", "embedContentConfig"}` -> `{"embedding": {"values"}, "usageMetadata"}`.
Sources: https://ai.google.dev/api/embeddings#method:-models.batchembedcontents,
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api,
https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings (one instance a call, or 250),
https://github.com/googleapis/python-genai/issues/2165 (one content a call), and the shapes in python-genai's models.py
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.dialects.embeddings import estimated_usage, texts_of, write_embeddings
from llm_gateway.dialects.unsent import dropped
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import ModelRequest

_GEMINI_API_INPUTS = 100
_VERTEX_INPUTS = 250
_READ = frozenset({"model", "input", "dimensions", "encoding_format", "task_type", "title"})


def inputs_per_call(model: str, *, vertex: bool) -> int:
    """See `Dialect.inputs_per_call`."""
    if not vertex:
        return _GEMINI_API_INPUTS
    return 1 if model.startswith("gemini-embedding-") else _VERTEX_INPUTS


def encode_embeddings(request: ModelRequest, model: str, *, vertex: bool) -> tuple[str, bytes, list[str]]:
    """The method's name, the body, and what could not be said. Raises `InvalidRequest`."""
    fields = request.fields
    texts = texts_of(fields, "Gemini")
    dimensions = fields.get("dimensions")
    given = {name: fields[name] for name in ("task_type", "title") if fields.get(name) is not None}
    warnings = dropped([name for name in fields if name not in _READ and fields[name] is not None], "Gemini")
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
    texts = texts_of(request.fields, "Gemini")
    usage = _usage(answer) or estimated_usage(texts)
    return write_embeddings(request.fields, model, texts, _vectors(answer), usage), usage


def _has_embed_content(model: str) -> bool:
    return model.startswith("gemini-embedding-") and model != "gemini-embedding-001"


def _one_content(texts: list[str], given: Mapping[str, Any], dimensions: Any) -> dict[str, Any]:
    if len(texts) > 1:
        raise InvalidRequest(f"This model embeds one text a call, not {len(texts)}.", param="input")
    asked = {"taskType": given.get("task_type"), "title": given.get("title"), "outputDimensionality": dimensions}
    config = {name: value for name, value in asked.items() if value is not None}
    content = {"role": "user", "parts": [{"text": texts[0]}]}
    return {"content": content, **({"embedContentConfig": config} if config else {})}


def _vectors(answer: Mapping[str, Any]) -> list[Any]:
    if isinstance(listed := answer.get("predictions"), list):
        found = [each.get("embeddings") for each in listed if isinstance(each, dict)]
    elif isinstance(listed := answer.get("embeddings"), list):
        found = listed
    else:
        found = [answer.get("embedding")]
    return [each.get("values") for each in found if isinstance(each, dict)]


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
