"""A provider that speaks Gemini's `generateContent`, on loopback, over real HTTP; the server is `OpenAIUpstream`'s.

    with GeminiUpstream() as up:
        up.script("gemini-x", Reply(gemini_answer([{"text": "Hi"}])))      # by the model in the path
        up.script("gemini-y", gemini_stream(answer, answer))
        ...                                                                # POST f"{up.base_url}/models/gemini-x:generateContent"

`require_key` asks for the key in `x-goog-api-key`, or as a bearer token; one in the URL is an error of the test. A model without a
script is answered with a text, streamed or not, or with embeddings, as the method says.

Source: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/embeddings
"""

import re
from collections.abc import Mapping
from typing import Any

from tests.fakes.openai_upstream import OpenAIUpstream, Recorded
from tests.fakes.openai_wire import Reply, Scenario, Stream

_PATH = re.compile(r".*/models/(?P<model>[^/:]+):(?P<method>\w+)")
USAGE = {"promptTokenCount": 4, "candidatesTokenCount": 3, "totalTokenCount": 7}


def gemini_answer(
    parts: list[dict[str, Any]], *, finish: str | None = "STOP", usage: Mapping[str, Any] = USAGE, **more: Any
) -> dict[str, Any]:
    """A `GenerateContentResponse` with one candidate."""
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    named = {"modelVersion": "gemini-fake-001", "responseId": "resp-1"}
    return {"candidates": [candidate], "usageMetadata": dict(usage), **named, **more}


def gemini_stream(*answers: dict[str, Any], **stream: Any) -> Stream:
    """Events as Google sends them: lines end in CRLF, and nothing follows the last one."""
    return Stream(answers, **{"end": "eof", "newline": "\r\n", **stream})


def gemini_error(code: int, status: str, message: str = "The provider says no.", *details: dict[str, Any]) -> Reply:
    return Reply({"error": {"code": code, "message": message, "status": status, "details": list(details)}}, code)


class GeminiUpstream(OpenAIUpstream):
    """See the module."""

    @property
    def base_url(self) -> str:
        return super().base_url.removesuffix("/v1") + "/v1beta"

    @property
    def root(self) -> str:
        return super().base_url.removesuffix("/v1")

    def choose(self, request: Recorded) -> Scenario:
        with self._lock:
            self.requests.append(request)
            if "key=" in request.target:
                raise AssertionError(f"a key in the URL: {request.target}")
            if self._queue:
                return self._queue.popleft()
            bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
            if self._key is not None and self._key not in (request.headers.get("x-goog-api-key"), bearer):
                return gemini_error(
                    400,
                    "INVALID_ARGUMENT",
                    "API key not valid.",
                    {"reason": "API_KEY_INVALID", "domain": "googleapis.com"},
                )
            found = _PATH.fullmatch(request.path)
            if found is None or request.method != "POST":
                return gemini_error(404, "NOT_FOUND", f"{request.path} is not found.")
            script = self._scripts.get(found["model"])
            if script:
                return script.popleft() if len(script) > 1 else script[0]
            return _default(found["method"], request)


def _default(method: str, request: Recorded) -> Scenario:
    if method == "generateContent":
        return Reply(gemini_answer([{"text": "Hello from Gemini."}]))
    if method == "streamGenerateContent":
        if "alt=sse" not in request.target:
            return gemini_error(400, "INVALID_ARGUMENT", "this fake streams server-sent events only")
        words = [gemini_answer([{"text": word}], finish=None) for word in ("Hello", " from")]
        return gemini_stream(*words, gemini_answer([{"text": " Gemini."}]))
    if method == "batchEmbedContents":
        return Reply({"embeddings": [{"values": [0.25, -0.5]} for _ in request.json["requests"]]})
    if method == "predict":
        statistics = {"token_count": 2, "truncated": False}
        predictions = [
            {"embeddings": {"values": [0.25, -0.5], "statistics": statistics}} for _ in request.json["instances"]
        ]
        return Reply({"predictions": predictions})
    return gemini_error(404, "NOT_FOUND", f"no method {method}")
