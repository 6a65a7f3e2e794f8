"""Gemini's own wire, `generateContent`, at the Gemini API and at Vertex AI (`quirks.envelope = "vertex"`).

Both take the same body and differ in base URL, credential, embeddings and how a service tier is asked for. The key goes
in a header, never in the URL.
Sources: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/api-key#provide-api-key-explicitly,
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference
"""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from llm_gateway.dialects.dialect import DecodedAnswer, EncodedRequest, Endpoint, SplitEvents, members_of
from llm_gateway.dialects.gemini_candidate import CandidateReader, Delta, log_probabilities, merged, written_in
from llm_gateway.dialects.gemini_embeddings import decode_embeddings, encode_embeddings, inputs_per_call
from llm_gateway.dialects.gemini_errors import decode_gemini_error, error_inside
from llm_gateway.dialects.gemini_raw import function_arguments
from llm_gateway.dialects.gemini_request import encode_chat
from llm_gateway.dialects.gemini_stream import GeminiStream, blocked
from llm_gateway.dialects.gemini_usage import billed_searches, read_usage, search_queries, write_usage
from llm_gateway.dialects.moderations import no_moderations
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamError, UpstreamMalformed
from llm_gateway.schemas.openai_chat import ModelRequest


def _new_id() -> str:
    return uuid.uuid4().hex[:22]


class GeminiGenerateContent:
    """The `gemini_generate_content` dialect. Stateless: one serves all requests.

    `now` (Unix seconds) dates the answers, for Gemini does not; `new_id` names those that come without a name.
    """

    name = "gemini_generate_content"

    def __init__(self, now: Callable[[], float] = time.time, new_id: Callable[[], str] = _new_id) -> None:
        self._now = now
        self._new_id = new_id

    def inputs_per_call(self, model: str, provider: Provider) -> int | None:
        return inputs_per_call(model.removeprefix("models/"), vertex=provider.quirks.envelope == "vertex")

    def encode(self, endpoint: Endpoint, request: ModelRequest, model: str, provider: Provider) -> EncodedRequest:
        if endpoint == "moderations":
            raise no_moderations(provider)
        vertex = provider.quirks.envelope == "vertex"
        name = model.removeprefix("models/")
        path = f"/models/{quote(name, safe='')}"
        if endpoint == "embeddings":
            method, body, warnings = encode_embeddings(request, name, vertex=vertex)
            return EncodedRequest(f"{path}:{method}", body, warnings=tuple(warnings))
        body, headers, warnings = encode_chat(request, name, vertex=vertex)
        method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return EncodedRequest(f"{path}:{method}", body, headers, warnings=tuple(warnings))

    def decode(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        model: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> DecodedAnswer:
        answer = _object(body)
        if inside := error_inside(answer):
            raise inside
        if endpoint == "embeddings":
            made, usage = decode_embeddings(request, model, answer)
            return DecodedAnswer(made, None, None, usage, lambda: "")
        return self._decode_chat(model, answer, body)

    def told_usage(self, model: str, body: bytes) -> Usage | None:
        answer = members_of(body)
        version = answer.get("modelVersion")
        served = version if isinstance(version, str) else model.removeprefix("models/")
        searches = billed_searches(search_queries(answer.get("candidates")), served)
        return read_usage(answer.get("usageMetadata"), searches)

    def translator(self, request: ModelRequest, model: str, split_events: SplitEvents) -> GeminiStream:
        return GeminiStream(
            model=model,
            created=int(self._now()),
            fallback_id=self._new_id(),
            choices=request.fields.get("n") or 1,
            include_usage=request.include_usage,
            split_events=split_events,
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return decode_gemini_error(status, headers, body)

    def _decode_chat(self, model: str, answer: Mapping[str, Any], body: bytes) -> DecodedAnswer:
        answer_id = answer.get("responseId") or self._new_id()
        candidates = answer.get("candidates") or [candidate for candidate in [blocked(answer)] if candidate]
        if not isinstance(candidates, list) or not candidates:
            raise UpstreamMalformed("The provider's answer holds no candidate.")
        arguments = function_arguments(answer, body)
        choices, deltas = [], []
        for at, candidate in enumerate(candidates):
            if not isinstance(candidate, dict):
                raise UpstreamMalformed("A candidate in the provider's answer is not an object.")
            choice, pieces = _choice(candidate, arguments.get(at, {}), answer_id)
            choices.append(choice)
            deltas += pieces
        version = answer.get("modelVersion")
        queries = search_queries(candidates) if b'"webSearchQueries"' in body else set()
        served = version if isinstance(version, str) else model
        usage = read_usage(answer.get("usageMetadata"), billed_searches(queries, served))
        told = {
            "id": answer_id,
            "object": "chat.completion",
            "created": int(self._now()),
            "model": version or model,
            "choices": choices,
            **({"usage": write_usage(usage)} if usage else {}),
        }
        return DecodedAnswer(
            orjson.dumps(told),
            version if isinstance(version, str) else None,
            choices[0]["finish_reason"],
            usage,
            lambda: "".join(text for delta in deltas for text in written_in(delta)),
        )


def _choice(
    candidate: Mapping[str, Any], arguments: Mapping[int, str], answer_id: str
) -> tuple[dict[str, Any], list[Delta]]:
    index = candidate.get("index", 0)
    if not isinstance(index, int):
        raise UpstreamMalformed("A candidate in the provider's answer has no whole number as its index.")
    reader = CandidateReader(answer_id, index)
    deltas = [*reader.read(candidate, arguments), *reader.finish(candidate)]
    choice = {
        "index": index,
        "message": merged(deltas),
        "logprobs": log_probabilities(candidate),
        "finish_reason": reader.finish_reason or reader.ordinary_end,
    }
    return choice, deltas


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("The provider's answer is not JSON.") from None
    if isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], dict) and "error" in answer[0]:
        answer = answer[0]  # as errors come where a stream was asked for
    if not isinstance(answer, dict):
        raise UpstreamMalformed("The provider's answer is not a JSON object.")
    return answer
