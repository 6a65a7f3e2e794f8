"""What `client.LLMGatewayClient` answers: what was generated and what it came to, or, where asked, what went wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import GatewayError
from llm_gateway.library.answers import ChatCompletion, ToolCall, first_choice
from llm_gateway.library.client_request import InterventionContext, LLMRequest

_WORTH_AGAIN = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetails:
    """An error as data: what a caller over HTTP would see of it. `retryable`: the same request may succeed later."""

    code: str | None
    type: str
    message: str
    http_status: int
    param: str | None = None
    retryable: bool = False
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMResponse:
    """An answer, or with `error_details` none.

    Usage and cost are the ledger's, of a failed call too: what broke off may have to be paid.
    """

    request_id: str | None
    """The ledger's entry; None where a call failed before it had one."""
    generated_content: str | None = None
    finish_reason: str | None = None
    """`stop`, `length`, `tool_calls`, `content_filter`, or the provider's own word."""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    """Exact; None where no price is known, which is not free."""
    provider: str | None = None
    model: str | None = None
    """As it was called at the provider."""
    answered_model: str | None = None
    error_details: ErrorDetails | None = None
    final_context: InterventionContext
    raw: Mapping[str, Any] | None = field(default=None, repr=False)
    """The whole answer in OpenAI's wire."""


def read_response(request: LLMRequest, answer: ChatCompletion) -> LLMResponse:
    # As it came, and not made up again: a thinking model wants its own words back to the byte.
    message = first_choice(answer.raw).get("message")
    return LLMResponse(
        request_id=answer.request_id,
        generated_content=answer.content,
        finish_reason=answer.finish_reason,
        tool_calls=answer.tool_calls,
        usage=answer.usage,
        cost_usd=answer.cost_usd,
        provider=answer.provider,
        model=answer.model,
        answered_model=answer.answered_model,
        final_context=request.initial_context.after([*request.prompt(), *([message] if message else [])]),
        raw=answer.raw,
    )


def failed_response(request: LLMRequest, error: GatewayError, record: RequestRecord | None) -> LLMResponse:
    """`final_context` is the request's own: a turn without an answer is none."""
    told: dict[str, Any] = {}
    if record is not None:
        told = {
            "usage": record.usage,
            "cost_usd": record.cost_usd,
            "provider": record.provider,
            "model": record.routed_model,
            "answered_model": record.answered_model,
        }
    return LLMResponse(
        request_id=None if record is None else record.request_id,
        error_details=_details(error),
        final_context=request.initial_context,
        **told,
    )


def _details(error: GatewayError) -> ErrorDetails:
    again = error.http_status >= 500 or error.http_status in _WORTH_AGAIN
    return ErrorDetails(
        code=error.error_code,
        type=error.error_type,
        message=error.message,
        http_status=error.http_status,
        param=error.param,
        retryable=again and error.error_type != "insufficient_quota",
        retry_after_seconds=error.retry_after,
    )
