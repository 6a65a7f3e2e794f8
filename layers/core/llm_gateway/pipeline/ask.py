"""How much a request asks of its limits: money for the most it can cost, and tokens of the minute."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any, Protocol, TypeVar

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Catalog, Deployment
from llm_gateway.domain.limits import OnOutage, Policy, WithoutMaximum
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InvalidRequest
from llm_gateway.metering.estimate import estimate_request_tokens
from llm_gateway.schemas.openai_chat import ModelRequest

_Wish = TypeVar("_Wish")

_EXACT = Context(prec=120, rounding=ROUND_FLOOR)
_USUAL_OUTPUT = 1024
"""Tokens that a request without a maximum is expected to write, for limits by the minute."""
_MOST_UNKNOWN = 16_384
"""Output tokens asked for where neither the caller nor the catalog names a maximum."""
_LEAST_OUTPUT = 16
"""A clamp below this would be an answer in name only."""


class CostBound(Protocol):
    """The most one request can cost (`metering.bound`, with the model's price)."""

    @property
    def output_tokens(self) -> int | None:
        """Of all answers together; None where the caller named no maximum."""
        ...

    @property
    def most_output_tokens(self) -> int | None:
        """By the model's own maximum, where it is known."""
        ...

    @property
    def answers(self) -> int: ...

    def usd(self, output_tokens: int) -> Decimal: ...

    @property
    def members(self) -> Mapping[str, Any]:
        """What the request must say to the provider for the bound to hold, beside its maximum."""
        ...

    def output_that_fits(self, usd: Decimal) -> int:
        """The most output tokens that cost no more than `usd`; negative where not even the prompt does."""
        ...


class BoundPricing(Protocol):
    def bound(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        calls: int,
        deployment: Deployment,
        catalog: Catalog,
        record: RequestRecord,
    ) -> CostBound:
        """Raises `InvalidRequest` for what cannot be bounded, and for a model without a price."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """How much is asked for: `output` tokens to reserve money for, `tokens` of the minute, `least_tokens` of these.

    `chosen` says that the gateway chose the output, and may choose less. `spent_usd` is what earlier attempts of the
    request may have cost, beside the money for the output.
    """

    output: int
    chosen: bool
    tokens: int
    least_tokens: int
    spent_usd: Decimal = Decimal(0)

    def usd(self, bound: CostBound | None) -> Decimal:
        return Decimal(0) if bound is None else _EXACT.add(bound.usd(self.output), self.spent_usd)

    def with_tokens(self, room: int) -> "Ask | None":
        """The same with as many tokens of the minute as are left; None where that does not help."""
        return replace(self, tokens=room) if self.least_tokens <= room < self.tokens else None

    def within(self, usd: Decimal, bound: CostBound | None, policies: Sequence[Policy]) -> "Ask | None":
        """The same with as much output as that pays for; None where the gateway may not choose, or not so little."""
        if bound is None or not self.chosen or _wish(policies) == "reserve":
            return None
        each = bound.output_that_fits(_EXACT.subtract(usd, self.spent_usd)) // bound.answers
        output = each * bound.answers
        return replace(self, output=output) if each >= _LEAST_OUTPUT and output < self.output else None


def ask_of(
    request: ModelRequest,
    bound: CostBound | None,
    policies: Sequence[Policy],
    *,
    clamped: int | None = None,
    spent_usd: Decimal = Decimal(0),
) -> Ask:
    """Tokens a minute: the prompt's estimate and the maximum; without one a usual answer, less where less is left.

    `clamped` is the maximum, of each answer, that the gateway chose at an earlier attempt: `request` may have it.
    """
    output, chosen = _output(bound, policies, clamped)
    fields = request.fields
    prompt = estimate_request_tokens(fields)
    if "messages" not in fields:
        return Ask(output, chosen, prompt, prompt, spent_usd)
    maximum: int | None = fields.get("max_completion_tokens") or fields.get("max_tokens")
    answers: int = fields.get("n") or 1
    if maximum is not None and not chosen:
        tokens = prompt + maximum * answers
        return Ask(output, chosen, tokens, tokens, spent_usd)
    usual = _USUAL_OUTPUT * answers
    return Ask(output, chosen, prompt + (min(output, usual) if chosen else usual), prompt, spent_usd)


def on_outage(policies: Sequence[Policy]) -> OnOutage:
    """What a ledger that cannot be written means for the request."""
    return _first(policy.on_outage for policy in policies) or (
        "deny" if any(policy.enforces for policy in policies) else "allow"
    )


def _output(bound: CostBound | None, policies: Sequence[Policy], clamped: int | None) -> tuple[int, bool]:
    """Output tokens to reserve for, and whether the gateway chose them."""
    if bound is None:
        return 0, False
    if clamped is not None:
        most = (clamped * bound.answers, bound.output_tokens, bound.most_output_tokens)
        return min(each for each in most if each is not None), True
    if bound.output_tokens is not None:
        return bound.output_tokens, False
    if _wish(policies) == "refuse":
        raise InvalidRequest(
            "This key has a hard budget that wants a maximum: set `max_completion_tokens` (or `max_tokens`).",
            param="max_completion_tokens",
            code="max_tokens_required",
        )
    return bound.most_output_tokens or _MOST_UNKNOWN * bound.answers, True


def _wish(policies: Sequence[Policy]) -> WithoutMaximum:
    return _first(policy.without_maximum for policy in policies) or "clamp"


def _first(wishes: Iterable[_Wish | None]) -> _Wish | None:
    return next((wish for wish in wishes if wish is not None), None)
