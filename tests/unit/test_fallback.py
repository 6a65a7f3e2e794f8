"""What the log keeps of a settlement that has no other place, and who is told that the ledger is away."""

import io
import json
from collections.abc import Iterator
from decimal import Decimal

import pytest
from aws_lambda_powertools.logging import Logger

from llm_gateway.adapters.fallback_message import decode_lost, encode_lost
from llm_gateway.adapters.memory import MemoryLostSettlements
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Hold, Scope
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.observability.logs import RequestLog
from llm_gateway.pipeline.fallback import Fallback
from tests.contract.records import plain_record
from tests.fakes.sam_template import Stack

HOLD = Hold(Scope("team", "search"), Decimal("0.5"), 9, 29_500_000, ("T",), 1_770_000_900)
LOST = LostSettlement(plain_record(cost_usd=Decimal("0.000000000000000001"), tags={"a": "\u2028\n\"'"}), ((HOLD, ""),))
AWAY = Unavailable("the ledger is away")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with io.StringIO() as stream:
        yield stream


def test_the_line_has_the_queues_message(stream: io.StringIO) -> None:
    log = RequestLog(Logger(service="test-lost", level="WARNING", stream=stream))
    log.lost(LOST.record.request_id, encode_lost(LOST), AWAY)
    log.unopened(LOST.record, AWAY)
    lost, unopened = map(json.loads, stream.getvalue().strip().split("\n"))
    assert (lost["message"], lost["level"], lost["reason"]) == ("ledger_unavailable", "ERROR", "the ledger is away")
    assert decode_lost(lost["settlement"]) == LOST
    assert (unopened["message"], unopened["level"]) == ("ledger_not_opened", "WARNING")


class Full(MemoryLostSettlements):
    async def put(self, lost: LostSettlement) -> None:
        raise Unavailable("the queue is away, too")


async def test_the_queue_comes_before_the_log_and_is_opened_when_it_is_needed() -> None:
    logged: list[LostSettlement] = []
    opened: list[MemoryLostSettlements] = []

    def open_queue() -> MemoryLostSettlements:
        opened.append(MemoryLostSettlements())
        return opened[-1]

    def lost(lost: LostSettlement, _: GatewayError) -> None:
        logged.append(lost)

    def unopened(_: RequestRecord, error: GatewayError) -> None:
        raise error

    fallback = Fallback(lost, unopened, open_queue)
    assert opened == []
    await fallback.keep(LOST, AWAY)
    await fallback.keep(LOST, AWAY)
    assert ([queue.waiting for queue in opened], logged) == ([[LOST, LOST]], [])
    for queue in (None, Full):
        await Fallback(lost, unopened, queue).keep(LOST, AWAY)
    assert logged == [LOST, LOST]


@pytest.mark.parametrize(
    ("alarm", "metric", "threshold"),
    [
        ("FallbackAlarm", "NumberOfMessagesSent", 0),
        ("FallbackAgeAlarm", "ApproximateAgeOfOldestMessage", 900),
        ("FallbackDeadLetterAlarm", "ApproximateNumberOfMessagesVisible", 0),
    ],
)
def test_what_waits_rings(alarm: str, metric: str, threshold: int) -> None:
    found = Stack.transformed().of_type("AWS::CloudWatch::Alarm")[alarm]
    queue = "LedgerFallbackDeadLetters" if "DeadLetter" in alarm else "LedgerFallbackQueue"
    assert found["Dimensions"] == [{"Name": "QueueName", "Value": f"{queue}.QueueName"}]
    assert (found["Namespace"], found["MetricName"], found["Threshold"]) == ("AWS/SQS", metric, threshold)
    assert found["ComparisonOperator"] == "GreaterThanThreshold"
