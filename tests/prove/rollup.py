"""The rollup function's own handler on the proof's engine. Lambda may send any batch again, so each comes twice."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from llm_gateway.bootstrap_rollup import build_rollup
from llm_gateway.rollup.handler import RollupHandler
from llm_gateway.settings import Settings
from llm_gateway.upstream.credentials import AwsCredentials
from tests.fakes.event_pattern import matches
from tests.fakes.sam_template import Stack

_BATCH = 100


class Context:
    """What Lambda says of the function's time."""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


class RetriedRollup:
    """Called from one thread, outside of any event loop."""

    def __init__(self, store_url: str) -> None:
        self._settings = Settings.from_environment({"AWS_ENDPOINT_URL": store_url, "LOG_LEVEL": "ERROR"})
        self._parts = build_rollup(self._settings, aws_credentials=AwsCredentials("testing", "testing"))
        self._handler = RollupHandler(self._parts.rollup)
        self._runner = asyncio.Runner()
        """Another loop than the handler's: its connections are not shared."""
        self._reader = build_rollup(self._settings, aws_credentials=AwsCredentials("testing", "testing"))
        mapping = Stack.transformed().of_type("AWS::Lambda::EventSourceMapping")["RollupFunctionLedger"]
        self._pattern = json.loads(mapping["FilterCriteria"]["Filters"][0]["Pattern"])

    def settle(self, messages: list[dict[str, Any]]) -> None:
        """`messages` as `ReceiveMessage` answers them. Raises `AssertionError` where one is refused."""
        records = [
            {"eventSource": "aws:sqs", "messageId": each["MessageId"], "body": each["Body"]} for each in messages
        ]
        self._twice(records)

    def fold(self) -> int:
        """All that the ledger's stream has to tell, in its order; how many records the template's filter let through."""
        told = [each for each in self._runner.run(self._stream()) if matches(self._pattern, each)]
        for first in range(0, len(told), _BATCH):
            self._twice([{**each, "eventSource": "aws:dynamodb"} for each in told[first : first + _BATCH]])
        return len(told)

    def _twice(self, records: list[dict[str, Any]]) -> None:
        for _ in range(2):
            answer = self._handler({"Records": records}, Context())
            assert answer == {"batchItemFailures": []}, answer

    async def _stream(self) -> list[dict[str, Any]]:
        table = await self._reader.dynamodb.call("DescribeTable", {"TableName": self._settings.ledger_table})
        arn = table["Table"]["LatestStreamArn"]
        records: list[dict[str, Any]] = []
        for shard in await self._shards(arn):
            wanted = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = (await self._reader.streams.call("GetShardIterator", wanted)).get("ShardIterator")
            while iterator is not None:
                answer = await self._reader.streams.call("GetRecords", {"ShardIterator": iterator})
                records += answer["Records"]
                iterator = answer.get("NextShardIterator") if answer["Records"] else None
        return records

    async def _shards(self, arn: str) -> list[dict[str, Any]]:
        shards: list[dict[str, Any]] = []
        wanted = {"StreamArn": arn}
        while True:
            stream = (await self._reader.streams.call("DescribeStream", wanted))["StreamDescription"]
            shards += stream["Shards"]
            if "LastEvaluatedShardId" not in stream:
                return shards
            wanted["ExclusiveStartShardId"] = stream["LastEvaluatedShardId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._runner.run(self._reader.http.close())
        self._runner.close()
        self._handler.close()
