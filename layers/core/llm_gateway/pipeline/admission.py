"""Whether a request may go: the scopes it falls under, what it can cost at most, and room for it in all of them.

A key without limits passes by here untouched. One with limits costs one round trip; only a request without `max_tokens`
that does not fit under a hard budget costs a second one, with as many output tokens as do fit.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any

import orjson

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Catalog, Deployment
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.limits import Hold, Level, Policy, Scope, ScopeKind
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import RateLimited
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.ask import Ask, BoundPricing, CostBound, ask_of, on_outage
from llm_gateway.pipeline.rate_limits import (
    held_by_others,
    of_deployment,
    over_limits,
    rate_headers,
    reason_to_wait,
    refusal_of,
    room_for_output,
    room_for_tokens,
)
from llm_gateway.pipeline.reservations import Change, Limited, Refused, Reservation, Reservations
from llm_gateway.pipeline.waiting import Lines, Place
from llm_gateway.schemas.json_splice import set_member
from llm_gateway.schemas.openai_chat import ModelRequest

_WAITS_S = (0.05, 0.2)
"""A caller that asks again at once may be faster than the settlement of its last request."""
_LONGEST_NAME = 256
"""Of a user, whom the body may call anything; what is longer counts under its hash."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """`record` as it was opened. `members` are what the request must say to the provider beside the caller's words."""

    record: RequestRecord
    reservation: Reservation
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    bound_usd: Decimal | None = None
    """The most that the attempt it was made for can cost; None where no hard budget wants to know."""


class Admission:
    def __init__(
        self,
        reservations: Reservations,
        pricing: BoundPricing,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        lines: Lines | None = None,
    ) -> None:
        self._reservations = reservations
        self._pricing = pricing
        self.now = now
        self._sleep = sleep
        self._lines = lines or Lines()

    def scopes_of(
        self, catalog: Catalog, key: VirtualKey, user: str | None, requested: str, deployment: Deployment | None
    ) -> tuple[Limited, ...]:
        """The limited scopes that a request falls under, those first whose wishes count first.

        A key that belongs to a user stays under that user's limits, whatever the body calls its own user. Without a
        `deployment`, those of the caller and of the model.
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
            ("deployment", None if deployment is None else f"{deployment.provider}:{deployment.model}"),
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

    def place_in_line(
        self, limited: Sequence[Limited], asked_s: float | None, alias_s: float | None, until: float
    ) -> Place | None:
        """None for a request that does not wait (`queue_s`). `until` is a reading of the pipeline's clock."""
        seconds = queue_s(limited, asked_s, alias_s)
        return self._lines.place(seconds, until) if seconds else None

    def budget_used(self, catalog: Catalog, key: VirtualKey, user: str | None, requested: str) -> Decimal | None:
        """The share of the tightest hard budget of a caller's scopes, spent or held, as this process last saw it.

        None where there is no hard budget, or nothing was seen of it yet. Reads nothing.
        """
        found = self.scopes_of(catalog, key, user, requested, None)
        return self._reservations.seen.used(((each.scope, each.policy) for each in found), self.now())

    async def look(
        self,
        endpoint: Endpoint,
        record: RequestRecord,
        limited: Sequence[Limited],
        request: ModelRequest,
        calls: int,
        deployment: Deployment,
        catalog: Catalog,
        *,
        known: Container[Scope] = (),
    ) -> list[tuple[Limited, Hold, Level]]:
        """What each scope but those that are `known` counts now, and what `admit` would ask of it.

        Reads, and takes nothing. Raises `InvalidRequest` and `Unavailable`.
        """
        bound = self._bound(endpoint, limited, record, request, calls, deployment, catalog)
        ask = ask_of(request, bound, [each.policy for each in limited])
        asked = replace(record, reserved_usd=ask.usd(bound))
        counted = [each for each in limited if each.policy.counts and each.scope not in known]
        return await self._reservations.look(asked, counted, ask.tokens)

    async def admit(
        self,
        endpoint: Endpoint,
        record: RequestRecord,
        limited: Sequence[Limited],
        request: ModelRequest,
        calls: int,
        deployment: Deployment,
        catalog: Catalog,
        *,
        patient: bool = True,
        place: Place | None = None,
    ) -> Admitted:
        """Opens the record with its holds. `calls` is how many a batch takes.

        `patient` says whether to wait a moment for room in the deployment's own limits; `place` is that in line, of a
        request that waits (`place_in_line`). Raises `RateLimited`, `DeploymentLimited`, `QuotaExceeded`,
        `InvalidRequest`, `Unavailable`.
        """
        bound = self._bound(endpoint, limited, record, request, calls, deployment, catalog)
        policies = [each.policy for each in limited]
        counted = [each for each in limited if each.policy.counts]
        ask = ask_of(request, bound, policies)

        async def attempt(ask: Ask) -> Admitted | Refused:
            asked = replace(record, reserved_usd=ask.usd(bound), scopes=tuple(each.scope.id for each in counted))
            answer = await self._reservations.open(asked, counted, ask.tokens, on_outage(policies))
            return answer if isinstance(answer, Refused) else self._admitted(asked, answer, bound, ask)

        if place is None:
            return await self._until_it_fits(attempt, ask, bound, policies, patient=patient)
        try:
            await place.turn(each.scope for each in counted)
            if place.given_up:
                raise RateLimited("The caller has left the line.")  # nobody reads it, and nothing was asked
            return await self._until_it_fits(attempt, ask, bound, policies, patient=patient, place=place)
        finally:
            place.leave()

    async def readmit(
        self,
        endpoint: Endpoint,
        admitted: Admitted | None,
        record: RequestRecord,
        limited: Sequence[Limited],
        request: ModelRequest,
        calls: int,
        deployment: Deployment,
        catalog: Catalog,
        spent_usd: Decimal,
        *,
        patient: bool = True,
    ) -> Admitted:
        """What the request needs for its next attempt, beside what it holds: at another deployment, or the same again.

        `admitted` is what it was given last (None: nothing limited it so far), `record` as it was opened, but for
        the deployment; `limited` are the scopes of that (`scopes_of`), `spent_usd` the most that earlier attempts can
        have cost. `request` may have the members that were given. Every budget then holds `spent_usd` and the bound of
        this attempt; the deployment's scope is joined. An earlier deployment's is left where nothing was spent; where
        something was, it stays and is charged with the whole request.

        Raises as `admit` does. Then, as always, `admitted` is good for `settle`, and for another `readmit`: what it
        holds may have become more. Not to be cancelled: what is held must be known.
        """
        if admitted is None:
            admitted = Admitted(record, Reservation([], [], []))
        reservation = admitted.reservation
        kept = [each for each in reservation.limited if _stays(each, limited, spent_usd)]
        every = [*limited, *(each for each in kept if each not in limited)]
        policies = [each.policy for each in every]
        bound = self._bound(endpoint, every, record, request, calls, deployment, catalog)
        clamped = admitted.members.get("max_completion_tokens")
        ask = ask_of(request, bound, policies, clamped=clamped, spent_usd=spent_usd)

        async def attempt(ask: Ask) -> Admitted | Refused:
            held = {each.scope for each in reservation.limited}
            joining = [each for each in limited if each.policy.counts and each.scope not in held]
            leaving = [each.scope for each in reservation.limited if each not in kept]
            asked = replace(record, reserved_usd=ask.usd(bound))
            change = Change(joining, leaving, ask.tokens)
            refused = await self._reservations.readmit(asked, reservation, change, on_outage(policies))
            return refused or self._admitted(replace(asked, scopes=reservation.scopes), reservation, bound, ask)

        return await self._until_it_fits(attempt, ask, bound, policies, patient=patient)

    async def settle(self, record: RequestRecord, admitted: Admitted, accounts: Accounts) -> RequestRecord:
        """Settles the record, which is the truth, then what it held. The record as it was written.

        Under a hard budget an estimate is never more than what was reserved, which is certain; and an answer whose
        cost nobody knows costs all of it.
        """
        reserved = admitted.record.reserved_usd
        if reserved and (record.cost_usd is None or (record.usage.estimated and record.cost_usd > reserved)):
            record = replace(record, cost_usd=reserved)
        record = await self._reservations.complete(record, admitted.reservation)
        if await accounts.settle(record, admitted.reservation.tagged):
            await self._reservations.settle(record, admitted.reservation)
        self._lines.ended(hold.scope for hold in admitted.reservation.holds)
        return record

    def _bound(
        self,
        endpoint: Endpoint,
        limited: Sequence[Limited],
        record: RequestRecord,
        request: ModelRequest,
        calls: int,
        deployment: Deployment,
        catalog: Catalog,
    ) -> CostBound | None:
        """None where no hard budget wants to know."""
        if not any(each.policy.has_hard_budget for each in limited):
            return None
        return self._pricing.bound(endpoint, request, calls, deployment, catalog, record)

    async def _until_it_fits(
        self,
        attempt: Callable[[Ask], Awaitable[Admitted | Refused]],
        ask: Ask,
        bound: CostBound | None,
        policies: Sequence[Policy],
        *,
        patient: bool,
        place: Place | None = None,
    ) -> Admitted:
        """Waits a moment for what is just being settled, then asks for less where the gateway may choose how much, then
        waits in line where the request has a place there."""
        waits, wanted = list(_WAITS_S), ask
        while isinstance(answer := await attempt(ask), Refused):
            now = self.now()
            reason = None if place is None else reason_to_wait(answer, now)
            if waits and reason is None and held_by_others(answer, now) and (patient or not of_deployment(answer)):
                await self._sleep(waits.pop(0))
            elif (less := _less(ask, bound, answer, policies, now)) is not None:
                ask = less
            elif place is not None and reason is not None and await place.again(reason):
                ask = wanted
            else:
                raise refusal_of(answer, now)
        return answer

    def _admitted(self, record: RequestRecord, reservation: Reservation, bound: CostBound | None, ask: Ask) -> Admitted:
        now = self.now()
        headers = rate_headers(reservation, now)
        members = {} if bound is None else dict(bound.members)
        if bound is not None and ask.chosen:
            most = ask.output // bound.answers
            members["max_completion_tokens"] = most
            headers["x-gateway-max-tokens"] = str(most)
        bound_usd = None if bound is None else bound.usd(ask.output)
        record = replace(record, over_limits=over_limits(reservation, now))
        return Admitted(record, reservation, members, headers, bound_usd)


def queue_s(limited: Sequence[Limited], asked_s: float | None, alias_s: float | None) -> float:
    """How long a request waits in line: as its caller asks, at most what its scopes say, or else its alias.

    Where neither says anything the caller's word counts; 0 where nobody asks.
    """
    configured = next((each.policy.queue_s for each in limited if each.policy.queue_s is not None), alias_s)
    if asked_s is None or configured is None:
        return asked_s or configured or 0.0
    return min(asked_s, configured)


def with_members(request: ModelRequest, members: Mapping[str, Any]) -> ModelRequest:
    """The same request with these members set."""
    body = request.body
    for name, value in members.items():
        body = set_member(body, name, orjson.dumps(value))
    return replace(request, body=body, fields={**request.fields, **members})


def _less(ask: Ask, bound: CostBound | None, refused: Refused, policies: Sequence[Policy], now: float) -> Ask | None:
    """The same with as much as is left; None where that does not help."""
    room = room_for_tokens(refused, now)
    if room is not None:
        return ask.with_tokens(room)
    left = room_for_output(refused, now)
    return None if left is None else ask.within(left, bound, policies)


def _stays(held: Limited, limited: Sequence[Limited], spent_usd: Decimal) -> bool:
    """Whether the request still has a part in a scope that it holds, at the deployment whose scopes are `limited`."""
    counts_money = bool(held.policy.budgets) and spent_usd > 0
    return held.scope.kind != "deployment" or counts_money or any(each.scope == held.scope for each in limited)


def _digest(name: str) -> str:
    return f"sha256:{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
