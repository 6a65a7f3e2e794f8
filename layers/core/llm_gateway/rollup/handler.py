"""The rollup function's handler: which of its four events this is, and what to answer."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, Protocol

from llm_gateway.rollup.service import Rollup

_SPARE_S: Final = 10.0
"""Of the function's time, what is left for ending."""


class Context(Protocol):
    def get_remaining_time_in_millis(self) -> int: ...


class RollupHandler:
    """Called by Lambda, one event at a time. Its event loop, and the connections in it, live as long as it does."""

    def __init__(self, rollup: Rollup) -> None:
        self._rollup = rollup
        self._runner = asyncio.Runner()

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Raises `ValueError` for an event of none of its sources, `errors.Unavailable` where it is to come again."""
        spare_s = max(0.0, context.get_remaining_time_in_millis() / 1000 - _SPARE_S)
        records = event.get("Records")
        if records:
            source = records[0].get("eventSource")
            if source == "aws:dynamodb":
                return self._failures(lambda: self._rollup.fold_stream(records, spare_s))
            if source == "aws:sqs":
                return self._failures(lambda: self._rollup.drain_queue(records))
        if event.get("detail-type") == "Scheduled Event":
            minute = datetime.fromisoformat(event["time"]).minute
            swept = self._runner.run(self._rollup.sweep(minute, spare_s))
            return {"abandoned": swept.abandoned, "ended": swept.ended, "pruned": swept.pruned}
        raise ValueError("the rollup function knows stream records, queue messages and its schedule")

    def _failures(self, work: Callable[[], Awaitable[list[str]]]) -> dict[str, Any]:
        async def done() -> list[str]:
            return await work()

        return {"batchItemFailures": [{"itemIdentifier": one} for one in self._runner.run(done())]}

    def close(self) -> None:
        self._runner.close()
