"""The sweep: finishes what a request that died has left open. docs/ledger.md has the table it follows.

Whatever is done here is a conditional update that may be done twice, by two sweeps at once, or while the request itself
is still settling: the stores let each hold end once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from llm_gateway.domain.limits import Abandoned, Scope, StoredHold
from llm_gateway.domain.ports import Ledger, Scopes
from llm_gateway.domain.usage import RequestRecord

LATE_S = 86_400
"""How long an abandoned request still takes its true cost."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep came to: requests abandoned, holds ended, and counters pruned."""

    abandoned: int = 0
    ended: int = 0
    pruned: int = 0


class Repair:
    """`policy` says whether an abandoned request is charged what was reserved for it, or nothing."""

    def __init__(
        self,
        ledger: Ledger,
        scopes: Scopes,
        policy: Callable[[], Abandoned],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._scopes = scopes
        self._policy = policy
        self._now = now

    async def sweep(self) -> Swept:
        """Everything that is past its time. Raises `errors.Unavailable`; what it has done by then stays done."""
        abandoned = ended = pruned = 0
        async for request_id in self._ledger.due(self._now()):
            abandoned += await self.abandon_due(request_id)
        async for scope in self._scopes.scopes():
            one_ended, one_pruned = await self.end_stale(scope)
            ended, pruned = ended + one_ended, pruned + one_pruned
        return Swept(abandoned, ended, pruned)

    async def abandon_due(self, request_id: str) -> bool:
        """Abandons a request that is past its time, with its holds. Raises `errors.Unavailable`."""
        record = await self._ledger.get(request_id)
        return record is not None and await self._abandon_open(record)

    async def end_stale(self, scope: Scope) -> tuple[int, int]:
        """Ends a scope's holds that are past their time; how many, and how many old counters went with them."""
        ended = 0
        for stored in await self._scopes.holds(scope):
            if self._is_over(stored):
                ended += await self._end(stored)
        return ended, await self._scopes.prune(scope, self._now())

    async def finish(self, request_id: str) -> None:
        """Makes the holds of a request that was settled what it says, now. Raises `errors.Unavailable`."""
        record = await self._ledger.get(request_id)
        if record is None or record.status not in ("settled", "failed"):
            return
        for scope in record.scopes:
            for stored in await self._scopes.holds(Scope.of(scope)):
                if stored.request_id == request_id:
                    await self._follow(record, stored)

    async def repair(self, request_id: str, scope: Scope) -> None:
        """Ends one request's hold of one scope, if it is past its time. Raises `errors.Unavailable`."""
        for stored in await self._scopes.holds(scope):
            if stored.request_id == request_id and self._is_over(stored):
                await self._end(stored)

    def _is_over(self, stored: StoredHold) -> bool:
        if stored.abandoned_at is not None:
            return stored.abandoned_at < self._now() - LATE_S
        return stored.hold.expires_at < self._now()

    async def _end(self, stored: StoredHold) -> bool:
        record = await self._ledger.get(stored.request_id)
        if record is not None and record.status == "open":
            if record.expires_at >= self._now():
                return False
            await self._abandon_open(record)
            record = await self._ledger.get(stored.request_id)
        await self._follow(record, stored)
        return True

    async def _follow(self, record: RequestRecord | None, stored: StoredHold) -> None:
        """Makes the hold what the record says."""
        hold, request_id, tag, now = stored.hold, stored.request_id, stored.tag, self._now()
        if record is None:
            await self._scopes.cancel(request_id, hold, tag, now)
        elif record.status == "abandoned":
            if stored.charged is None:
                await self._scopes.abandon(request_id, hold, tag, _charge_of(record, hold.scope), now)
            else:
                await self._ledger.close(request_id)
                await self._close(request_id, stored)
        elif stored.charged is None and tag not in record.holds:
            # A late duplicate of an attempt that was not the one that counted: see docs/ledger.md.
            await self._scopes.cancel(request_id, hold, tag, now)
        else:
            tokens = record.usage.input_tokens + record.usage.output_tokens
            await self._scopes.settle(request_id, hold, tag, record.cost_usd or Decimal(0), tokens, now)

    async def _close(self, request_id: str, stored: StoredHold) -> None:
        """The record may have been settled in the last instant before it was closed: then that is what counts."""
        record = await self._ledger.get(request_id)
        if record is not None and record.status != "abandoned":
            await self._follow(record, stored)
        else:
            await self._scopes.forget(request_id, stored.hold.scope)

    async def _abandon_open(self, record: RequestRecord) -> bool:
        """Abandons the record, then its holds. True if the record is abandoned now."""
        if record.status != "open" or record.expires_at >= self._now():
            return False
        held = [
            stored
            for scope in record.scopes
            for stored in await self._scopes.holds(Scope.of(scope))
            if stored.request_id == record.request_id
        ]
        if record.holds:
            # It had moved on to another deployment, whose scope may hold nothing yet: then that cannot be charged.
            scopes = {stored.hold.scope.id for stored in held}
            record = replace(record, scopes=tuple(scope for scope in record.scopes if scope in scopes))
        charge = self._charge(record, held)
        usage = replace(record.usage, estimated=True)
        done = await self._ledger.abandon(
            replace(record, status="abandoned", cost_usd=charge, usage=usage, error_code="abandoned")
        )
        if done:
            for stored in held:
                await self._scopes.abandon(
                    record.request_id, stored.hold, stored.tag, charge or Decimal(0), self._now()
                )
        return done

    def _charge(self, record: RequestRecord, held: list[StoredHold]) -> Decimal | None:
        """What is held counts before what the record says of it: a clamp may have made it less, a fallback more.

        Where a scope holds nothing the provider was never called: it died while its holds were taken or given back.
        Where holds of money differ it died while they were widened: what the least has was enough until then.
        """
        if self._policy() == "release" or len({stored.hold.scope for stored in held}) < len(record.scopes):
            return Decimal(0)
        of_money = [stored.hold.usd for stored in held if stored.hold.labels]
        return min(of_money or [stored.hold.usd for stored in held], default=record.reserved_usd)


def _charge_of(record: RequestRecord, scope: Scope) -> Decimal:
    """What an abandoned request is charged in a scope: nothing in one that its record does not name."""
    return (record.cost_usd or Decimal(0)) if scope.id in record.scopes else Decimal(0)
