"""Errors of Google's APIs: `{"error": {code, message, status, details}}`, in a list now and then.

Sources: https://cloud.google.com/apis/design/errors (the model; ErrorInfo, RetryInfo, QuotaFailure, BadRequest),
https://ai.google.dev/gemini-api/docs/troubleshooting (what the statuses mean),
https://discuss.ai.google.dev/t/183654 (402 where credits are used up, which was 429 before)
"""

import re
from collections.abc import Mapping, Sequence
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

_STATUSES = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499, "INTERNAL": 500, "UNKNOWN": 500, "DATA_LOSS": 500, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
_CODES = {401: "invalid_api_key", 403: "permission_denied", 404: "model_not_found", 429: "rate_limit_exceeded"}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_BAD_KEY = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_NOT_FOUND"})
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")
_LONGEST_MESSAGE = 2_000


def decode_gemini_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Google's refusal as our error. What does not come in Google's shape (a proxy's page) is read as anybody's."""
    error = _error_in(body)
    if error is None:
        return decode_openai_error(status, headers, body)
    return _described(status, error, read_retry_after(headers))


def error_inside(answer: Mapping[str, Any]) -> UpstreamError | None:
    """The error that came inside an answer or a stream that began with 200, if there is one."""
    error = answer.get("error")
    if not isinstance(error, dict) or not error:
        return None
    code = error.get("code")
    if not isinstance(code, int) or not 400 <= code <= 599:
        code = _STATUSES.get(str(error.get("status")), 500)
    return _described(code, error, None)


def _described(status: int, error: Mapping[str, Any], retry_after: float | None) -> UpstreamError:
    message = str(error.get("message") or f"The provider answered {status} and gave no reason.")[:_LONGEST_MESSAGE]
    word = error.get("status")
    details = [detail for detail in error.get("details") or () if isinstance(detail, dict)]
    retry_after = _retry_delay(details) or retry_after
    code: str | None = word if isinstance(word, str) else None
    if status in {503, 529}:
        return UpstreamUnavailable(message, code=code, retry_after=retry_after)
    if status == 504:
        return UpstreamTimeout(message, code=code, retry_after=retry_after)
    if not 400 <= status < 500:
        return UpstreamFailed(message, code=code, retry_after=retry_after)
    if any(detail.get("reason") in _BAD_KEY for detail in details):
        status = 401  # the Gemini API says 400 to a key that it does not know
    code, kind = _CODES.get(status, code), _TYPES.get(status, "invalid_request_error")
    if status == 401:
        return UpstreamUnauthenticated(message, code=code, retry_after=retry_after)
    if status == 400 and is_too_long(message):
        code = CODE
    elif status == 402 or (status == 429 and _is_spent(message, details)):
        code = kind = "insufficient_quota"
    return UpstreamRejected(
        message, param=_field(details), code=code, type=kind, status=status, retry_after=retry_after
    )


def _is_spent(message: str, details: Sequence[Mapping[str, Any]]) -> bool:
    """Whether waiting a minute will not help: a day's quota, or money."""
    violations = [each for detail in details for each in detail.get("violations") or () if isinstance(each, dict)]
    return "prepayment" in message.lower() or any("PerDay" in str(each.get("quotaId")) for each in violations)


def _retry_delay(details: Sequence[Mapping[str, Any]]) -> float | None:
    for detail in details:
        found = _SECONDS.fullmatch(str(detail.get("retryDelay", "")))
        if found:
            return float(found[1])
    return None


def _field(details: Sequence[Mapping[str, Any]]) -> str | None:
    for detail in details:
        for violation in detail.get("fieldViolations") or ():
            if isinstance(violation, dict) and violation.get("field"):
                return str(violation["field"])
    return None


def _error_in(body: bytes) -> Mapping[str, Any] | None:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, dict) and "status" in error else None
