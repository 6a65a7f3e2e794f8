"""Specifies what kind of fault each error of a call is, from the bytes that the vendors send."""

import json
from typing import Any

import pytest

from llm_gateway.dialects.anthropic_errors import decode_anthropic_error, error_event
from llm_gateway.dialects.bedrock_errors import decode_bedrock_error, decode_stream_exception
from llm_gateway.dialects.gemini_errors import decode_gemini_error
from llm_gateway.dialects.openai_errors import decode_openai_error, error_inside
from llm_gateway.errors import (
    AuthenticationFailed,
    CredentialsMissing,
    GatewayError,
    InternalFailure,
    InvalidRequest,
    ModelNotFound,
    ProviderKeyUnreadable,
    RateLimited,
    Unavailable,
    UpstreamCut,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from llm_gateway.routing.faults import Fault, FaultKind, fault_of


def openai(status: int, error: Any = None, **headers: str) -> GatewayError:
    return decode_openai_error(status, headers, json.dumps({"error": error or {"message": "no"}}).encode())


def anthropic(status: int, kind: str, message: str = "no") -> GatewayError:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return decode_anthropic_error(status, {}, json.dumps(body).encode())


def gemini(status: int, word: str, message: str = "no", details: Any = ()) -> GatewayError:
    body = {"error": {"code": status, "status": word, "message": message, "details": list(details)}}
    return decode_gemini_error(status, {}, json.dumps(body).encode())


def bedrock(status: int, kind: str, message: str = "no") -> GatewayError:
    return decode_bedrock_error(status, {"x-amzn-errortype": kind}, json.dumps({"message": message}).encode())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((openai(status), "passing") for status in (301, 408, 409, 425, 500, 501, 502, 503, 529)),
        *((openai(status), "denied") for status in (401, 402, 403, 404)),
        *((openai(status), "request") for status in (400, 405, 413, 415, 422, 451)),
        (openai(429), "limited"),
        (openai(504), "silent"),
        (openai(429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}), "denied"),
        (openai(400, {"message": "Incorrect API key provided"}), "denied"),
        (openai(400, {"message": "too long", "code": "context_length_exceeded"}), "context_length"),
        (openai(400, {"message": "This model's maximum context length is 8192 tokens."}), "context_length"),
        (decode_openai_error(502, {}, b"<html>Bad Gateway</html>"), "passing"),
        (anthropic(529, "overloaded_error"), "passing"),
        (anthropic(500, "api_error"), "passing"),
        (anthropic(409, "conflict_error"), "passing"),
        (anthropic(504, "timeout_error"), "silent"),
        (anthropic(429, "rate_limit_error"), "limited"),
        (anthropic(400, "invalid_request_error", "Your credit balance is too low"), "denied"),
        (anthropic(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000"), "context_length"),
        (anthropic(400, "invalid_request_error", "messages: roles must alternate"), "request"),
        (error_event({"type": "overloaded_error", "message": "Overloaded"}), "passing"),
        (gemini(503, "UNAVAILABLE"), "passing"),
        (gemini(500, "INTERNAL"), "passing"),
        (gemini(504, "DEADLINE_EXCEEDED"), "silent"),
        (gemini(429, "RESOURCE_EXHAUSTED"), "limited"),
        (gemini(403, "PERMISSION_DENIED"), "denied"),
        (gemini(400, "INVALID_ARGUMENT"), "request"),
        (gemini(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum"), "context_length"),
        (bedrock(429, "ThrottlingException"), "limited"),
        (bedrock(424, "ModelErrorException"), "passing"),
        (bedrock(429, "ModelNotReadyException"), "passing"),
        (bedrock(408, "ModelTimeoutException"), "silent"),
        (bedrock(500, "InternalServerException"), "passing"),
        (bedrock(403, "ExpiredTokenException"), "denied"),
        (bedrock(400, "ServiceQuotaExceededException"), "denied"),
        (bedrock(400, "ValidationException"), "request"),
        (bedrock(400, "ValidationException", "Input is too long for requested model."), "context_length"),
        (decode_stream_exception("throttlingException", b"{}"), "limited"),
        (UpstreamUnreachable("no connection: refused"), "passing"),
        (UpstreamCut("closed in the middle"), "passing"),
        (UpstreamMalformed("not HTTP"), "passing"),
        (UpstreamTimeout("no first token in time"), "silent"),
        (ModelNotFound("provider has no key"), "denied"),
        (CredentialsMissing("no key"), "denied"),
        (ProviderKeyUnreadable("no JSON"), "denied"),
        (InvalidRequest("this wire cannot carry it"), "request"),
        (RateLimited("our own limit"), "gateway"),
        (Unavailable("our own store"), "gateway"),
        (InternalFailure("our own"), "gateway"),
        (AuthenticationFailed("whose key?"), "gateway"),
    ],
)
def test_what_kind_of_fault_it_is(error: GatewayError, kind: FaultKind) -> None:
    assert fault_of(error).kind == kind


@pytest.mark.parametrize(
    "error",
    [
        openai(
            400,
            {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
                "policy. Please modify your prompt and retry.",
                "code": "content_filter",
            },
        ),
        openai(400, {"message": "no", "code": "content_policy_violation"}),
        openai(400, {"message": "Your request was rejected as a result of our safety system.", "type": "image_error"}),
        openai(
            400,
            {
                "message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
                "code": "invalid_prompt",
            },
        ),
        # With a status of which each would mean something else.
        openai(403, {"code": 403, "message": "some/model requires moderation. Your input was flagged for 'violence'."}),
        openai(403, "Content violates usage guidelines. Team: t, Model: grok-4, Failed check: SAFETY_CHECK_TYPE_BIO"),
        openai(500, {"message": "input new_sensitive, messages[2]'s content[1] image is sensitive", "code": "1026"}),
        openai(400, {"message": "Content Exists Risk"}),
        error_inside({"error": {"code": 403, "message": "Your input was flagged"}}),
        anthropic(400, "invalid_request_error", "Output blocked by content filtering policy"),
        bedrock(400, "ValidationException", "This request has been blocked by our content filters."),
    ],
)
def test_a_refusal_of_the_content_policy_is_known_by_code_or_words(error: GatewayError) -> None:
    assert fault_of(error).kind == "content_policy"


def test_a_fault_keeps_what_the_provider_asked_for_and_the_code() -> None:
    assert fault_of(openai(429, {"message": "slow", "code": "slow_down"}, **{"retry-after": "7"})) == Fault(
        "limited", 7.0, "slow_down"
    )
    assert fault_of(UpstreamCut("cut")) == Fault("passing", None, "upstream_cut")
