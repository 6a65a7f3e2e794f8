"""The sweep, each minute: ends what processes that died have left open (`pipeline.repair`), within its time.

What is due comes from a sparse index, which costs next to nothing while nothing is. The walk over the scopes reads
each scope's item, so it comes every tenth minute: what it finds, holds of requests that are settled or were never
written, is in nobody's way until then, since a request that is refused ends what is stale itself.
"""

import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.ports import Ledger, Scopes
from llm_gateway.errors import GatewayError
from llm_gateway.pipeline.repair import Repair, Swept
from llm_gateway.rollup.alerts import BudgetAlerts

WALK_EVERY: Final = 10


class Sweep:
    """`warn` is told of what cannot be repaired; the rest is, all the same."""

    def __init__(
        self,
        ledger: Ledger,
        scopes: Scopes,
        repair: Repair,
        catalog: Callable[[], Awaitable[Catalog]],
        alerts: BudgetAlerts,
        warn: Callable[[str], None],
        now: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._scopes = scopes
        self._repair = repair
        self._catalog = catalog
        self._alerts = alerts
        self._warn = warn
        self._now = now
        self._clock = clock

    async def run(self, minute: int, budget_s: float) -> Swept:
        """`minute` says whether scopes are walked, too; what is not done after `budget_s` is left to the next minute.

        Raises `errors.Unavailable`; what it has done by then stays done.
        """
        ends = self._clock() + budget_s
        await self._catalog()  # it says what an abandoned request is charged
        abandoned = await self._abandon_due(ends)
        ended = pruned = 0
        if minute % WALK_EVERY == 0:
            ended, pruned = await self._walk(ends)
        return Swept(abandoned, ended, pruned)

    async def _abandon_due(self, ends: float) -> int:
        abandoned = 0
        async for request_id in self._ledger.due(self._now()):
            if self._clock() >= ends:
                self._warn("the sweep has run out of time; it goes on in a minute")
                break
            try:
                abandoned += await self._repair.abandon_due(request_id)
            except GatewayError:
                raise
            except Exception as error:  # noqa: BLE001 - one request that cannot be read must not stop all others
                self._warn(f"request {request_id} cannot be abandoned: {error!r}")
        return abandoned

    async def _walk(self, ends: float) -> tuple[int, int]:
        """In an order that changes, so that each has its turn where there are too many for one walk."""
        scopes = [scope async for scope in self._scopes.scopes()]
        random.shuffle(scopes)
        ended = pruned = 0
        for scope in scopes:
            if self._clock() >= ends:
                self._warn("the walk over the scopes has run out of time")
                break
            try:
                one_ended, one_pruned = await self._repair.end_stale(scope)
                await self._alerts.check([scope])
            except GatewayError:
                raise
            except Exception as error:  # noqa: BLE001 - as above
                self._warn(f"{scope} cannot be repaired: {error!r}")
                continue
            ended, pruned = ended + one_ended, pruned + one_pruned
        return ended, pruned
