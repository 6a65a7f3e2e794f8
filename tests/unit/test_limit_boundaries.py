"""What lies between two moments: midnight between a hold and its reserve, a hold of its own in a request's way."""

from dataclasses import replace
from decimal import Decimal

import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.limits import Budget, Grant, Hold, Level, Policy, Refusal, Scope
from llm_gateway.errors import QuotaExceeded, Unavailable
from llm_gateway.pipeline.rate_limits import refusal_of, room_for_output
from llm_gateway.pipeline.repair import Repair
from llm_gateway.pipeline.reservations import Limited, Refused
from tests.contract.records import open_record

TEAM, KEY = Scope("team", "search"), Scope("key", "prod")
MIDNIGHT = 1_770_076_800.0
POLICY = Policy(budgets=(Budget(Decimal(1), "day"),))


def hold(usd: str, at: float, scope: Scope = TEAM) -> Hold:
    return Hold(scope, Decimal(usd), 10, int(at) // 60, POLICY.labels(at), int(at) + 900)


async def test_a_hold_of_yesterday_is_held_to_yesterdays_budget() -> None:
    scopes = MemoryScopes()
    before = MIDNIGHT - 0.01
    assert isinstance(await scopes.reserve("req_1", hold("0.6", before), POLICY, before), Grant)
    late = hold("0.6", before)
    answer = await scopes.reserve("req_2", late, POLICY, MIDNIGHT + 0.01)
    assert isinstance(answer, Refusal)
    refused = Refused([(Limited(TEAM, POLICY), late, answer)])
    assert room_for_output(refused, MIDNIGHT + 0.01) == Decimal("0.4")
    assert isinstance(refusal_of(refused, MIDNIGHT + 0.01), QuotaExceeded)


def test_a_hold_of_its_own_in_the_way_is_no_lack_of_room() -> None:
    """Its cancellation was lost, and the clamp asks again: nothing is wrong with the caller, and nothing is known."""
    asked = hold("0.2", MIDNIGHT)
    refused = Refused([(Limited(TEAM, POLICY), asked, Refusal(Level()))])
    error = refusal_of(refused, MIDNIGHT)
    assert isinstance(error, Unavailable)
    assert (error.http_status, error.error_code) == (503, "ledger_unavailable")


@pytest.mark.parametrize(("held", "charge"), [((), "0"), (("team",), "0"), (("team", "key"), "0.3")])
async def test_what_did_not_hold_everywhere_was_never_called(held: tuple[str, ...], charge: str) -> None:
    """Died while its holds were taken: charging the one would leave the sums of the other wrong."""
    ledger, scopes = MemoryLedger(), MemoryScopes()
    record = open_record(
        "req_1",
        at_ms=int(MIDNIGHT * 1000),
        expires_at=int(MIDNIGHT) + 900,
        reserved_usd=Decimal("0.3"),
        scopes=(TEAM.id, KEY.id),
    )
    await ledger.open(record)
    for scope in (TEAM, KEY):
        if scope.kind in held:
            await scopes.reserve("req_1", hold("0.3", MIDNIGHT, scope), POLICY, MIDNIGHT)
    await Repair(ledger, scopes, lambda: "charge", lambda: MIDNIGHT + 901).sweep()
    swept = await ledger.get("req_1")
    assert swept is not None
    assert (swept.status, swept.cost_usd) == ("abandoned", Decimal(charge))
    (label,) = POLICY.labels(MIDNIGHT)
    for scope in (TEAM, KEY):
        level = await scopes.level(scope, 0, (label,))
        expected = Decimal(charge) if scope.kind in held else Decimal(0)
        assert (level.spent_in(label), level.committed_in(label), level.in_flight) == (expected, expected, 0)


async def test_holds_of_two_sizes_charge_the_smaller() -> None:
    """Of two rounds of a clamp, the first one's cancellation lost: more than one of them holds must not be charged."""
    ledger, scopes = MemoryLedger(), MemoryScopes()
    record = open_record("req_1", at_ms=int(MIDNIGHT * 1000), expires_at=int(MIDNIGHT) + 900)
    await ledger.open(replace(record, scopes=(TEAM.id, KEY.id), reserved_usd=Decimal("0.2")))
    await scopes.reserve("req_1", hold("0.9", MIDNIGHT, TEAM), POLICY, MIDNIGHT)
    await scopes.reserve("req_1", hold("0.2", MIDNIGHT, KEY), POLICY, MIDNIGHT)
    await Repair(ledger, scopes, lambda: "charge", lambda: MIDNIGHT + 901).sweep()
    (label,) = POLICY.labels(MIDNIGHT)
    for scope in (TEAM, KEY):
        assert (await scopes.level(scope, 0, (label,))).spent_in(label) == Decimal("0.2")
