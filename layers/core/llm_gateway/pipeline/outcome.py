"""How a call went, and what that makes of its ledger entry."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llm_gateway.dialects.dialect import StreamTranslator
from llm_gateway.domain.usage import Attempt, Cost, RequestRecord, Usage
from llm_gateway.errors import GatewayError, UpstreamCut, UpstreamTimeout
from llm_gateway.metering.estimate import estimate_request_tokens, estimate_tokens


@dataclass
class Outcome:
    """Filled as the call goes on. Times are `time.perf_counter` readings; `began` is when the call arrived."""

    began: float
    error: GatewayError | None = None
    gone: bool = False
    """The caller left before the last byte."""
    answered: bool = False
    """The answer was ready: from then on the caller has a status of 200."""
    sent_at: float | None = None
    status: int | None = None
    """The provider's, once it has accepted the call."""
    attempts: list[Attempt] = field(default_factory=list)
    """Those that are over; the one that was accepted joins them at the end."""
    answered_model: str | None = None
    finish_reason: str | None = None
    counted: Usage | None = None
    """Of a buffered answer, which also has its `cost` before it goes out."""
    cost: Cost | None = None
    translator: StreamTranslator | None = None
    first_content_at: float | None = None

    def final_record(
        self,
        record: RequestRecord,
        ended: float,
        fields: Mapping[str, Any],
        price: Callable[[Usage, str | None], Cost],
    ) -> RequestRecord:
        """The record as it is to be kept. `fields` is the request's body; `price` takes usage and answered model."""
        first, translator = self.first_content_at, self.translator
        model = self.answered_model if translator is None else translator.model
        usage = self._usage(fields)
        cost = self.cost or price(usage, model)
        error_code = self._error_code()
        return replace(
            record,
            status="failed" if self.error else "settled",
            latency_ms=_milliseconds(ended - self.began),
            http_status=self._http_status(),
            error_code=error_code,
            answered_model=model,
            finish_reason=self.finish_reason if translator is None else translator.finish_reason,
            ttft_ms=None if first is None else _milliseconds(first - self.began),
            attempts=tuple(self._all_attempts(record, error_code, ended)),
            usage=usage,
            cost_usd=cost.usd,
            price_version=cost.price_version or None,
        )

    def _usage(self, fields: Mapping[str, Any]) -> Usage:
        """What the provider counted. Where it did not come to that, what it will bill for what it has begun.

        A call that it refused, or that never reached it, costs nothing.
        """
        translator = self.translator
        counted = self.counted if translator is None else translator.usage
        if counted is not None:
            return counted
        begun = translator is not None and translator.started
        accepted = self.status is not None or not self.attempts or self.attempts[-1].status is None
        unanswered = isinstance(self.error, UpstreamCut | UpstreamTimeout) and accepted
        if self.sent_at is None or (self.error is not None and not begun and not unanswered):
            return Usage()
        return estimate(fields, translator.text() if translator is not None else "")

    def _all_attempts(self, record: RequestRecord, error_code: str | None, ended: float) -> list[Attempt]:
        if self.sent_at is None or (self.attempts and self.status is None):
            return self.attempts
        began = self.sent_at + sum(attempt.latency_ms for attempt in self.attempts) / 1000
        latency_ms = _milliseconds(ended - began)
        last = Attempt(record.provider, record.routed_model, self.status, error_code, latency_ms)
        return [*self.attempts, last]

    def _http_status(self) -> int | None:
        if self.answered:
            return 200
        return self.error.http_status if self.error is not None else None

    def _error_code(self) -> str | None:
        if self.error is not None:
            return self.error.error_code or self.error.error_type
        return "client_disconnected" if self.gone else None


def estimate(fields: Mapping[str, Any], text: str) -> Usage:
    """What a provider that gave no count will bill: the whole prompt, and what was written so far."""
    output_tokens = estimate_tokens(text) if text else 0
    return Usage(input_tokens=estimate_request_tokens(fields), output_tokens=output_tokens, estimated=True)


def attempt(provider: str, model: str, status: int | None, error: GatewayError, began: float) -> Attempt:
    """One that failed just now."""
    code = error.error_code or error.error_type
    return Attempt(provider, model, status, code, _milliseconds(time.perf_counter() - began))


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
