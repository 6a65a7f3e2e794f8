"""Errors of Claude, on Anthropic's own API, on Bedrock and on Vertex, buffered and inside streams.

Anthropic's is `{"type": "error", "error": {type, message}, "request_id"}`. Bedrock names an exception in the header
`x-amzn-errortype` (or in the stream's `:exception-type`) with `{"message"}`; Vertex wraps Google's
`{"error": {code, message, status}}`, or passes Anthropic's on.
Sources: https://platform.claude.com/docs/en/api/errors,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html#API_runtime_InvokeModelWithResponseStream_Errors
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.dialects.context_length import CODE, is_too_long
from llm_gateway.dialects.openai_errors import decode_openai_error, read_retry_after
from llm_gateway.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthenticated,
    UpstreamUnavailable,
)

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_OPENAI = {
    401: ("authentication_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    403: ("permission_error", "permission_denied"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
"""OpenAI's type and code, by status."""
_STATUS_OF_EXCEPTION = {
    "accessdeniedexception": 403,
    "internalserverexception": 500,
    "modelerrorexception": 424,
    "modelnotreadyexception": 429,
    "modelstreamerrorexception": 424,
    "modeltimeoutexception": 408,
    "resourcenotfoundexception": 404,
    "servicequotaexceededexception": 429,
    "serviceunavailableexception": 503,
    "throttlingexception": 429,
    "unrecognizedclientexception": 401,
    "validationexception": 400,
}
_NOT_OUR_CREDENTIAL = frozenset(
    {"expiredtokenexception", "invalidsignatureexception", "unrecognizedclientexception", "authentication_error"}
)
"""Whatever the status: AWS answers 403 to a session token that has expired."""
_BAD_BEDROCK_KEY = "make sure your api key is valid"
"""With 403: https://github.com/anomalyco/opencode/issues/47073"""
_BLOCKED = "blocked by content filtering policy"
_NO_CREDIT = ("credit balance is too low", "spend limit", "usage limit")


def decode_anthropic_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """The provider's refusal as our error: message, `Retry-After` and a 4xx status are kept.

    529 (overloaded) and 503 are 503, 504 and Bedrock's model timeout (408) are 504, every other 5xx and Bedrock's
    424 (the model failed) are 502.
    """
    parsed = _object(body)
    error = parsed.get("error")
    exception = headers.get("x-amzn-errortype")
    retry_after = read_retry_after(headers)
    if parsed.get("type") == "error" and isinstance(error, dict):
        return _error(status, _text(error.get("type")), _text(error.get("message")), retry_after)
    if exception is not None:
        name = exception.partition(":")[0].rpartition("#")[2]
        return _error(status, name, _text(parsed.get("message") or parsed.get("Message")), retry_after)
    if isinstance(error, dict) and isinstance(error.get("status"), str):
        return _error(status, error["status"], _text(error.get("message")), retry_after)
    return decode_openai_error(status, headers, body)


def error_event(error: Any) -> UpstreamError:
    """The `error` of an event, or of an answer that came with status 200; one of no known type is a failure (502)."""
    error = error if isinstance(error, dict) else {}
    kind = _text(error.get("type"))
    return _error(_STATUS_OF_TYPE.get(kind or "", 500), kind, _text(error.get("message")), None)


def exception_event(name: str, payload: bytes) -> UpstreamError:
    """An exception message in a Bedrock stream; `name` is its `:exception-type`."""
    said = _object(payload)
    status = _STATUS_OF_EXCEPTION.get(name.lower(), 500)
    return _error(status, name, _text(said.get("message") or said.get("Message")), None)


def _error(status: int, kind: str | None, message: str | None, retry_after: float | None) -> UpstreamError:
    message = message or f"The provider answered {status} and gave no reason."
    if status in (408, 504):
        return UpstreamTimeout(message, code=kind, retry_after=retry_after)
    if status in (503, 529):
        return UpstreamUnavailable(message, code=kind, retry_after=retry_after)
    if status == 424 or not 400 <= status < 500:
        return UpstreamFailed(message, code=kind, retry_after=retry_after)
    own, code = _OPENAI.get(status, ("invalid_request_error", None))
    lowered = message.lower()
    if status == 401 or (kind or "").lower() in _NOT_OUR_CREDENTIAL or _BAD_BEDROCK_KEY in lowered:
        code = code if status == 401 else "invalid_api_key"
        return UpstreamUnauthenticated(message, code=code, status=status, retry_after=retry_after)
    if status == 404:
        code = "model_not_found" if "model" in lowered else "not_found"
    elif status in (400, 413) and is_too_long(message):
        code = CODE
    elif status == 400 and _BLOCKED in lowered:
        code = "content_filter"
    elif status in (400, 403, 429) and any(words in lowered for words in _NO_CREDIT):
        own = code = "insufficient_quota"
    elif code is None and kind not in (None, "invalid_request_error"):
        code = kind
    return UpstreamRejected(message, code=code, type=own, status=status, retry_after=retry_after)


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}  # HTML or nothing: `decode_openai_error` reads what a person would
    return parsed if isinstance(parsed, dict) else {}


def _text(value: Any) -> str | None:
    return value[:2_000] if isinstance(value, str) and value else None
