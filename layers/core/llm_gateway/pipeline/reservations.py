"""A request's holds: taken from every scope that limits it before the provider is called, ended when it is settled.

docs/ledger.md tells the whole story. One round trip before the call, whatever the number of scopes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TypeVar

from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Grant, Hold, Level, OnOutage, Policy, Refusal, Scope, crossed
from llm_gateway.domain.ports import Ledger, Scopes
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.observability.budget_alerts import BudgetAlert
from llm_gateway.pipeline.repair import Repair
from llm_gateway.pipeline.seen_budgets import SeenBudgets

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Limited:
    """A scope that a request falls under, and what it may do."""

    scope: Scope
    policy: Policy


@dataclass(slots=True)
class Reservation:
    """What a request holds. `grants` has None for a scope whose store did not answer and that was let through."""

    limited: list[Limited]
    holds: list[Hold]
    grants: list[Grant | None]
    unsure: list[Scope] = field(default_factory=list)
    """Scopes that may hold something for the request though nobody heard of it, and that it did not go on with."""
    named: tuple[str, ...] = ()
    """The scopes that the request's item is known to name."""

    def extend(self, other: "Reservation") -> None:
        self.limited += other.limited
        self.holds += other.holds
        self.grants += other.grants

    def remove(self, scope: Scope) -> tuple[Limited, Hold, Grant | None]:
        index = [hold.scope for hold in self.holds].index(scope)
        return self.limited.pop(index), self.holds.pop(index), self.grants.pop(index)

    @property
    def scopes(self) -> tuple[str, ...]:
        return tuple(hold.scope.id for hold in self.holds)

    @property
    def tagged(self) -> tuple[tuple[Hold, str], ...]:
        """The holds with their tags; empty where a hold could not be taken."""
        return tuple(
            (hold, "" if grant is None else grant.tag) for hold, grant in zip(self.holds, self.grants, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What the next attempt of a request makes of its scopes. `tokens` are expected of those that join.

    A scope is left where the request's part in it is over and has cost nothing.
    """

    joining: Sequence[Limited]
    leaving: Sequence[Scope]
    tokens: int


async def _unqueued(_: LostSettlement) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Refused:
    """The scopes that had no room, each with the hold that was asked for; nothing is held that was not before."""

    refusals: Sequence[tuple[Limited, Hold, Refusal]]


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
        self.seen = SeenBudgets()

    async def open(
        self, record: RequestRecord, limited: Sequence[Limited], tokens: int, on_outage: OnOutage
    ) -> Reservation | Refused:
        """Opens the record and takes a hold of `record.reserved_usd` and `tokens` in each scope, all at once.

        Raises `Unavailable` where the stores do not answer and `on_outage` is `deny`: nothing may be called then.
        """
        now = self._now()  # and not when the request came: it may have waited in line since
        holds = [_hold(record, each, tokens, now) for each in limited]
        reservation = Reservation(list(limited), holds, [None] * len(holds))
        opened, *answers = await asyncio.gather(
            _answered(self._ledger.open(record)),
            *(
                _answered(self._reserve(record.request_id, each, hold))
                for each, hold in zip(limited, holds, strict=True)
            ),
        )
        reservation.grants = [answer if isinstance(answer, Grant) else None for answer in answers]
        refusals = [
            (each, hold, answer)
            for each, hold, answer in zip(limited, holds, answers, strict=True)
            if isinstance(answer, Refusal)
        ]
        if refusals:
            await self.cancel(record.request_id, reservation)
            return Refused(refusals)
        if on_outage == "deny" and any(isinstance(answer, Unavailable) for answer in (opened, *answers)):
            await self.cancel(record.request_id, reservation)
            raise _denied()
        if opened is None:
            reservation.named = record.scopes
        return reservation

    async def look(
        self, record: RequestRecord, limited: Sequence[Limited], tokens: int
    ) -> list[tuple[Limited, Hold, Level]]:
        """What each scope counts now, beside the hold that `open` would take in it. Raises `Unavailable`."""
        holds = [_hold(record, each, tokens, self._now()) for each in limited]
        levels = await asyncio.gather(*(self._scopes.level(each.scope, each.minute, each.labels) for each in holds))
        return list(zip(limited, holds, levels, strict=True))

    async def cancel(self, request_id: str, reservation: Reservation) -> None:
        """Gives everything back, as if the request had never been."""

        async def give_back(hold: Hold, grant: Grant | None) -> None:
            if grant is not None:
                await self._scopes.cancel(request_id, hold, grant.tag, self._now())

        for scope, error in await self._of_each(reservation, give_back):
            self._lost(request_id, scope, error)

    async def readmit(
        self, record: RequestRecord, reservation: Reservation, change: Change, on_outage: OnOutage
    ) -> Refused | None:
        """Makes `reservation` what the next attempt of the request needs; `record` says how much money that is.

        In parallel again, and all or nothing, but that what was widened stays so until the request is settled. Raises
        `Unavailable` as `open` does. The reservation says at any time what is held, also where it came to nothing.
        """
        left = [reservation.remove(scope) for scope in change.leaving]
        narrow = [index for index, hold in enumerate(reservation.holds) if _is_narrow(hold, record)]
        new = [(each, _hold(record, each, change.tokens, self._now())) for each in change.joining]
        reopened, widened, reserved, _ = await asyncio.gather(
            self._reopen(record, reservation, change),
            asyncio.gather(*(_answered(self._widen(record, reservation, index)) for index in narrow)),
            asyncio.gather(*(_answered(self._reserve(record.request_id, *each)) for each in new)),
            asyncio.gather(*(self._leave(record.request_id, reservation, hold, grant) for _, hold, grant in left)),
        )
        refusals = [answer for answer in widened if isinstance(answer, tuple)]
        refusals += [(*each, answer) for each, answer in zip(new, reserved, strict=True) if isinstance(answer, Refusal)]
        unheard = any(isinstance(answer, Unavailable) for answer in (reopened, *widened, *reserved))
        grants = [answer if isinstance(answer, Grant) else None for answer in reserved]
        joined = Reservation([each for each, _ in new], [hold for _, hold in new], grants)
        if not refusals and not (unheard and on_outage == "deny"):
            reservation.extend(joined)
            return None
        await self.cancel(record.request_id, joined)
        reservation.unsure += [hold.scope for hold, tag in joined.tagged if not tag]
        if refusals:
            return Refused(refusals)
        raise _denied()

    async def complete(self, record: RequestRecord, reservation: Reservation) -> RequestRecord:
        """The record with the tags of its holds, all of them: what an outage kept from being held is held now."""
        if missing := [index for index, grant in enumerate(reservation.grants) if grant is None]:
            late = (self._hold_late(record.request_id, reservation.holds[index]) for index in missing)
            for index, answer in zip(missing, await asyncio.gather(*map(_answered, late)), strict=True):
                if isinstance(answer, Unavailable):
                    self._lost(record.request_id, reservation.holds[index].scope, answer)
                else:
                    reservation.grants[index] = answer
        return replace(record, scopes=reservation.scopes, holds=tuple(tag for _, tag in reservation.tagged))

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
                self.seen.saw(hold.scope, policies[hold.scope], after)
                self._tell_of_budgets(hold.scope, policies[hold.scope], after, cost, at)

        failed = await self._of_each(reservation, settle)
        if failed and not await self._queued(LostSettlement(record, reservation.tagged)):
            for scope, error in failed:
                self._lost(record.request_id, scope, error)
        await self._end_unsure(record.request_id, reservation)

    async def _reserve(self, request_id: str, limited: Limited, hold: Hold) -> Grant | Refusal:
        """Holds past their time are seen when they are in the way: they are ended, and it is tried once more."""
        answer = await self._scopes.reserve(request_id, hold, limited.policy, self._now())
        if isinstance(answer, Refusal) and await self._ends_stale(answer, limited.scope):
            answer = await self._scopes.reserve(request_id, hold, limited.policy, self._now())
        self.seen.saw(limited.scope, limited.policy, answer.level)
        return answer

    async def _ends_stale(self, refusal: Refusal, scope: Scope) -> bool:
        """Whether holds past their time were in the way, which are ended now."""
        for stale in refusal.stale:
            await self._repair.repair(stale, scope)
        return bool(refusal.stale)

    async def _reopen(self, record: RequestRecord, reservation: Reservation, change: Change) -> Unavailable | None:
        """The item names the scopes that hold something for it: the sweep goes by that.

        With tags, which an item that is open has only if the provider has been called (docs/ledger.md).
        """
        scopes = (*reservation.scopes, *(each.scope.id for each in change.joining))
        if scopes == reservation.named:
            return None
        tags = tuple(tag for _, tag in reservation.tagged if tag)
        answer = await _answered(self._ledger.open(replace(record, scopes=scopes, holds=tags)))
        if answer is None:
            reservation.named = scopes
        return answer

    async def _widen(
        self, record: RequestRecord, reservation: Reservation, index: int
    ) -> tuple[Limited, Hold, Refusal] | None:
        """None where it is as wide now as the record wants it."""
        limited, hold, grant = reservation.limited[index], reservation.holds[index], reservation.grants[index]
        wider = replace(hold, usd=record.reserved_usd or Decimal(0))
        if grant is not None:
            given = record.request_id, hold, grant.tag, wider.usd, limited.policy
            answer = await self._scopes.widen(*given, self._now())
            if isinstance(answer, Refusal) and await self._ends_stale(answer, hold.scope):
                answer = await self._scopes.widen(*given, self._now())
            if isinstance(answer, Refusal):
                # Nothing but money was asked for: its place in the minute it has already.
                return Limited(limited.scope, replace(limited.policy, rpm=None, tpm=None, parallel=None)), wider, answer
            grant = Grant(replace(grant.level, committed=answer.level.committed), grant.tag)
        reservation.holds[index], reservation.grants[index] = wider, grant
        return None

    async def _leave(self, request_id: str, reservation: Reservation, hold: Hold, grant: Grant | None) -> None:
        """Its place in the minute stays taken, since the provider was called."""
        answer: Unavailable | None = None
        if grant is not None:
            answer = await _answered(self._scopes.leave(request_id, hold, grant.tag, self._now()))
        if grant is None or answer is not None:
            reservation.unsure.append(hold.scope)

    async def _end_unsure(self, request_id: str, reservation: Reservation) -> None:
        """Gives back what is held beside the holds that count. Where that fails it is left to the sweep."""
        tags = {tag for _, tag in reservation.tagged}

        async def end(scope: Scope) -> None:
            for stored in await self._scopes.holds(scope):
                if stored.request_id == request_id and stored.tag not in tags:
                    await self._scopes.cancel(request_id, stored.hold, stored.tag, self._now())

        for scope in reservation.unsure:
            answer = await _answered(end(scope))
            if isinstance(answer, Unavailable):
                self._lost(request_id, scope, answer)

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


def _hold(record: RequestRecord, limited: Limited, tokens: int, at: float) -> Hold:
    """Of the minute that holds `at`, and of the periods in which the request came: its cost counts in them."""
    labels = limited.policy.labels(record.at_ms / 1000)
    usd = record.reserved_usd or Decimal(0)
    return Hold(limited.scope, usd, tokens, int(at) // 60, labels, record.expires_at)


def _is_narrow(hold: Hold, record: RequestRecord) -> bool:
    """Whether it holds less money than the record says; without a period there is none to hold."""
    return bool(hold.labels) and hold.usd < (record.reserved_usd or Decimal(0))


def _denied() -> Unavailable:
    return Unavailable(
        "The gateway's ledger cannot be written, and this key has a limit that must not be passed. Try again.",
        code="ledger_unavailable",
        retry_after=5,
    )
