"""What the rollup function does with each of its events, of which `llm-gateway run` sweeps alone.

Batches come at least once, in any order and split anywhere; the totals' marks make each record count once. What can
never be folded is named, so that Lambda tries it again alone and gives it to the dead-letter queue in the end:
https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Scope
from llm_gateway.domain.ports import Folded, TotalsStore
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.pipeline.repair import Swept
from llm_gateway.rollup.alerts import BudgetAlerts
from llm_gateway.rollup.fallback import FallbackDrain
from llm_gateway.rollup.sweep import Sweep

_WAIT_S: Final = 2.0


class Log(Protocol):
    """What the rollup tells of its work."""

    def folded(self, counted: int, alerts: int) -> None: ...

    def poisoned(self, source: str, place: str, reason: str) -> None: ...

    def swept(self, swept: Swept) -> None: ...

    def drained(self, request_id: str) -> None: ...

    def warn(self, message: str) -> None: ...


class Rollup:
    """`read_image` makes a record of a request's item, `read_lost` a settlement of a queue's message.

    Both raise `ValueError`, `KeyError`, `TypeError`, `AttributeError` or `ArithmeticError` for what is none.
    """

    def __init__(
        self,
        totals: TotalsStore,
        drain: FallbackDrain,
        sweep: Sweep,
        alerts: BudgetAlerts,
        log: Log,
        read_image: Callable[[Mapping[str, Any]], RequestRecord],
        read_lost: Callable[[str], LostSettlement],
        clock: Callable[[], float],
    ) -> None:
        self._totals = totals
        self._drain = drain
        self._sweep = sweep
        self._alerts = alerts
        self._log = log
        self._read_image = read_image
        self._read_lost = read_lost
        self._clock = clock

    async def fold_stream(self, records: Sequence[Mapping[str, Any]], patience_s: float = 0) -> list[str]:
        """The sequence numbers of records that cannot be folded, in their order; all others are.

        `records` are those of DynamoDB Streams. A store that is away is waited for so long; then it raises
        `errors.Unavailable`, and the batch is to come again.
        https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html
        """
        places: dict[str, list[str]] = {}
        found: list[RequestRecord] = []
        failed: set[str] = set()
        for each in records:
            change = each["dynamodb"]
            image = change.get("NewImage")
            if image is None or not _is_request(change):
                continue
            try:
                record = self._read_image(image)
            except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
                failed.add(change["SequenceNumber"])
                self._log.poisoned("stream", change["SequenceNumber"], repr(error))
                continue
            found.append(record)
            places.setdefault(record.request_id, []).append(change["SequenceNumber"])
        for request_id in await self._fold(found, patience_s):
            failed.update(places[request_id])
            self._log.poisoned("stream", places[request_id][0], f"the totals do not take request {request_id}")
        return [each["dynamodb"]["SequenceNumber"] for each in records if each["dynamodb"]["SequenceNumber"] in failed]

    async def fold(self, records: Sequence[RequestRecord]) -> tuple[str, ...]:
        """Ids of requests that cannot be folded. Raises `errors.Unavailable`."""
        folded = await self._totals.fold(records)
        if folded.counted:
            self._log.folded(len(folded.counted), await self._tell(folded))
        return folded.refused

    async def drain_queue(self, messages: Sequence[Mapping[str, Any]]) -> list[str]:
        """The ids of messages that are to come again; all others are settled.

        https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
        """
        failed = []
        for message in messages:
            try:
                lost = self._read_lost(message["body"])
                await self._drain.settle(lost)
                self._log.drained(lost.record.request_id)
            except GatewayError as error:
                failed.append(message["messageId"])
                self._log.warn(f"message {message['messageId']} cannot be settled yet: {error}")
            except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
                failed.append(message["messageId"])
                self._log.poisoned("queue", message["messageId"], repr(error))
        return failed

    async def sweep(self, minute: int, budget_s: float) -> Swept:
        """Raises `errors.Unavailable`."""
        swept = await self._sweep.run(minute, budget_s)
        self._log.swept(swept)
        return swept

    async def _fold(self, records: Sequence[RequestRecord], patience_s: float) -> tuple[str, ...]:
        ends = self._clock() + patience_s
        while True:
            try:
                return await self.fold(records)
            except Unavailable as error:
                if self._clock() + _WAIT_S >= ends:
                    raise
                self._log.warn(f"the totals cannot be written, and are waited for: {error}")
                await asyncio.sleep(_WAIT_S)

    async def _tell(self, folded: Folded) -> int:
        """An alert that fails must not fail the batch, which is folded: the walk makes it good."""
        try:
            return await self._alerts.check(Scope.of(each) for record in folded.counted for each in record.scopes)
        except GatewayError as error:
            self._log.warn(f"budgets could not be looked at: {error}")
            return 0


def _is_request(change: Mapping[str, Any]) -> bool:
    return str(change.get("Keys", {}).get("pk", {}).get("S", "")).startswith("req#")
