"""The contract of `ports.Ledger`: a request is opened once, settled once, and read back as it was written."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

from llm_gateway.domain.ports import Ledger
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import InternalFailure
from tests.contract.records import open_record, plain_record, records


@pytest.fixture
def opened() -> RequestRecord:
    return open_record(str(uuid4()))


def settled(record: RequestRecord, **more: object) -> RequestRecord:
    return plain_record(record.request_id, **more)


async def test_unknown_is_none(ledger: Ledger) -> None:
    assert await ledger.get("req_unknown") is None


async def test_opened_and_read_back(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    assert await ledger.get(opened.request_id) == opened


async def test_opened_twice_is_opened_once(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    await ledger.open(opened)
    assert await ledger.get(opened.request_id) == opened


async def test_opened_late_changes_nothing(ledger: Ledger, opened: RequestRecord) -> None:
    """The attempt that was thought lost arrives after the settlement."""
    await ledger.open(opened)
    assert await ledger.settle(settled(opened))
    await ledger.open(opened)
    assert await ledger.get(opened.request_id) == settled(opened)


async def test_opened_again_with_more_in_it(ledger: Ledger, opened: RequestRecord) -> None:
    """The request went on to another deployment; the first opening, carried out late, does not undo that."""
    moved = replace(opened, scopes=("key#prod", "deployment#corp:b"), holds=("tag",), reserved_usd=Decimal("0.5"))
    await ledger.open(opened)
    await ledger.open(moved)
    await ledger.open(opened)
    assert await ledger.get(opened.request_id) == moved
    again = replace(moved, scopes=("key#prod",))
    await ledger.open(again)
    assert await ledger.get(opened.request_id) == again


async def test_an_id_belongs_to_one_request(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    at, key_id = opened.at_ms, opened.key_id
    for other in ((at + 1, key_id), (at, "another"), (at, None)):
        with pytest.raises(InternalFailure):
            await ledger.open(replace(opened, at_ms=other[0], key_id=other[1]))
    assert await ledger.get(opened.request_id) == opened


async def test_settled_says_what_the_record_says(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(replace(opened, tags={"a": "1"}, usage=Usage(input_tokens=7, estimated=True)))
    record = settled(opened)
    assert await ledger.settle(record) is True
    assert await ledger.get(opened.request_id) == record
    assert record.reserved_usd is None, "what was only true while it was open is gone"


async def test_settled_twice_keeps_the_first_truth(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    first = settled(opened, cost_usd=Decimal("0.1"))
    assert await ledger.settle(first) is True
    assert await ledger.settle(first) is False
    assert await ledger.settle(settled(opened, cost_usd=Decimal("0.2"))) is False
    assert await ledger.get(opened.request_id) == first


@pytest.mark.parametrize("last", ["settled", "failed"])
async def test_settled_or_failed_is_final(ledger: Ledger, opened: RequestRecord, last: str) -> None:
    await ledger.open(opened)
    assert await ledger.settle(settled(opened, status=last)) is True
    for status in ("settled", "failed", "abandoned"):
        assert await ledger.settle(settled(opened, status=status)) is False
    record = await ledger.get(opened.request_id)
    assert record is not None
    assert record.status == last


async def test_settled_after_abandoned(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    assert await ledger.settle(replace(opened, status="abandoned", cost_usd=Decimal("0.5"))) is True
    assert await ledger.settle(settled(opened)) is True
    assert await ledger.get(opened.request_id) == settled(opened)


async def test_settled_without_open(ledger: Ledger, opened: RequestRecord) -> None:
    """The open was refused by the store and the request went on: its settlement is all there is."""
    assert await ledger.settle(settled(opened)) is True
    assert await ledger.get(opened.request_id) == settled(opened)
    assert await ledger.settle(settled(opened)) is False


async def test_of_fifty_settlements_one_wins(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    rivals = [settled(opened, latency_ms=number) for number in range(50)]
    won = await asyncio.gather(*(ledger.settle(rival) for rival in rivals))
    assert won.count(True) == 1
    assert await ledger.get(opened.request_id) == rivals[won.index(True)]


async def test_fifty_opens_are_one(ledger: Ledger, opened: RequestRecord) -> None:
    await asyncio.gather(*(ledger.open(opened) for _ in range(50)))
    assert await ledger.get(opened.request_id) == opened


@pytest.mark.parametrize(
    "amount",
    [
        "0",
        "0.1",
        "0.000000000000000000000000001",
        "1234567890.123456789012345678",
        "9.999999999999999999999999999",
        "0.12345678901234567890123456789012345678",
        "99999999999999999999999999999999999999",
        "1E-30",
        "1E+20",
    ],
)
async def test_money_is_exact(ledger: Ledger, opened: RequestRecord, amount: str) -> None:
    await ledger.open(replace(opened, reserved_usd=Decimal(amount)))
    held = await ledger.get(opened.request_id)
    assert held is not None
    assert held.reserved_usd == Decimal(amount)
    await ledger.settle(settled(opened, cost_usd=Decimal(amount)))
    held = await ledger.get(opened.request_id)
    assert held is not None
    assert isinstance(held.cost_usd, Decimal)
    assert held.cost_usd == Decimal(amount)


async def test_any_language(ledger: Ledger, opened: RequestRecord) -> None:
    record = replace(
        opened,
        user="Zoë 🦊 \u2028\x00 \U0010ffff",
        tags={"": "empty name", "größe": "", "名前": "値", "a.b#c": ":x"},
        requested_model="модель" * 20,
    )
    await ledger.open(record)
    assert await ledger.get(record.request_id) == record


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=records())
async def test_every_field_comes_back(ledger: Ledger, record: RequestRecord) -> None:
    record = replace(record, request_id=str(uuid4()))
    await ledger.open(replace(record, status="open"))
    assert await ledger.get(record.request_id) == replace(record, status="open")
    assert await ledger.settle(record) is True
    assert await ledger.get(record.request_id) == record


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=records(), last=records())
async def test_nothing_of_the_open_record_shines_through(
    ledger: Ledger, first: RequestRecord, last: RequestRecord
) -> None:
    """Whatever the open record said and the settled one does not is gone."""
    first = replace(first, request_id=str(uuid4()))
    last = replace(last, request_id=first.request_id)
    await ledger.open(replace(first, status="open"))
    assert await ledger.settle(last) is True
    assert await ledger.get(first.request_id) == last


def abandoned(record: RequestRecord) -> RequestRecord:
    return replace(record, status="abandoned", cost_usd=Decimal("0.5"))


async def due(ledger: Ledger, now: float) -> list[str]:
    return [request_id async for request_id in ledger.due(now)]


async def test_only_an_open_record_is_abandoned(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    assert await ledger.abandon(abandoned(opened)) is True
    assert await ledger.abandon(abandoned(opened)) is True
    assert await ledger.get(opened.request_id) == abandoned(opened)
    assert await ledger.settle(settled(opened)) is True
    assert await ledger.abandon(abandoned(opened)) is False
    assert await ledger.get(opened.request_id) == settled(opened)


async def test_what_was_never_opened_is_not_abandoned(ledger: Ledger, opened: RequestRecord) -> None:
    assert await ledger.abandon(abandoned(opened)) is False
    assert await ledger.get(opened.request_id) is None


async def test_a_closed_record_takes_no_late_truth(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    await ledger.abandon(abandoned(opened))
    for _ in range(2):
        await ledger.close(opened.request_id)
    assert await ledger.settle(settled(opened)) is False
    assert await ledger.get(opened.request_id) == abandoned(opened)


async def test_closing_leaves_what_is_not_abandoned(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.close(opened.request_id)
    await ledger.open(opened)
    await ledger.close(opened.request_id)
    assert await ledger.settle(settled(opened)) is True


async def test_due_is_what_is_open_past_its_time(ledger: Ledger) -> None:
    at = 1_770_000_900
    for name in ("late", "in time", "settled", "abandoned"):
        await ledger.open(open_record(name, expires_at=at + (1 if name == "in time" else 0)))
    await ledger.settle(settled(open_record("settled")))
    await ledger.abandon(abandoned(open_record("abandoned")))
    assert await due(ledger, at) == []
    assert await due(ledger, at + 1) == ["late"]
    assert sorted(await due(ledger, at + 2)) == ["in time", "late"]


async def test_opened_again_with_less_reserved_says_so(ledger: Ledger, opened: RequestRecord) -> None:
    await ledger.open(opened)
    less = replace(opened, reserved_usd=Decimal("0.1"))
    await ledger.open(less)
    assert await ledger.get(opened.request_id) == less
    await ledger.settle(settled(opened))
    await ledger.open(opened)
    assert await ledger.get(opened.request_id) == settled(opened)
