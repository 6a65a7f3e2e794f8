"""How a call went, and what that makes of its ledger entry."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llm_gateway.dialects.dialect import StreamTranslator
from llm_gateway.domain.usage import Attempt, Cost, RequestRecord, Usage
from llm_gateway.errors import GatewayError, UpstreamCut, UpstreamTimeout
from llm_gateway.metering.estimate import estimate_request_tokens, estimate_tokens
from llm_gateway.pipeline.provider_keys import ProviderKey


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
    key: ProviderKey | None = None
    """The provider's key that was sent last."""
    answered_model: str | None = None
    finish_reason: str | None = None
    asked_tier: str | None = None
    """The service tier that the provider was asked for."""
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
            provider_cost_usd=cost.provider_usd,
            price_version=cost.price_version or None,
        )

    def _usage(self, fields: Mapping[str, Any]) -> Usage:
        """What the provider counted. Where it did not come to that, what it will bill for what it has begun.

        A call that it refused, or that never reached it, costs nothing.
        """
        translator = self.translator
        counted = self.counted if translator is None else translator.usage
        if counted is not None:
            return self.in_tier(self._as_final(counted))
        begun = translator is not None and translator.started
        accepted = self.status is not None or not self.attempts or self.attempts[-1].status is None
        unanswered = isinstance(self.error, UpstreamCut | UpstreamTimeout) and accepted
        if self.sent_at is None or (self.error is not None and not begun and not unanswered):
            return Usage()
        return self.in_tier(estimate(fields, translator.text() if translator is not None else ""))

    def in_tier(self, usage: Usage) -> Usage:
        """`usage` in the tier that was asked for, where the provider did not say in which it served."""
        if usage.service_tier is not None:
            return usage
        told = None if self.translator is None else self.translator.service_tier
        tier = told or self.asked_tier
        return usage if tier is None else replace(usage, service_tier=tier)

    def _as_final(self, counted: Usage) -> Usage:
        """Counts that came on the way (Gemini's running totals) are short of what the provider bills in the end."""
        translator = self.translator
        if translator is None or translator.finish_reason is not None or not (self.gone or self.error):
            return counted
        written = estimate_tokens(translator.text())
        return replace(counted, output_tokens=max(counted.output_tokens, written), estimated=True)

    def _all_attempts(self, record: RequestRecord, error_code: str | None, ended: float) -> list[Attempt]:
        if self.sent_at is None or (self.attempts and self.status is None):
            return self.attempts
        began = self.sent_at + sum(attempt.latency_ms for attempt in self.attempts) / 1000
        latency_ms = _milliseconds(ended - began)
        source, name = _told_of(self.key)
        last = Attempt(record.provider, record.routed_model, self.status, error_code, latency_ms, source, name)
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


def attempt(
    provider: str, model: str, status: int | None, error: GatewayError, began: float, key: ProviderKey | None
) -> Attempt:
    """One that failed just now."""
    code = error.error_code or error.error_type
    source, name = _told_of(key)
    return Attempt(provider, model, status, code, _milliseconds(time.perf_counter() - began), source, name)


def _told_of(key: ProviderKey | None) -> tuple[str | None, str | None]:
    """Whose key it is, and its short name."""
    return (None, None) if key is None else (key.source, key.name)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
