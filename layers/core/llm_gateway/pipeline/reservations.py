"""A request's holds: taken from every scope that limits it before the provider is called, ended when it is settled.

docs/ledger.md tells the whole story. One round trip before the call, whatever the number of scopes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Grant, Hold, Level, OnOutage, Policy, Refusal, Scope, crossed
from llm_gateway.domain.ports import Ledger, Scopes
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.observability.budget_alerts import BudgetAlert
from llm_gateway.pipeline.repair import Repair

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Limited:
    """A scope that a request falls under, and what it may do."""

    scope: Scope
    policy: Policy


@dataclass(slots=True)
class Reservation:
    """What a request holds. `grants` has None for a scope whose store did not answer and that was let through."""

    limited: Sequence[Limited]
    holds: Sequence[Hold]
    grants: list[Grant | None]

    @property
    def tagged(self) -> tuple[tuple[Hold, str], ...]:
        """The holds with their tags; empty where a hold could not be taken."""
        return tuple(
            (hold, "" if grant is None else grant.tag) for hold, grant in zip(self.holds, self.grants, strict=True)
        )


async def _unqueued(_: LostSettlement) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Refused:
    """The scopes that had no room, with their levels; nothing is held any more."""

    refusals: Sequence[tuple[Limited, Refusal]]
    hold: Hold


class Reservations:
    """Holds of many scopes as one: all of them, or none.

    `alert` is told of budgets that pass a threshold, `lost` of a scope whose counters could not be written: the sweep
    puts those right. `queued` takes settlements of which a scope could not be written, and says whether it has them:
    the rollup puts these right sooner.
    """

    def __init__(
        self,
        ledger: Ledger,
        scopes: Scopes,
        repair: Repair,
        alert: Callable[[BudgetAlert], None],
        lost: Callable[[str, Scope, GatewayError], None],
        now: Callable[[], float] = time.time,
        queued: Callable[[LostSettlement], Awaitable[bool]] = _unqueued,
    ) -> None:
        self._ledger = ledger
        self._scopes = scopes
        self._repair = repair
        self._alert = alert
        self._lost = lost
        self._now = now
        self._queued = queued

    async def open(
        self, record: RequestRecord, limited: Sequence[Limited], tokens: int, on_outage: OnOutage
    ) -> Reservation | Refused:
        """Opens the record and takes a hold of `record.reserved_usd` and `tokens` in each scope, all at once.

        Raises `Unavailable` where the stores do not answer and `on_outage` is `deny`: nothing may be called then.
        """
        at, usd = record.at_ms / 1000, record.reserved_usd or Decimal(0)
        holds = [
            Hold(each.scope, usd, tokens, int(at) // 60, each.policy.labels(at), record.expires_at) for each in limited
        ]
        reservation = Reservation(limited, holds, [None] * len(holds))
        opened, *answers = await asyncio.gather(
            _answered(self._ledger.open(record)),
            *(
                _answered(self._reserve(record.request_id, each, hold))
                for each, hold in zip(limited, holds, strict=True)
            ),
        )
        reservation.grants = [answer if isinstance(answer, Grant) else None for answer in answers]
        refusals = [
            (each, answer) for each, answer in zip(limited, answers, strict=True) if isinstance(answer, Refusal)
        ]
        if refusals:
            await self.cancel(record.request_id, reservation)
            return Refused(refusals, holds[0])
        if on_outage == "deny" and any(isinstance(answer, Unavailable) for answer in (opened, *answers)):
            await self.cancel(record.request_id, reservation)
            raise Unavailable(
                "The gateway's ledger cannot be written, and this key has a limit that must not be passed. Try again.",
                code="ledger_unavailable",
                retry_after=5,
            )
        return reservation

    async def cancel(self, request_id: str, reservation: Reservation) -> None:
        """Gives everything back, as if the request had never been."""

        async def give_back(hold: Hold, grant: Grant | None) -> None:
            if grant is not None:
                await self._scopes.cancel(request_id, hold, grant.tag, self._now())

        for scope, error in await self._of_each(reservation, give_back):
            self._lost(request_id, scope, error)

    async def complete(self, record: RequestRecord, reservation: Reservation) -> RequestRecord:
        """The record with the tags of its holds, all of them: what an outage kept from being held is held now."""
        if missing := [index for index, grant in enumerate(reservation.grants) if grant is None]:
            late = (self._hold_late(record.request_id, reservation.holds[index]) for index in missing)
            for index, answer in zip(missing, await asyncio.gather(*map(_answered, late)), strict=True):
                if isinstance(answer, Unavailable):
                    self._lost(record.request_id, reservation.holds[index].scope, answer)
                else:
                    reservation.grants[index] = answer
        return replace(record, holds=tuple(tag for _, tag in reservation.tagged))

    async def settle(self, record: RequestRecord, reservation: Reservation) -> None:
        """Makes every hold what the request came to. `record` is settled already: it is the truth."""
        tokens = record.usage.input_tokens + record.usage.output_tokens
        cost, at = record.cost_usd or Decimal(0), record.at_ms / 1000
        policies = {each.scope: each.policy for each in reservation.limited}

        async def settle(hold: Hold, grant: Grant | None) -> None:
            if grant is None:
                return
            after = await self._scopes.settle(record.request_id, hold, grant.tag, cost, tokens, self._now())
            if after is not None:
                self._tell_of_budgets(hold.scope, policies[hold.scope], after, cost, at)

        failed = await self._of_each(reservation, settle)
        if failed and not await self._queued(LostSettlement(record, reservation.tagged)):
            for scope, error in failed:
                self._lost(record.request_id, scope, error)

    async def _reserve(self, request_id: str, limited: Limited, hold: Hold) -> Grant | Refusal:
        """Holds past their time are seen when they are in the way: they are ended, and it is tried once more."""
        answer = await self._scopes.reserve(request_id, hold, limited.policy, self._now())
        if isinstance(answer, Grant) or not answer.stale:
            return answer
        for stale in answer.stale:
            await self._repair.repair(stale, limited.scope)
        return await self._scopes.reserve(request_id, hold, limited.policy, self._now())

    async def _hold_late(self, request_id: str, hold: Hold) -> Grant | None:
        """A hold of what has been spent already: nothing is asked any more, it is only counted."""
        for stored in await self._scopes.holds(hold.scope):
            if stored.request_id == request_id:
                return Grant(Level(), stored.tag)
        answer = await self._scopes.reserve(request_id, hold, Policy(shadow=True), self._now())
        return answer if isinstance(answer, Grant) else None

    def _tell_of_budgets(self, scope: Scope, policy: Policy, after: Level, cost: Decimal, at: float) -> None:
        before = replace(after, spent=tuple((label, usd - cost) for label, usd in after.spent))
        for budget, share in crossed(policy, before, after, at):
            label = budget.label(at)
            self._alert(BudgetAlert(scope, budget, share, label, after.spent_in(label)))

    async def _of_each(
        self, reservation: Reservation, ends: Callable[[Hold, Grant | None], Awaitable[None]]
    ) -> list[tuple[Scope, Unavailable]]:
        """The scopes that could not be written."""
        pairs = list(zip(reservation.holds, reservation.grants, strict=True))
        answers = await asyncio.gather(*(_answered(ends(hold, grant)) for hold, grant in pairs))
        return [
            (hold.scope, answer)
            for (hold, _), answer in zip(pairs, answers, strict=True)
            if isinstance(answer, Unavailable)
        ]


async def _answered(call: Awaitable[_Answer]) -> _Answer | Unavailable:
    """A store that does not answer is an answer: the others' must not be lost with it."""
    try:
        return await call
    except Unavailable as error:
        return error
