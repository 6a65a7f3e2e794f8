"""Specifies the fallback queue: a settlement that waited in it is made once, with the scopes, however often it comes."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.fallback_message import decode_lost, encode_lost
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Grant, Hold, Level, Policy, Scope
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import Unavailable
from tests.contract.records import open_record, plain_record, records
from tests.fakes.rollup_on_memory import RollupOnMemory

NOW = 1_770_000_000.0
TEAM, KEY = Scope("team", "search"), Scope("key", "a # ü")
LABELS = ("D2026-02-02", "M2026-02@Europe/Berlin")


def hold(scope: Scope) -> Hold:
    return Hold(scope, Decimal("0.5"), 100, int(NOW) // 60, LABELS, int(NOW) + 900)


def settled(tags: tuple[str, ...] = ()) -> RequestRecord:
    scopes = (TEAM.id, KEY.id)
    return plain_record("req_1", cost_usd=Decimal("0.125"), scopes=scopes, holds=tags, at_ms=int(NOW * 1000))


def message(lost: LostSettlement, name: str = "m-1") -> dict[str, Any]:
    return {"eventSource": "aws:sqs", "messageId": name, "body": encode_lost(lost)}


async def reserved(one: RollupOnMemory, *scopes: Scope) -> LostSettlement:
    """What is lost of a request that held these; of the others it could hold nothing."""
    holds = []
    for scope in (TEAM, KEY):
        tag = ""
        if scope in scopes:
            grant = await one.scopes.reserve("req_1", hold(scope), Policy(), NOW)
            assert isinstance(grant, Grant)
            tag = grant.tag
        holds.append((hold(scope), tag))
    return LostSettlement(settled(tuple(tag for _, tag in holds)), tuple(holds))


async def spent(one: RollupOnMemory, scope: Scope) -> Level:
    return await one.scopes.level(scope, int(NOW) // 60, LABELS)


async def assert_settled_once(one: RollupOnMemory) -> None:
    record = await one.ledger.get("req_1")
    assert record is not None
    assert (record.status, record.cost_usd) == ("settled", Decimal("0.125"))
    for scope in (TEAM, KEY):
        level = await spent(one, scope)
        assert level.in_flight == 0
        assert level.spent == level.committed == tuple((label, Decimal("0.125")) for label in LABELS)
        assert await one.scopes.holds(scope) == []


@pytest.mark.parametrize("held", [(), (TEAM,), (TEAM, KEY)], ids=["nothing held", "half held", "all held"])
@pytest.mark.parametrize("opened", [True, False], ids=["opened", "never opened"])
async def test_a_lost_settlement_is_made_with_its_scopes(held: tuple[Scope, ...], opened: bool) -> None:
    one = RollupOnMemory(now=NOW)
    if opened:
        await one.ledger.open(replace(open_record("req_1"), at_ms=int(NOW * 1000), scopes=(TEAM.id, KEY.id)))
    lost = await reserved(one, *held)
    for _ in range(3):
        assert await one.rollup.drain_queue([message(lost), message(lost)]) == []
    await assert_settled_once(one)


async def test_deliveries_at_once_are_made_once() -> None:
    one = RollupOnMemory(now=NOW)
    lost = await reserved(one)
    await asyncio.gather(*(one.rollup.drain_queue([message(lost)]) for _ in range(4)))
    await assert_settled_once(one)


async def test_a_request_that_was_abandoned_meanwhile_gets_its_truth() -> None:
    one = RollupOnMemory(now=NOW)
    opened = replace(open_record("req_1"), at_ms=int(NOW * 1000), scopes=(TEAM.id, KEY.id), expires_at=int(NOW) + 900)
    await one.ledger.open(opened)
    lost = await reserved(one, TEAM, KEY)
    one.clock.now += 1000
    assert (await one.rollup.sweep(minute=0, budget_s=30)).abandoned == 1
    assert (await spent(one, TEAM)).spent_in(LABELS[0]) == Decimal("0.5")
    assert await one.rollup.drain_queue([message(lost)]) == []
    await assert_settled_once(one)


async def test_one_that_is_settled_already_changes_nothing() -> None:
    one = RollupOnMemory(now=NOW)
    await one.ledger.settle(plain_record("req_1", cost_usd=Decimal("0.2")))
    assert await one.rollup.drain_queue([message(await reserved(one))]) == []
    record = await one.ledger.get("req_1")
    assert record is not None
    assert record.cost_usd == Decimal("0.2")
    assert await spent(one, TEAM) == Level()


async def test_poison_and_outages_come_again_and_the_rest_is_settled() -> None:
    one = RollupOnMemory(now=NOW)
    broken = {"eventSource": "aws:sqs", "messageId": "m-broken", "body": '{"version": 2}'}
    lost = await reserved(one, TEAM, KEY)
    assert await one.rollup.drain_queue([broken, message(lost, "m-good")]) == ["m-broken"]
    assert one.told.poison == ["m-broken"]
    await assert_settled_once(one)

    async def away(_: RequestRecord) -> bool:
        raise Unavailable("away")

    one.ledger.settle = away  # type: ignore[assignment, method-assign]
    other = LostSettlement(plain_record("req_2"))
    assert await one.rollup.drain_queue([message(other, "m-away")]) == ["m-away"]
    assert one.told.poison == ["m-broken"]


_holds = st.builds(
    Hold,
    scope=st.sampled_from([TEAM, KEY]),
    usd=st.decimals(0, 10**6, places=12),
    tokens=st.integers(0, 10**9),
    minute=st.integers(0, 10**8),
    labels=st.lists(st.sampled_from(LABELS), max_size=2).map(tuple),
    expires_at=st.integers(0, 10**10),
)


@settings(max_examples=40, deadline=None)
@given(records(), st.lists(st.tuples(_holds, st.text("abc_-", max_size=6)), max_size=3))
def test_a_message_is_read_back(record: RequestRecord, holds: list[tuple[Hold, str]]) -> None:
    lost = LostSettlement(record, tuple(holds))
    assert decode_lost(encode_lost(lost)) == lost


@pytest.mark.parametrize(
    "body", ["", "no", "[]", "1", "{}", '{"version": 1}', '{"version": 1, "record": {}, "holds": []}']
)
def test_what_is_no_message_is_refused(body: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says is for a log
        decode_lost(body)
