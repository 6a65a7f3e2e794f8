"""Errors of the Bedrock runtime, by HTTP and inside an event stream.

The kind stands in the header `x-amzn-errortype` (perhaps with `:` and an address behind it) or in the body's `__type`;
the body is `{"message": …}`. In a stream the kind is the message's `:exception-type`, in lower camel case.
Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors,
https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html,
https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization
"""

import re
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

_STATUS = {
    "AccessDeniedException": 403,
    "InternalServerException": 500,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelStreamErrorException": 424,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "ValidationException": 400,
}
"""What the service model gives each; an exception in a stream has no status line of its own."""

_NOT_THE_REQUEST: dict[str, type[UpstreamError]] = {
    "ModelErrorException": UpstreamFailed,
    "ModelNotReadyException": UpstreamUnavailable,
    "ModelStreamErrorException": UpstreamFailed,
    "ModelTimeoutException": UpstreamTimeout,
}
"""Failures of the provider that come with a status of the 400s, as if the caller could help it."""

_TYPES = {
    "AccessDeniedException": "permission_error",
    "ServiceQuotaExceededException": "insufficient_quota",
    "ThrottlingException": "rate_limit_error",
}
_UNAUTHENTICATED = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
_BAD_KEY = "make sure your API Key is valid"
"""What Bedrock says to a key of its own that it does not know, with 403 and no kind:
https://github.com/anomalyco/opencode/issues/47073"""
_TYPE_OF_STATUS = {403: "permission_error", 429: "rate_limit_error"}

_NO_SUCH_MODEL = re.compile(r"model identifier is invalid|could not resolve the foundation model", re.IGNORECASE)


def decode_bedrock_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """The provider's refusal as our error, with its status, message and kind (the `code`).

    A context that is too long and a model that is not there have OpenAI's codes, which frameworks branch on.
    """
    described = _object(body)
    kind = headers.get("x-amzn-errortype") or described.get("__type") or described.get("code")
    if _BAD_KEY in str(described.get("Message") or described.get("message")):
        kind = "UnrecognizedClientException"
    if not isinstance(kind, str) or not kind:
        return decode_openai_error(status, headers, body)
    # `aws.protocols#ValidationException:http://…` is ValidationException
    name = kind.partition(":")[0].rpartition("#")[2]
    return _error(name, status, described, read_retry_after(headers))


def decode_stream_exception(name: str | None, data: bytes) -> UpstreamError:
    """A failure inside a stream that began with 200."""
    kind = (name or "")[:1].upper() + (name or "")[1:]
    return _error(kind, _STATUS.get(kind, 500), _object(data), None)


def _error(kind: str, status: int, described: Mapping[str, Any], retry_after: float | None) -> UpstreamError:
    message = _message(kind, status, described)
    if failed := _NOT_THE_REQUEST.get(kind):
        return failed(message, code=kind, retry_after=retry_after)
    if kind in _UNAUTHENTICATED or status == 401:
        return UpstreamUnauthenticated(message, code=kind, status=status, retry_after=retry_after)
    if 400 <= status < 500:
        code, param = _code(kind, status, message)
        own = _TYPES.get(kind) or _TYPE_OF_STATUS.get(status, "invalid_request_error")
        return UpstreamRejected(message, param=param, code=code, type=own, status=status, retry_after=retry_after)
    if status == 503:
        return UpstreamUnavailable(message, code=kind, retry_after=retry_after)
    if status == 504:
        return UpstreamTimeout(message, code=kind, retry_after=retry_after)
    return UpstreamFailed(message, code=kind or None, retry_after=retry_after)


def _code(kind: str, status: int, message: str) -> tuple[str, str | None]:
    if kind == "ValidationException" and is_too_long(message):
        return CODE, "messages"
    if kind == "ResourceNotFoundException" or status == 404 or _NO_SUCH_MODEL.search(message):
        return "model_not_found", "model"
    return kind, None


def _message(kind: str, status: int, described: Mapping[str, Any]) -> str:
    told = described.get("message") or described.get("Message")
    original = described.get("originalMessage")
    parts = [part for part in (told, original if original != told else None) if isinstance(part, str) and part]
    return ": ".join(parts) or f"The provider answered {status} ({kind or 'unknown error'}) and gave no reason."


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
