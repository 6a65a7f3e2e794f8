"""Settlements that came by the queue because the ledger could not be written: made now, once, however often they come.

The request first, it is the truth, then each scope that limits it: as `pipeline.reservations` does after an ordinary
request. What an outage kept from being held is held now, and counted. docs/ledger.md tells why it may be repeated.
"""

from collections.abc import Callable
from dataclasses import replace

from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Grant, Hold, Policy
from llm_gateway.domain.ports import Ledger, Scopes
from llm_gateway.pipeline.repair import Repair


class FallbackDrain:
    def __init__(self, ledger: Ledger, scopes: Scopes, repair: Repair, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._scopes = scopes
        self._repair = repair
        self._now = now

    async def settle(self, lost: LostSettlement) -> None:
        """Raises `errors.Unavailable`; then it is to be done again."""
        request_id = lost.record.request_id
        known = await self._ledger.get(request_id)
        if known is None or known.status in ("open", "abandoned"):
            tags = [await self._tag(request_id, hold, tag) for hold, tag in lost.holds]
            await self._ledger.settle(replace(lost.record, holds=tuple(tags)))
        # What is held beside the tags that count (of two deliveries at once, say) is cancelled by it.
        await self._repair.finish(request_id)

    async def _tag(self, request_id: str, hold: Hold, tag: str) -> str:
        """The tag of a hold that is in the scope now."""
        if tag:
            return tag
        for stored in await self._scopes.holds(hold.scope):
            if stored.request_id == request_id:
                return stored.tag
        answer = await self._scopes.reserve(request_id, hold, Policy(shadow=True), self._now())
        return answer.tag if isinstance(answer, Grant) else ""
