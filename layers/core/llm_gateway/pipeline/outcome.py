"""How a call went, and what that makes of its ledger entry."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from llm_gateway.domain.usage import Attempt, Cost, RequestRecord, Usage, total_usage
from llm_gateway.errors import GatewayError
from llm_gateway.metering.cost import total_cost
from llm_gateway.pipeline.leg import Leg, Price, code_of, milliseconds


def in_order(legs: Sequence[Leg]) -> Sequence[Leg]:
    """As they were begun: the one that answers is put last, though one that was begun beside it may have come later."""
    return sorted(legs, key=lambda leg: leg.sent_at or 0.0) if len(legs) > 1 else legs


@dataclass
class Outcome:
    """Filled as the call goes on. Times are readings of the pipeline's clock; `began` is when the call arrived."""

    began: float
    error: GatewayError | None = None
    gone: bool = False
    """The caller left before the last byte."""
    answered: bool = False
    """The answer was ready: from then on the caller has a status of 200."""
    legs: list[Leg] = field(default_factory=list)
    """Every leg that was begun, in order."""

    @property
    def leg(self) -> Leg | None:
        """The one that answered, or was tried last."""
        return self.legs[-1] if self.legs else None

    @property
    def first_content_at(self) -> float | None:
        return next((leg.first_content_at for leg in self.legs if leg.first_content_at is not None), None)

    def final_record(self, record: RequestRecord, ended: float, price: Price) -> RequestRecord:
        """The record as it is to be kept: usage and cost are those of all legs together."""
        first, last = self.first_content_at, self.leg
        error_code = self._error_code()
        usage, cost, attempts = self._summed(error_code, ended, price)
        return replace(
            record,
            provider=record.provider if last is None else last.provider.name,
            routed_model=record.routed_model if last is None else last.deployment.model,
            answered_model=None if last is None else last.model,
            finish_reason=None if last is None else last.reason,
            status="failed" if self.error else "settled",
            latency_ms=milliseconds(ended - self.began),
            http_status=self._http_status(),
            error_code=error_code,
            ttft_ms=None if first is None else milliseconds(first - self.began),
            attempts=tuple(attempts),
            usage=usage,
            cost_usd=cost.usd,
            provider_cost_usd=cost.provider_usd,
            price_version=cost.price_version or None,
        )

    def spent(self, price: Price) -> Cost:
        """What the legs come to so far."""
        return self._summed(None, self.began, price)[1]

    def used(self, price: Price) -> Usage:
        return self._summed(None, self.began, price)[0]

    def _summed(self, error_code: str | None, ended: float, price: Price) -> tuple[Usage, Cost, list[Attempt]]:
        bills: list[tuple[Usage, Cost]] = []
        attempts: list[Attempt] = []
        for leg in in_order(self.legs):
            last = leg is self.leg
            billed = leg.bill(price, self.error if last else None, gone=self.gone and last)
            # Of a single leg the record itself says what it came to.
            attempts += leg.all_attempts(billed if len(self.legs) > 1 else None, error_code if last else None, ended)
            bills.append(billed)
        counted = [bill for bill in bills if bill[0].input_tokens or bill[0].output_tokens] or bills[-1:]
        if not counted:
            return Usage(), Cost(Decimal(0), ""), attempts
        if len(counted) == 1:
            return *counted[0], attempts
        usage = total_usage([usage for usage, _ in counted])
        return usage, total_cost([cost for _, cost in counted]), attempts

    def _http_status(self) -> int | None:
        if self.answered:
            return 200
        return self.error.http_status if self.error is not None else None

    def _error_code(self) -> str | None:
        return code_of(self.error) or ("client_disconnected" if self.gone else None)
