"""Errors of OpenAI-compatible providers, in all the shapes they come in.

OpenAI's own is `{"error": {message, type, param, code}}`; others send `{"error": "text"}`, `{"detail": …}` (FastAPI),
`{"message": …}` (Mistral), a list with one error (Gemini's endpoint), HTML, or nothing.
Sources: https://platform.openai.com/docs/guides/error-codes, https://openrouter.ai/docs/api-reference/errors
"""

import email.utils
import math
import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.dialects.context_length import CODE, is_too_long
from llm_gateway.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthenticated,
    UpstreamUnavailable,
)

_OWN_TYPES = frozenset(
    {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "rate_limit_error",
        "insufficient_quota",
        "server_error",
        "tokens",
        "requests",
    }
)
_TYPE_OF_STATUS = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_BAD_KEY = re.compile(r"incorrect api key|api key not valid|API_KEY_INVALID", re.IGNORECASE)
"""xAI and Gemini's OpenAI endpoint answer 400 to a key that they do not know:
https://github.com/continuedev/continue/issues/10778, https://ai.google.dev/gemini-api/docs/troubleshooting"""
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_LONGEST_MESSAGE = 2_000
_LONGEST_WAIT_S = 7 * 86_400.0
_TAG = re.compile(r"<(?:style|script)\b.*?</(?:style|script)>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def decode_openai_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """The provider's refusal as our error: its message, code, param and `Retry-After` are kept, and a 4xx status.

    A context that is too long has OpenAI's code, whatever the vendor's. 5xx keep their class: 503 and 529 (overloaded)
    are 503, 504 is 504, every other is 502.
    """
    described = _describe(body)
    message = described.get("message") or f"The provider answered {status} and gave no reason."
    code = described.get("code")
    retry_after = read_retry_after(headers)
    if status == 408:
        return UpstreamTimeout(message, code=code, status=status, retry_after=retry_after)
    if 400 <= status < 500:
        if status == 429 and retry_after is None:
            retry_after = _until_reset(headers)
        return _rejected(status, described, message, retry_after)
    if status in (503, 529):
        return UpstreamUnavailable(message, code=code, retry_after=retry_after)
    if status == 504:
        return UpstreamTimeout(message, code=code, retry_after=retry_after)
    if 300 <= status < 400:
        message = f"The provider answered with a redirect ({status}), which the gateway does not follow."
    return UpstreamFailed(message, code=code, retry_after=retry_after)


def _rejected(
    status: int, described: Mapping[str, str | None], message: str, retry_after: float | None
) -> UpstreamRejected:
    given, code, param = described.get("type"), described.get("code"), described.get("param")
    own = given if given in _OWN_TYPES else _TYPE_OF_STATUS.get(status, "invalid_request_error")
    if status == 401 or (status == 400 and (code == "invalid_api_key" or _BAD_KEY.search(message))):
        own = given if given in _OWN_TYPES else "authentication_error"
        return UpstreamUnauthenticated(
            message, param=param, code=code, type=own, status=status, retry_after=retry_after
        )
    if status in (400, 413, 422) and is_too_long(message):
        code = CODE
    elif status == 402:
        code = code or "insufficient_quota"
    return UpstreamRejected(message, param=param, code=code, type=own, status=status, retry_after=retry_after)


def error_inside(answer: Mapping[str, Any]) -> UpstreamError | None:
    """The error that a provider sent inside an answer or chunk with status 200, if there is one.

    OpenRouter's `code` is then an HTTP status; without one it is a failure of the provider (502).
    """
    error = answer.get("error")
    if not error:
        return None
    status = error.get("code") if isinstance(error, dict) else None
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    if not isinstance(status, int) or not 400 <= status <= 599:
        status = _status_of_type(error.get("type") if isinstance(error, dict) else None)
    return decode_openai_error(status, {}, orjson.dumps({"error": error}))


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after` (seconds or an HTTP date), a week at most.

    None where neither is there, or can be read.

    Source: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    # Some vendors send words in one of them; the other may still say it.
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _wait(milliseconds / 1000)
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return _wait(seconds)
    try:
        return _wait(email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _wait(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST_WAIT_S)


def _until_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until the limit that is used up has room again, from `x-ratelimit-reset-…: 6m0s`.

    Source: https://platform.openai.com/docs/guides/rate-limits (rate limits in headers)
    """
    waits = [
        duration_s(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def duration_s(text: str) -> float | None:
    """Seconds of `6m0s`, `1h2m3.5s` or `12ms`; None for anything else."""
    found = _DURATION.fullmatch(text) if text else None
    if found is None:
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _status_of_type(kind: Any) -> int:
    return {
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "invalid_request_error": 400,
        "authentication_error": 401,
        "overloaded_error": 503,
    }.get(kind if isinstance(kind, str) else "", 502)


def _describe(body: bytes) -> dict[str, str | None]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"message": _plain_text(body)}
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return {"message": _plain_text(body)}
    error = parsed.get("error", parsed)
    if isinstance(error, str):
        error = {**parsed, "message": parsed.get("message") or error}
    if not isinstance(error, dict):
        return {"message": _plain_text(body)}
    return {
        "message": _message(error),
        "type": _text(error.get("type")),
        "param": _text(error.get("param")),
        "code": _text(error.get("code")),
    }


def _message(error: Mapping[str, Any]) -> str | None:
    for name in ("message", "detail", "msg", "error_description"):
        value = error.get(name)
        if isinstance(value, str) and value:
            return value[:_LONGEST_MESSAGE]
        if isinstance(value, dict | list) and value:
            return orjson.dumps(value).decode()[:_LONGEST_MESSAGE]
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, str) and value:
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _plain_text(body: bytes) -> str | None:
    """What a person would read of an error page."""
    text = _TAG.sub(" ", body[:65_536].decode("utf-8", "replace"))
    return " ".join(text.split())[:_LONGEST_MESSAGE] or None
