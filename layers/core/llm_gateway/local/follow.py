"""The rollup beside `llm-gateway run`: the function's own code, fed from the ledger's stream and by a clock.

Deployed, Lambda reads the stream. Here it is read when a request has ended, and after each sweep: nothing is asked of
the embedded AWS while nobody calls. Streams do not outlive it, so each start begins with what has not been counted yet.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB_Streams.html
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llm_gateway.adapters.attributes import decode_record
from llm_gateway.adapters.aws_json import AwsError
from llm_gateway.adapters.dynamodb_totals import MALFORMED
from llm_gateway.errors import GatewayError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from llm_gateway.bootstrap_rollup import RollupParts
    from llm_gateway.domain.usage import RequestRecord

GATHER_S = 0.1
"""Requests that end within it are folded together."""
SWEEP_S = 60.0
_SWEEP_BUDGET_S = 30.0
_BATCH = 100
_TROUBLE_S = 2.0


class Nudging:
    """Calls `nudge` when a request has ended and is settled."""

    def __init__(self, app: "ASGIApp", nudge: Callable[[], None]) -> None:
        self._app = app
        self._nudge = nudge

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                self._nudge()


class Follower:
    """Folds what the ledger's stream tells, until it is cancelled. `warn` hears of trouble, once for each kind."""

    def __init__(self, parts: "RollupParts", ledger_table: str, warn: Callable[[str], None]) -> None:
        self._rollup = parts.rollup
        self._dynamodb = parts.dynamodb
        self._streams = parts.streams
        self._http = parts.http
        self._table = ledger_table
        self._warn = warn
        self._warned: set[str] = set()
        self._nudged = asyncio.Event()
        self._iterators: list[str] = []

    def nudge(self) -> None:
        self._nudged.set()

    async def run(self) -> None:
        try:
            while True:
                try:
                    await self._follow()
                except GatewayError as error:
                    self._tell(str(error))
                    await asyncio.sleep(_TROUBLE_S)
        finally:
            await self._http.close()

    async def _follow(self) -> None:
        """From the stream's end on, after what came before it. Raises `GatewayError`; returns when a shard closes."""
        self._iterators = await self._open_shards()
        await self._catch_up()
        sweep_at = time.monotonic() + SWEEP_S
        while True:
            swept = await self._wait(sweep_at)
            if swept:
                await self._rollup.sweep(time.gmtime().tm_min, _SWEEP_BUDGET_S)
                sweep_at = time.monotonic() + SWEEP_S
            if not await self._read():
                return

    async def _wait(self, sweep_at: float) -> bool:
        """Until a request has ended, or a sweep is due: then True."""
        try:
            await asyncio.wait_for(self._nudged.wait(), max(0.0, sweep_at - time.monotonic()))
        except TimeoutError:
            return True
        await asyncio.sleep(GATHER_S)
        self._nudged.clear()
        return False

    async def _read(self) -> bool:
        """Folds what has come in every shard; False where one is closed, and it is to be begun again."""
        for index, iterator in enumerate(self._iterators):
            following = iterator
            while True:
                answer = await self._streams.call("GetRecords", {"ShardIterator": following, "Limit": _BATCH})
                if answer["Records"]:
                    await self._rollup.fold_stream(answer["Records"])
                if "NextShardIterator" not in answer:
                    return False
                following = self._iterators[index] = answer["NextShardIterator"]
                if not answer["Records"]:
                    break
        return True

    async def _open_shards(self) -> list[str]:
        """Iterators at the end of each shard that is open."""
        table = await self._dynamodb.call("DescribeTable", {"TableName": self._table})
        arn = table["Table"].get("LatestStreamArn")
        if arn is None:
            raise AwsError("NoStream", f"the table {self._table} has no stream", 400)
        stream = await self._streams.call("DescribeStream", {"StreamArn": arn})
        iterators = []
        for shard in stream["StreamDescription"]["Shards"]:
            if "EndingSequenceNumber" not in shard.get("SequenceNumberRange", {}):
                wanted = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "LATEST"}
                iterators.append((await self._streams.call("GetShardIterator", wanted))["ShardIterator"])
        return iterators

    async def _catch_up(self) -> None:
        """Folds what the stream of an earlier run has not told: a scan, which a laptop's ledger is small enough for."""
        scan: dict[str, Any] = {
            "TableName": self._table,
            "FilterExpression": "begins_with(pk, :request) AND #status <> :open AND NOT attribute_type(folded, :text)",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":request": {"S": "req#"}, ":open": {"S": "open"}, ":text": {"S": "S"}},
        }
        while True:
            answer = await self._dynamodb.call("Scan", scan)
            records = [record for item in answer["Items"] if (record := self._record(item)) is not None]
            for first in range(0, len(records), _BATCH):
                await self._rollup.fold(records[first : first + _BATCH])
            if "LastEvaluatedKey" not in answer:
                return
            scan["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _record(self, item: dict[str, Any]) -> "RequestRecord | None":
        try:
            return decode_record(item)
        except MALFORMED as error:
            self._tell(f"{item['pk']} is no request: {error!r}")
            return None

    def _tell(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(f"usage is not being totalled at the moment: {text}")
