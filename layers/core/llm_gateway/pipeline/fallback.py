"""Where a settlement goes that the ledger does not take: a queue, and the log where that does not take it either."""

from collections.abc import Callable

from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.ports import LostSettlements
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError


class Fallback:
    """`lost` is the last place: nobody reads a log by itself, so an alarm has to ring.

    `unopened` is told of a request that runs without an entry. `queue` is made when it is first needed, which is hardly
    ever; None on a laptop, where the log is read anyway.
    """

    def __init__(
        self,
        lost: Callable[[LostSettlement, GatewayError], None],
        unopened: Callable[[RequestRecord, GatewayError], None],
        queue: Callable[[], LostSettlements] | None = None,
    ) -> None:
        self._lost = lost
        self.unopened = unopened
        self._open_queue = queue
        self._queue: LostSettlements | None = None

    async def queued(self, lost: LostSettlement) -> bool:
        """Whether the queue has it now."""
        if self._open_queue is None:
            return False
        if self._queue is None:
            self._queue = self._open_queue()
        try:
            await self._queue.put(lost)
        except GatewayError:
            return False
        return True

    async def keep(self, lost: LostSettlement, error: GatewayError) -> None:
        """Keeps it anywhere. `error` is why the ledger did not take it."""
        if not await self.queued(lost):
            self._lost(lost, error)
