"""Whether a request may go: the scopes it falls under, what it can cost at most, and room for it in all of them.

A key without limits passes by here untouched. One with limits costs one round trip; only a request without `max_tokens`
that does not fit under a hard budget costs a second one, with as many output tokens as do fit.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any, Protocol, TypeVar

import orjson

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.dialects.json_splice import set_member
from llm_gateway.domain.catalog import Catalog, Deployment
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.limits import OnOutage, Policy, Scope, ScopeKind, WithoutMaximum
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InvalidRequest
from llm_gateway.metering.estimate import estimate_request_tokens
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.rate_limits import over_limits, rate_headers, refusal_of, room_for_output
from llm_gateway.pipeline.reservations import Limited, Refused, Reservation, Reservations
from llm_gateway.schemas.openai_chat import ModelRequest

_Wish = TypeVar("_Wish")

_ASSUMED_OUTPUT = 1024
"""Tokens that a request without a maximum is expected to write, for limits by the minute."""
_MOST_UNKNOWN = 16_384
"""Output tokens asked for where neither the caller nor the catalog names a maximum."""
_LEAST_OUTPUT = 16
"""A clamp below this would be an answer in name only."""
_TRIES = 3
_LONGEST_NAME = 256
"""Of a user, whom the body may call anything; what is longer counts under its hash."""


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
class Admitted:
    """`record` as it was opened. `members` are what the request must say to the provider beside the caller's words."""

    record: RequestRecord
    reservation: Reservation
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Admission:
    def __init__(self, reservations: Reservations, pricing: BoundPricing, now: Callable[[], float] = time.time) -> None:
        self._reservations = reservations
        self._pricing = pricing
        self._now = now

    def scopes_of(
        self, catalog: Catalog, key: VirtualKey, user: str | None, requested: str, deployment: Deployment
    ) -> tuple[Limited, ...]:
        """The limited scopes that a request falls under, those first whose wishes count first.

        A key that belongs to a user stays under that user's limits, whatever the body calls its own user.
        """
        if not catalog.policies:
            return ()
        caller = key.user or user
        names: tuple[tuple[ScopeKind, str | None], ...] = (
            ("key", key.name),
            ("user", caller if caller is None or len(caller) <= _LONGEST_NAME else _digest(caller)),
            ("team", key.team),
            ("organisation", catalog.organisation),
            ("model", requested),
            ("deployment", f"{deployment.provider}:{deployment.model}"),
        )
        found = []
        for kind, name in names:
            if name is None:
                continue
            scope = Scope(kind, name)
            policy = catalog.policies.get(scope.id)
            if policy is None and kind == "user":
                policy = catalog.policies.get("user#*")
            if policy is not None:
                found.append(Limited(scope, policy))
        return tuple(found) if any(each.policy.counts for each in found) else ()

    async def admit(
        self,
        endpoint: Endpoint,
        record: RequestRecord,
        limited: Sequence[Limited],
        request: ModelRequest,
        calls: int,
        deployment: Deployment,
        catalog: Catalog,
    ) -> Admitted:
        """Opens the record with its holds. `calls` is how many a batch takes.

        Raises `RateLimited`, `QuotaExceeded`, `InvalidRequest`, `Unavailable`."""
        policies = [each.policy for each in limited]
        counted = [each for each in limited if each.policy.counts]
        bound = None
        if any(policy.has_hard_budget for policy in policies):
            bound = self._pricing.bound(endpoint, request, calls, deployment, catalog, record)
        output, chosen = _output(bound, policies)
        prompt_tokens = estimate_request_tokens(request.fields)
        tries = 0
        while True:
            tries += 1
            usd = bound.usd(output) if bound is not None else Decimal(0)
            tokens = _expected_tokens(request, policies, prompt_tokens, output if chosen else None)
            asked = replace(record, reserved_usd=usd, scopes=tuple(each.scope.id for each in counted))
            answer = await self._reservations.open(asked, counted, tokens, _on_outage(policies))
            if isinstance(answer, Reservation):
                return self._admitted(asked, answer, bound, output if chosen else None)
            fits = self._clamp(bound, answer, policies) if chosen and bound is not None else None
            if fits is None or fits >= output or tries == _TRIES:
                raise refusal_of(answer, self._now())
            output = fits

    async def settle(self, record: RequestRecord, admitted: Admitted, accounts: Accounts) -> RequestRecord:
        """Settles the record, which is the truth, then what it held. The record as it was written.

        An estimate is never more than the bound that was reserved: the bound is certain, the estimate is not.
        """
        reserved = admitted.record.reserved_usd
        if record.usage.estimated and record.cost_usd is not None and reserved and record.cost_usd > reserved:
            record = replace(record, cost_usd=reserved)
        record = await self._reservations.complete(record, admitted.reservation)
        if await accounts.settle(record):
            await self._reservations.settle(record, admitted.reservation)
        return record

    def _clamp(self, bound: CostBound, refused: Refused, policies: Sequence[Policy]) -> int | None:
        """Fewer output tokens that fit in what is left; None where none do, or money is not what is missing."""
        if _first(policy.without_maximum for policy in policies) == "reserve":
            return None
        left = room_for_output(refused, self._now())
        if left is None:
            return None
        each = bound.output_that_fits(left) // bound.answers
        return each * bound.answers if each >= _LEAST_OUTPUT else None

    def _admitted(
        self, record: RequestRecord, reservation: Reservation, bound: CostBound | None, chosen_output: int | None
    ) -> Admitted:
        now = self._now()
        headers = rate_headers(reservation, now)
        members = {} if bound is None else dict(bound.members)
        if bound is not None and chosen_output is not None:
            most = chosen_output // bound.answers
            members["max_completion_tokens"] = most
            headers["x-gateway-max-tokens"] = str(most)
        return Admitted(replace(record, over_limits=over_limits(reservation, now)), reservation, members, headers)


def with_members(request: ModelRequest, members: Mapping[str, Any]) -> ModelRequest:
    """The same request with these members set."""
    body = request.body
    for name, value in members.items():
        body = set_member(body, name, orjson.dumps(value))
    return replace(request, body=body, fields={**request.fields, **members})


def _output(bound: CostBound | None, policies: Sequence[Policy]) -> tuple[int, bool]:
    """Output tokens to reserve for, and whether the gateway chose them."""
    if bound is None:
        return 0, False
    if bound.output_tokens is not None:
        return bound.output_tokens, False
    wish: WithoutMaximum = _first(policy.without_maximum for policy in policies) or "clamp"
    if wish == "refuse":
        raise InvalidRequest(
            "This key has a hard budget that wants a maximum: set `max_completion_tokens` (or `max_tokens`).",
            param="max_completion_tokens",
            code="max_tokens_required",
        )
    return bound.most_output_tokens or _MOST_UNKNOWN * bound.answers, True


def _expected_tokens(
    request: ModelRequest, policies: Sequence[Policy], prompt_tokens: int, chosen_output: int | None
) -> int:
    """What the request is expected to take of a minute. Without a maximum never so much that it could fit in none."""
    fields = request.fields
    maximum: int | None = fields.get("max_completion_tokens") or fields.get("max_tokens")
    answers: int = fields.get("n") or 1
    if "messages" not in fields:
        return prompt_tokens
    if maximum is not None:
        return prompt_tokens + maximum * answers
    output = _ASSUMED_OUTPUT * answers if chosen_output is None else min(chosen_output, _ASSUMED_OUTPUT * answers)
    least = min((policy.tpm for policy in policies if policy.tpm is not None), default=None)
    return prompt_tokens + output if least is None else max(prompt_tokens, min(prompt_tokens + output, least))


def _on_outage(policies: Sequence[Policy]) -> OnOutage:
    return _first(policy.on_outage for policy in policies) or (
        "deny" if any(policy.enforces for policy in policies) else "allow"
    )


def _first(wishes: Iterable[_Wish | None]) -> _Wish | None:
    return next((wish for wish in wishes if wish is not None), None)


def _digest(name: str) -> str:
    return f"sha256:{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
