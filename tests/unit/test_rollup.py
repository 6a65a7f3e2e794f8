"""Specifies the rollup: any batches that tell of the same requests come to the same totals, and poison is named."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.attributes import encode_record
from llm_gateway.domain.totals import GROUPS, Row, Totals, difference
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import Unavailable
from llm_gateway.rollup.handler import RollupHandler
from tests.contract.records import open_record, plain_record
from tests.fakes.rollup_on_memory import RollupOnMemory, stream_of, stream_record

FIRST, LAST = date(2020, 1, 1), date(2040, 1, 1)


def requests() -> list[RequestRecord]:
    teams, models = ("search", "ads", None), ("small", "large")
    return [
        plain_record(
            f"req_{number}",
            team=teams[number % 3],
            routed_model=models[number % 2],
            at_ms=1_770_000_000_123 + number * 7_200_000,
            cost_usd=Decimal(number).scaleb(-9),
            status="failed" if number % 5 == 0 else "settled",
        )
        for number in range(24)
    ]


async def everything(one: RollupOnMemory) -> dict[Row, Totals]:
    return {
        row: totals for group in GROUPS for row, totals in [each async for each in one.totals.read(group, FIRST, LAST)]
    }


def expected(records: list[RequestRecord]) -> dict[Row, Totals]:
    rows: dict[Row, Totals] = {}
    for record in records:
        for row, change in difference(record, None).items():
            rows[row] = rows.get(row, Totals()) + change
    return rows


POISON: list[dict[str, Any]] = [
    {"pk": {"S": "req#poison"}, "status": {"S": "settled"}},
    {
        "pk": {"S": "req#poison"},
        **{k: v for k, v in encode_record(plain_record()).items() if k != "pk"},
        "at": {"N": "soon"},
    },
    {"pk": {"S": "req#poison"}, "status": {"S": "settled"}, "stream": {"S": "yes"}, "usage": {"L": []}},
]


@settings(deadline=None, max_examples=40)
@given(st.data())
async def test_any_batches_of_the_same_requests_come_to_the_same_totals(data: Any) -> None:
    """Duplicated, reordered, split and poisoned."""
    one, records = RollupOnMemory(), requests()
    for record in records:
        await one.ledger.settle(record)
    told = stream_of(records)
    repeats = data.draw(st.lists(st.sampled_from(told), max_size=12))
    poison = [stream_record(item, 900 + number) for number, item in enumerate(POISON)]
    shuffled = data.draw(st.permutations([*told, *repeats, *poison]))
    failed: list[str] = []
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        failed += await one.rollup.fold_stream(shuffled[:size])
        shuffled = shuffled[size:]
    assert sorted(failed) == sorted(each["dynamodb"]["SequenceNumber"] for each in poison)
    assert sorted(one.told.poison) == sorted(failed)
    assert await everything(one) == expected(records)


async def test_poison_is_named_in_the_order_of_the_batch() -> None:
    one, records = RollupOnMemory(), requests()
    for record in records:
        await one.ledger.settle(record)
    batch = stream_of(records[:3])
    batch.insert(1, stream_record(POISON[0], 902))
    batch.append(stream_record(POISON[1], 901))
    assert await one.rollup.fold_stream(batch) == [f"{902:021d}", f"{901:021d}"]
    assert await everything(one) == expected(records[:3])


async def test_what_is_no_request_is_passed_over() -> None:
    one = RollupOnMemory()
    scope = stream_record({"pk": {"S": "scope#team#search"}, "f": {"N": "1"}}, 1)
    gone = stream_record({"pk": {"S": "req#1"}}, 2, "REMOVE")
    del gone["dynamodb"]["NewImage"]
    assert await one.rollup.fold_stream([scope, gone]) == []


async def test_a_store_that_is_away_fails_the_batch() -> None:
    one = RollupOnMemory()

    async def away(_: Any) -> Any:
        raise Unavailable("away")

    one.totals.fold = away  # type: ignore[assignment, method-assign]
    with pytest.raises(Unavailable):
        await one.rollup.fold_stream(stream_of(requests()))


async def test_a_request_whose_process_died_is_abandoned_and_counted() -> None:
    one = RollupOnMemory(now=1_770_001_000)
    await one.ledger.open(open_record("req_1", expires_at=1_770_000_900))
    await one.ledger.open(open_record("req_2", expires_at=1_770_001_900))
    swept = await one.rollup.sweep(minute=7, budget_s=30)
    assert (swept.abandoned, swept.ended) == (1, 0)
    lost = await one.ledger.get("req_1")
    assert lost is not None
    assert (lost.status, lost.cost_usd) == ("abandoned", Decimal("0.5"))
    await one.rollup.fold_stream(stream_of([lost]))
    total = (await everything(one))[Row(("organisation",), date(2026, 2, 2), (None,))]
    assert (total.calls, total.abandoned, total.errors, total.cost_usd) == (1, 1, 0, Decimal("0.5"))
    truth = replace(lost, status="settled", cost_usd=Decimal("0.1"), usage=Usage(input_tokens=5))
    await one.ledger.settle(truth)
    await one.rollup.fold_stream(stream_of([lost, truth]))
    assert await everything(one) == expected([truth])


class Function:
    """What Lambda tells a function of its time."""

    def get_remaining_time_in_millis(self) -> int:
        return 10_500


def handler(one: RollupOnMemory) -> RollupHandler:
    return RollupHandler(one.rollup)


def test_the_handler_tells_its_events_apart() -> None:
    one = RollupOnMemory()
    handle = handler(one)
    try:
        poison = stream_record(POISON[0], 5)
        assert handle({"Records": [poison]}, Function()) == {"batchItemFailures": [{"itemIdentifier": f"{5:021d}"}]}
        message = {"eventSource": "aws:sqs", "messageId": "m-1", "body": "no JSON"}
        assert handle({"Records": [message]}, Function()) == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
        schedule = {"detail-type": "Scheduled Event", "source": "aws.events", "time": "2026-11-21T09:30:00Z"}
        assert handle(schedule, Function()) == {"abandoned": 0, "ended": 0, "pruned": 0}
        with pytest.raises(ValueError, match="its schedule"):
            handle({"Records": [{"eventSource": "aws:s3"}]}, Function())
    finally:
        handle.close()
