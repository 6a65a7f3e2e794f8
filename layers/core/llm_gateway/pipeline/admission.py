"""Whether a request may go: the scopes it falls under, what it can cost at most, and room for it in all of them.

A key without limits passes by here untouched. One with limits costs one round trip; only a request without `max_tokens`
that does not fit under a hard budget costs a second one, with as many output tokens as do fit.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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
from llm_gateway.pipeline.rate_limits import (
    held_by_others,
    over_limits,
    rate_headers,
    refusal_of,
    room_for_output,
    room_for_tokens,
)
from llm_gateway.pipeline.reservations import Limited, Refused, Reservation, Reservations
from llm_gateway.schemas.openai_chat import ModelRequest

_Wish = TypeVar("_Wish")

_USUAL_OUTPUT = 1024
"""Tokens that a request without a maximum is expected to write, for limits by the minute."""
_MOST_UNKNOWN = 16_384
"""Output tokens asked for where neither the caller nor the catalog names a maximum."""
_LEAST_OUTPUT = 16
"""A clamp below this would be an answer in name only."""
_UNREAD = frozenset({"client_disconnected", "deadline_exceeded", "shutting_down"})
_WAITS_S = (0.05, 0.2)
"""A caller that asks again at once may be faster than the settlement of its last request."""
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
class _Ask:
    """How much is asked for: `output` tokens to reserve money for, `tokens` of the minute, `least_tokens` of these.

    `chosen` says that the gateway chose the output, and may choose less.
    """

    output: int
    chosen: bool
    tokens: int
    least_tokens: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """`record` as it was opened. `members` are what the request must say to the provider beside the caller's words."""

    record: RequestRecord
    reservation: Reservation
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Admission:
    def __init__(
        self,
        reservations: Reservations,
        pricing: BoundPricing,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reservations = reservations
        self._pricing = pricing
        self._now = now
        self._sleep = sleep

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
        ask = _first_ask(request, bound, policies)
        waits = list(_WAITS_S)
        while True:
            usd = bound.usd(ask.output) if bound is not None else Decimal(0)
            asked = replace(record, reserved_usd=usd, scopes=tuple(each.scope.id for each in counted))
            answer = await self._reservations.open(asked, counted, ask.tokens, _on_outage(policies))
            if isinstance(answer, Reservation):
                return self._admitted(asked, answer, bound, ask.output if ask.chosen else None)
            if waits and held_by_others(answer, self._now()):
                await self._sleep(waits.pop(0))
            elif (less := self._less(ask, bound, answer, policies)) is not None:
                ask = less
            else:
                raise refusal_of(answer, self._now())

    async def settle(self, record: RequestRecord, admitted: Admitted, accounts: Accounts) -> RequestRecord:
        """Settles the record, which is the truth, then what it held. The record as it was written.

        Under a hard budget an estimate is never more than what was reserved, which is certain; and an answer that
        nobody could read to its end, though the provider may have written it, costs all of it.
        """
        reserved = admitted.record.reserved_usd
        if record.usage.estimated and reserved:
            unread = record.error_code in _UNREAD
            if unread or (record.cost_usd is not None and record.cost_usd > reserved):
                record = replace(record, cost_usd=reserved)
        record = await self._reservations.complete(record, admitted.reservation)
        if await accounts.settle(record, admitted.reservation.tagged):
            await self._reservations.settle(record, admitted.reservation)
        return record

    def _less(
        self, ask: "_Ask", bound: CostBound | None, refused: Refused, policies: Sequence[Policy]
    ) -> "_Ask | None":
        """The same with as much as is left, where the gateway chose how much; None where that does not help."""
        now = self._now()
        room = room_for_tokens(refused, now)
        if room is not None:
            return replace(ask, tokens=room) if ask.least_tokens <= room < ask.tokens else None
        left = room_for_output(refused, now)
        reserve = _first(policy.without_maximum for policy in policies) == "reserve"
        if bound is None or left is None or not ask.chosen or reserve:
            return None
        each = bound.output_that_fits(left) // bound.answers
        output = each * bound.answers
        return replace(ask, output=output) if each >= _LEAST_OUTPUT and output < ask.output else None

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


def _first_ask(request: ModelRequest, bound: CostBound | None, policies: Sequence[Policy]) -> _Ask:
    """Tokens a minute: the prompt's estimate and the maximum; without one a usual answer, less where less is left."""
    output, chosen = _output(bound, policies)
    fields = request.fields
    prompt = estimate_request_tokens(fields)
    maximum: int | None = fields.get("max_completion_tokens") or fields.get("max_tokens")
    answers: int = fields.get("n") or 1
    if "messages" not in fields:
        return _Ask(output, chosen, prompt, prompt)
    if maximum is not None:
        return _Ask(output, chosen, prompt + maximum * answers, prompt + maximum * answers)
    usual = _USUAL_OUTPUT * answers
    return _Ask(output, chosen, prompt + (min(output, usual) if chosen else usual), prompt)


def _on_outage(policies: Sequence[Policy]) -> OnOutage:
    return _first(policy.on_outage for policy in policies) or (
        "deny" if any(policy.enforces for policy in policies) else "allow"
    )


def _first(wishes: Iterable[_Wish | None]) -> _Wish | None:
    return next((wish for wish in wishes if wish is not None), None)


def _digest(name: str) -> str:
    return f"sha256:{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
