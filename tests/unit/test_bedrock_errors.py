"""Specifies Bedrock's errors as the caller sees them: each class by HTTP, and inside a stream that began with 200."""

from typing import Any

import pytest

from llm_gateway.dialects.bedrock_converse import BedrockConverse
from llm_gateway.dialects.bedrock_errors import decode_bedrock_error, decode_stream_exception
from llm_gateway.errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthenticated,
    UpstreamUnavailable,
)
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.aws_event_stream import split_messages
from tests.fakes.bedrock_upstream import message, messages

REJECTED, FAILED = UpstreamRejected, UpstreamFailed
Row = tuple[int, str, str, type[UpstreamError], int, str, str, str | None]
ERRORS: list[Row] = [
    (429, "ThrottlingException", "Too many requests", REJECTED, 429, "rate_limit_error", "ThrottlingException", None),
    (400, "ServiceQuotaExceededException", "Quota", REJECTED, 400, "insufficient_quota", "ServiceQuotaExceededException", None),
    (403, "AccessDeniedException", "No access", REJECTED, 403, "permission_error", "AccessDeniedException", None),
    (403, "ExpiredTokenException", "Expired", UpstreamUnauthenticated, 403, "authentication_error", "ExpiredTokenException", None),
    (403, "UnrecognizedClientException", "Bad token", UpstreamUnauthenticated, 403, "authentication_error", "UnrecognizedClientException", None),
    (404, "ResourceNotFoundException", "No such model", REJECTED, 404, "invalid_request_error", "model_not_found", "model"),
    (400, "ValidationException", "The provided model identifier is invalid.", REJECTED, 400, "invalid_request_error", "model_not_found", "model"),
    (400, "ValidationException", "Input is too long for requested model.", REJECTED, 400, "invalid_request_error", "context_length_exceeded", "messages"),
    (400, "ValidationException", "The model returned the following errors: prompt is too long: 200049 tokens > 200000 maximum", REJECTED, 400, "invalid_request_error", "context_length_exceeded", "messages"),
    (400, "ValidationException", "temperature: must be at most 1", REJECTED, 400, "invalid_request_error", "ValidationException", None),
    (408, "ModelTimeoutException", "Too slow", UpstreamTimeout, 504, "server_error", "ModelTimeoutException", None),
    (424, "ModelErrorException", "Model broke", FAILED, 502, "server_error", "ModelErrorException", None),
    (429, "ModelNotReadyException", "Warming up", UpstreamUnavailable, 503, "server_error", "ModelNotReadyException", None),
    (500, "InternalServerException", "Oops", FAILED, 502, "server_error", "InternalServerException", None),
    (503, "ServiceUnavailableException", "Busy", UpstreamUnavailable, 503, "server_error", "ServiceUnavailableException", None),
]  # fmt: skip


def seen(error: UpstreamError) -> tuple[Any, ...]:
    return type(error), error.http_status, error.error_type, error.error_code, error.param, error.message


@pytest.mark.parametrize(("status", "kind", "text", "cls", "seen_as", "type_", "code", "param"), ERRORS)
def test_an_error_by_http(
    status: int, kind: str, text: str, cls: type[UpstreamError], seen_as: int, type_: str, code: str, param: str | None
) -> None:
    body = b'{"message":"%s"}' % text.encode()
    by_header = decode_bedrock_error(status, {"x-amzn-errortype": f"{kind}:http://internal/"}, body)
    by_body = decode_bedrock_error(
        status, {}, b'{"__type":"com.amazon#%s","Message":"%s"}' % (kind.encode(), text.encode())
    )
    assert seen(by_header) == seen(by_body) == (cls, seen_as, type_, code, param, text)


@pytest.mark.parametrize(("status", "kind", "text", "cls", "seen_as", "type_", "code", "param"), ERRORS)
def test_an_exception_in_a_stream(
    status: int, kind: str, text: str, cls: type[UpstreamError], seen_as: int, type_: str, code: str, param: str | None
) -> None:
    if kind in ("ExpiredTokenException", "UnrecognizedClientException"):
        return  # those come before a stream begins
    error = decode_stream_exception(kind[0].lower() + kind[1:], b'{"message":"%s"}' % text.encode())
    assert seen(error) == (cls, seen_as, type_, code, param, text)


def test_the_models_own_words_and_the_retry_hint_are_kept() -> None:
    told = b'{"message":"The model failed","originalMessage":"CUDA","originalStatusCode":500}'
    assert decode_stream_exception("modelStreamErrorException", told).message == "The model failed: CUDA"
    limited = decode_bedrock_error(429, {"x-amzn-errortype": "ThrottlingException", "retry-after": "3"}, b"{}")
    assert (limited.retry_after, limited.http_status) == (3.0, 429)
    assert limited.message == "The provider answered 429 (ThrottlingException) and gave no reason."


@pytest.mark.parametrize(("status", "seen_as"), [(502, 502), (503, 503), (504, 504), (403, 403)])
def test_what_is_not_from_aws_is_read_as_any_error_page(status: int, seen_as: int) -> None:
    error = decode_bedrock_error(status, {}, b"<html><body>Gateway trouble</body></html>")
    assert (error.http_status, error.message) == (seen_as, "Gateway trouble")


START = ("messageStart", {"role": "assistant"})
TEXT = ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
LIMIT = ("throttlingException", {"message": "slow down"})


def translator() -> Any:
    request = read_chat_request(b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}')
    return BedrockConverse().translator(request, "m", split_messages)


def test_a_failure_before_content_has_its_status() -> None:
    with pytest.raises(UpstreamRejected, match="slow down"):
        translator().feed(b"".join(messages([START, LIMIT])))


def test_a_failure_behind_content_waits_until_that_is_out() -> None:
    stream = translator()
    stream.feed(b"".join(messages([START, TEXT])))
    assert b'"Hi"' in stream.feed(b"".join(messages([TEXT, LIMIT, TEXT])))
    assert stream.complete
    with pytest.raises(UpstreamRejected, match="slow down"):
        stream.finish(b"")


@pytest.mark.parametrize(
    ("events", "rest", "error"),
    [
        ([START, TEXT], b"", UpstreamCut),
        ([START, TEXT], b"\x00\x00", UpstreamCut),
        ([], b"", UpstreamCut),
    ],
)
def test_an_end_without_the_final_event_is_an_error(
    events: list[tuple[str, dict[str, Any]]], rest: bytes, error: type[UpstreamError]
) -> None:
    stream = translator()
    stream.feed(b"".join(messages(events)))
    with pytest.raises(error):
        stream.finish(rest)


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_malformed_output_is_an_error(reason: str) -> None:
    stream = translator()
    with pytest.raises(UpstreamFailed, match=reason):
        stream.feed(b"".join(messages([START, ("messageStop", {"stopReason": reason})])))
    body = b'{"output":{"message":{"content":[{"text":"{"}]}},"stopReason":"%s"}' % reason.encode()
    request = read_chat_request(b'{"messages":[{"role":"user","content":"x"}]}')
    with pytest.raises(UpstreamFailed, match=reason):
        BedrockConverse().decode("chat.completions", request, "m", body)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"output":{}}', b'{"output":{"message":{"content":["x"]}}}']
)
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    request = read_chat_request(b'{"messages":[{"role":"user","content":"x"}]}')
    with pytest.raises(UpstreamMalformed):
        BedrockConverse().decode("chat.completions", request, "m", body)


@pytest.mark.parametrize(
    "payload", [b"not json", b"[]", b'{"delta":1}', b'{"delta":{"toolUse":{}},"contentBlockIndex":"a"}']
)
def test_an_event_that_cannot_be_read_is_malformed(payload: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        translator().feed(message("contentBlockDelta", payload))
