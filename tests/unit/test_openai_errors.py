"""How a provider's refusal reaches the caller: status, code, param, message and Retry-After kept; every shape of body read."""

import email.utils
import time

import pytest

from llm_gateway.dialects.openai_errors import decode_openai_error, error_inside, read_retry_after
from llm_gateway.errors import UpstreamFailed, UpstreamRejected, UpstreamTimeout, UpstreamUnavailable

OPENAI = (
    b'{"error":{"message":"This model\'s maximum context length is 8192 tokens.","type":"invalid_request_error",'
    b'"param":"messages","code":"context_length_exceeded"}}'
)


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (400, OPENAI, (400, "invalid_request_error", "messages", "context_length_exceeded", "maximum context length")),
        (
            401,
            b'{"error":{"message":"Bad key","code":"invalid_api_key"}}',
            (401, "authentication_error", None, "invalid_api_key", "Bad key"),
        ),
        (403, b'{"error":"Country not supported"}', (403, "permission_error", None, None, "Country not supported")),
        (404, b'{"detail":"Not Found"}', (404, "invalid_request_error", None, None, "Not Found")),
        (
            422,
            b'{"detail":[{"loc":["body","n"],"msg":"bad"}]}',
            (422, "invalid_request_error", None, None, '"msg":"bad"'),
        ),
        (
            429,
            b'{"error":{"message":"Slow down","type":"tokens","code":"rate_limit_exceeded"}}',
            (429, "tokens", None, "rate_limit_exceeded", "Slow down"),
        ),
        (
            429,
            b'{"error":{"message":"Quota","type":"insufficient_quota","code":"insufficient_quota"}}',
            (429, "insufficient_quota", None, "insufficient_quota", "Quota"),
        ),
        (
            429,
            b'{"message":"Requests rate limit exceeded","object":"error","type":"rate_limited"}',
            (429, "rate_limit_error", None, None, "Requests rate limit"),
        ),
        (
            400,
            b'[{"error":{"code":400,"message":"Invalid value","status":"INVALID_ARGUMENT"}}]',
            (400, "invalid_request_error", None, "400", "Invalid value"),
        ),
        (
            500,
            b'{"error":{"message":"oops","type":"server_error","code":"boom"}}',
            (502, "server_error", None, "boom", "oops"),
        ),
        (
            502,
            b"<html><head><style>p{}</style></head><body><h1>Bad  Gateway</h1></body></html>",
            (502, "server_error", None, "upstream_error", "Bad Gateway"),
        ),
        (503, b"", (503, "server_error", None, "upstream_unavailable", "503")),
        (
            529,
            b'{"error":{"type":"overloaded_error","message":"Overloaded"}}',
            (503, "server_error", None, "upstream_unavailable", "Overloaded"),
        ),
        (504, b"null", (504, "server_error", None, "upstream_timeout", "null")),
        (301, b"", (502, "server_error", None, "upstream_error", "redirect")),
        (418, b"\xff\xfe", (418, "invalid_request_error", None, None, "\ufffd")),
    ],
)
def test_every_shape_becomes_the_envelope(
    status: int, body: bytes, wanted: tuple[int, str, str | None, str | None, str]
) -> None:
    error = decode_openai_error(status, {}, body)
    envelope = error.envelope()["error"]
    assert (error.http_status, envelope["type"], envelope["param"], envelope["code"]) == wanted[:4]
    assert wanted[4] in envelope["message"]


@pytest.mark.parametrize(
    ("inside", "kind", "status"),
    [
        ({"error": {"code": 429, "message": "Rate limited", "metadata": {}}}, UpstreamRejected, 429),
        ({"error": {"code": "502", "message": "Provider down"}}, UpstreamFailed, 502),
        ({"error": {"type": "overloaded_error", "message": "x"}}, UpstreamUnavailable, 503),
        ({"error": {"code": 504, "message": "x"}}, UpstreamTimeout, 504),
        ({"error": "something"}, UpstreamFailed, 502),
        ({"error": {"code": "content_filter", "message": "x"}}, UpstreamFailed, 502),
    ],
)
def test_an_error_sent_with_200_is_an_error(inside: dict[str, object], kind: type[Exception], status: int) -> None:
    error = error_inside(inside)
    assert isinstance(error, kind)
    assert error.http_status == status


@pytest.mark.parametrize("answer", [{}, {"error": None}, {"error": {}}, {"error": ""}])
def test_no_error_inside(answer: dict[str, object]) -> None:
    assert error_inside(answer) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_in_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    seconds = read_retry_after({"retry-after": date})
    assert seconds is not None
    assert 27 <= seconds <= 30


def test_retry_after_goes_out_rounded_up() -> None:
    error = decode_openai_error(429, {"retry-after-ms": "1200"}, b"{}")
    assert error.response_headers() == {"retry-after": "2"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "7s",
            },
            7.0,
        ),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s", "retry-after": "3"}, 3.0),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, None),
        ({"x-ratelimit-remaining-requests": "0"}, None),
    ],
)
def test_a_rate_limit_says_when_it_has_room(headers: dict[str, str], seconds: float | None) -> None:
    assert decode_openai_error(429, headers, b"{}").retry_after == seconds
    assert decode_openai_error(400, headers, b"{}").retry_after == (3.0 if "retry-after" in headers else None)
