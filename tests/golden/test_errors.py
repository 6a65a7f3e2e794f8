"""Golden refusals of every dialect: what the provider answered, and what the caller gets.

`<dialect>/errors.json` lists them: name, class, source, status, headers and body (a text where it is no JSON) of the
provider, and the status, type, code, message and `Retry-After` (seconds) that the caller sees. Every dialect has each
class in `CLASSES`, less what its wire cannot say.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from llm_gateway.dialects.loading import Dialects
from llm_gateway.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthenticated,
    UpstreamUnavailable,
)

ROOT = Path(__file__).parent
DIALECTS = Dialects()
CASES = {name: json.loads((ROOT / name / "errors.json").read_bytes()) for name in DIALECTS}
CLASSES: dict[str, tuple[type[UpstreamError], ...]] = {
    "invalid_request": (UpstreamRejected,),
    "context_length": (UpstreamRejected,),
    "content_filter": (UpstreamRejected,),
    "authentication": (UpstreamUnauthenticated,),
    "permission": (UpstreamRejected,),
    "not_found": (UpstreamRejected,),
    "rate_limit": (UpstreamRejected,),
    "quota": (UpstreamRejected,),
    "failed": (UpstreamFailed,),
    "overloaded": (UpstreamUnavailable,),
    "timeout": (UpstreamTimeout,),
    "malformed": (UpstreamFailed, UpstreamUnavailable),
}
# Gemini and Converse tell of a filter in an answer with status 200: goldens `safety`, `blocked_prompt`, `guardrail`.
NEVER_AN_ERROR = {"gemini_generate_content": {"content_filter"}, "bedrock_converse": {"content_filter"}}
ALL = [pytest.param(name, case, id=f"{name}-{case['name']}") for name in DIALECTS for case in CASES[name]]


@pytest.mark.parametrize(("dialect", "case"), ALL)
def test_a_refusal_reaches_the_caller(dialect: str, case: dict[str, Any]) -> None:
    given = case["body"]
    body = given.encode() if isinstance(given, str) else json.dumps(given).encode()
    error = DIALECTS[dialect].decode_error(case["status"], case["headers"], body)
    assert {
        "status": error.http_status,
        "type": error.error_type,
        "code": error.error_code,
        "message": error.message,
        "retry_after": error.retry_after,
    } == case["expect"]
    assert type(error) in CLASSES[case["class"]]
    assert ("retry-after" in error.response_headers()) == (case["expect"]["retry_after"] is not None)


@pytest.mark.parametrize("dialect", CASES)
def test_every_class_has_a_golden(dialect: str) -> None:
    assert {case["class"] for case in CASES[dialect]} >= CLASSES.keys() - NEVER_AN_ERROR.get(dialect, set())


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{name}-{case['name']}") for name in CASES for case in CASES[name]]
)
def test_a_context_that_is_too_long_has_one_code_everywhere(case: dict[str, Any]) -> None:
    assert (case["expect"]["code"] == "context_length_exceeded") == (case["class"] == "context_length")
