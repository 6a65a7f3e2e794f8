"""The contract of `ports.Scopes`: holds are taken and ended once, and counters are exact."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from llm_gateway.domain.limits import Budget, Grant, Hold, Level, Policy, Refusal, Scope
from llm_gateway.domain.ports import Scopes

NOW = 1_795_000_000.0
MINUTE = int(NOW) // 60
TEAM = Scope("team", "search # ü, @ 1")
DAY = Budget(Decimal(1), "day")
MONTH = Budget(Decimal(3), "month", "Europe/Berlin")
POLICY = Policy(rpm=5, tpm=100, parallel=3, budgets=(DAY, MONTH))
LABELS = POLICY.labels(NOW)


def hold(usd: str = "0.25", tokens: int = 10, **more: object) -> Hold:
    fields = Hold(TEAM, Decimal(usd), tokens, MINUTE, LABELS, int(NOW) + 900)
    return replace(fields, **more)  # type: ignore[arg-type]


async def granted(scopes: Scopes, request_id: str, wanted: Hold, policy: Policy = POLICY) -> Grant:
    answer = await scopes.reserve(request_id, wanted, policy, NOW)
    assert isinstance(answer, Grant), answer
    return answer


async def refused(scopes: Scopes, request_id: str, wanted: Hold, policy: Policy = POLICY) -> Refusal:
    answer = await scopes.reserve(request_id, wanted, policy, NOW)
    assert isinstance(answer, Refusal), answer
    return answer


async def level(scopes: Scopes) -> Level:
    return await scopes.level(TEAM, MINUTE, LABELS)


def committed(usd: str) -> tuple[tuple[str, Decimal], ...]:
    return tuple((label, Decimal(usd)) for label in LABELS)


async def test_a_hold_is_counted_in_every_counter(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    assert grant.level == Level(1, 10, 1, committed("0.25"))
    assert await level(scopes) == grant.level
    (stored,) = await scopes.holds(TEAM)
    assert (stored.request_id, stored.hold, stored.tag, stored.charged) == ("req_1", hold(), grant.tag, None)


@pytest.mark.hears_every_answer  # whose settlement it was, and the level after it, went with the answer
async def test_settled_it_is_what_it_cost(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    after = await scopes.settle("req_1", hold(), grant.tag, Decimal("0.000000000123"), 7, NOW)
    cost = committed("0.000000000123")
    assert after is not None
    assert (after.committed, after.spent) == (cost, cost)
    assert await level(scopes) == Level(1, 7, 0, cost, cost)
    assert await scopes.holds(TEAM) == []


async def test_settled_twice_is_settled_once(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    await scopes.settle("req_1", hold(), grant.tag, Decimal("0.1"), 7, NOW)
    assert await scopes.settle("req_1", hold(), grant.tag, Decimal("0.1"), 7, NOW) is None
    assert (await level(scopes)).committed == committed("0.1")


async def test_reserved_twice_with_the_answer_lost_is_told_so(scopes: Scopes) -> None:
    await granted(scopes, "req_1", hold())
    before = await level(scopes)
    await scopes.reserve("req_1", hold(), POLICY, NOW)
    assert await level(scopes) == before


async def test_widened_it_holds_more_once(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    for _ in range(2):
        answer = await scopes.widen("req_1", hold(), grant.tag, Decimal("0.75"), POLICY, NOW)
        assert answer == Grant(Level(committed=committed("0.75")), grant.tag)
    assert await level(scopes) == Level(1, 10, 1, committed("0.75"))
    (stored,) = await scopes.holds(TEAM)
    assert stored.hold == hold("0.75")


async def test_widened_again_from_what_it_was_at_first(scopes: Scopes) -> None:
    """A widening whose answer was lost: the process knows of the hold as it was taken."""
    grant = await granted(scopes, "req_1", hold())
    await scopes.widen("req_1", hold(), grant.tag, Decimal("0.5"), POLICY, NOW)
    assert isinstance(await scopes.widen("req_1", hold(), grant.tag, Decimal("0.75"), POLICY, NOW), Grant)
    assert await level(scopes) == Level(1, 10, 1, committed("0.75"))
    assert isinstance(await scopes.widen("req_1", hold(), grant.tag, Decimal("0.6"), POLICY, NOW), Grant)
    assert await level(scopes) == Level(1, 10, 1, committed("0.75")), "a hold is never made less"


async def test_widened_to_exactly_what_is_left(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold("0.1"))
    await granted(scopes, "req_2", hold("0.3"))
    answer = await scopes.widen("req_1", hold("0.1"), grant.tag, Decimal("0.700000000001"), POLICY, NOW)
    assert answer == Refusal(Level(1, 10, 1, committed("0.3"))), "what others have taken"
    assert (await level(scopes)).committed == committed("0.4")
    assert isinstance(await scopes.widen("req_1", hold("0.1"), grant.tag, Decimal("0.7"), POLICY, NOW), Grant)
    assert (await level(scopes)).committed == committed("1")


async def test_widening_asks_for_money_alone(scopes: Scopes) -> None:
    policy = replace(POLICY, rpm=1, tpm=10, parallel=1)
    grant = await granted(scopes, "req_1", hold(), policy)
    assert isinstance(await scopes.widen("req_1", hold(), grant.tag, Decimal("0.5"), policy, NOW), Grant)


@pytest.mark.parametrize("policy", [replace(POLICY, shadow=True), Policy(budgets=(replace(DAY, hard=False),))])
async def test_what_is_not_enforced_is_widened(scopes: Scopes, policy: Policy) -> None:
    wanted = hold(labels=policy.labels(NOW))
    grant = await granted(scopes, "req_1", wanted, policy)
    answer = await scopes.widen("req_1", wanted, grant.tag, Decimal(9), policy, NOW)
    assert isinstance(answer, Grant)
    assert answer.level.committed == tuple((label, Decimal(9)) for label in wanted.labels)


async def test_a_refused_widening_names_the_holds_past_their_time(scopes: Scopes) -> None:
    await granted(scopes, "req_old", hold("0.5", expires_at=int(NOW) - 1))
    grant = await granted(scopes, "req_1", hold())
    answer = await scopes.widen("req_1", hold(), grant.tag, Decimal("0.6"), POLICY, NOW)
    assert isinstance(answer, Refusal)
    assert answer.stale == ("req_old",)


@pytest.mark.parametrize("ended", ["never", "another", "settled", "cancelled", "abandoned"])
async def test_only_a_live_hold_is_widened(scopes: Scopes, ended: str) -> None:
    """The widening that comes late, when the request is over, holds nothing."""
    tag = "other"
    if ended != "never":
        grant = await granted(scopes, "req_1", hold())
        tag = "other" if ended == "another" else grant.tag
    if ended == "settled":
        await scopes.settle("req_1", hold(), tag, Decimal("0.1"), 7, NOW)
    elif ended == "cancelled":
        await scopes.cancel("req_1", hold(), tag, NOW)
    elif ended == "abandoned":
        await scopes.abandon("req_1", hold(), tag, Decimal("0.1"), NOW)
    before = await level(scopes)
    assert isinstance(await scopes.widen("req_1", hold(), tag, Decimal("0.5"), POLICY, NOW), Refusal)
    assert await level(scopes) == before


@pytest.mark.parametrize("knows", ["0.25", "0.75"])
@pytest.mark.parametrize("ends", ["cancel", "leave", "settle", "abandon", "settle late"])
async def test_ended_is_what_is_held_whatever_is_known_of_it(scopes: Scopes, ends: str, knows: str) -> None:
    """Its process may have died, or lost the answer, between the widening and this."""
    grant = await granted(scopes, "req_1", hold())
    await scopes.widen("req_1", hold(), grant.tag, Decimal("0.75"), POLICY, NOW)
    known, cost = hold(knows), Decimal("0.4")
    if ends == "cancel":
        await scopes.cancel("req_1", known, grant.tag, NOW)
        assert await level(scopes) == Level(0, 0, 0, committed("0"))
        return
    if ends == "leave":
        await scopes.leave("req_1", known, grant.tag, NOW)
        assert await level(scopes) == Level(1, 0, 0, committed("0"))
        return
    if ends.startswith("settle"):
        if ends == "settle late":
            await scopes.abandon("req_1", known, grant.tag, Decimal("0.75"), NOW)
        await scopes.settle("req_1", known, grant.tag, cost, 10, NOW)
    else:
        await scopes.abandon("req_1", known, grant.tag, cost, NOW)
    assert await level(scopes) == Level(1, 10, 0, committed("0.4"), committed("0.4"))


async def test_left_it_keeps_its_place_in_the_minute(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    for _ in range(2):
        await scopes.leave("req_1", hold(), grant.tag, NOW)
    assert await level(scopes) == Level(1, 0, 0, committed("0"))
    assert await scopes.holds(TEAM) == []
    again = await granted(scopes, "req_1", hold())
    await scopes.leave("req_1", hold(), grant.tag, NOW)
    assert await level(scopes) == again.level, "the call that comes late ends no later hold"


async def test_an_abandoned_hold_is_not_left(scopes: Scopes) -> None:
    """Its record has been charged: only the truth corrects that."""
    grant = await granted(scopes, "req_1", hold())
    await scopes.abandon("req_1", hold(), grant.tag, Decimal("0.25"), NOW)
    before = await level(scopes)
    await scopes.leave("req_1", hold(), grant.tag, NOW)
    assert await level(scopes) == before
    assert len(await scopes.holds(TEAM)) == 1


async def test_cancelled_leaves_nothing(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    for _ in range(2):
        await scopes.cancel("req_1", hold(), grant.tag, NOW)
    assert await level(scopes) == Level(0, 0, 0, committed("0"))
    assert await scopes.holds(TEAM) == []


@pytest.mark.parametrize("ends", ["cancel", "settle", "abandon"])
async def test_another_attempts_hold_is_left_alone(scopes: Scopes, ends: str) -> None:
    await granted(scopes, "req_1", hold())
    before = await level(scopes)
    if ends == "cancel":
        await scopes.cancel("req_1", hold(), "other", NOW)
    elif ends == "settle":
        assert await scopes.settle("req_1", hold(), "other", Decimal("0.1"), 7, NOW) is None
    else:
        await scopes.abandon("req_1", hold(), "other", Decimal("0.1"), NOW)
    assert await level(scopes) == before
    assert len(await scopes.holds(TEAM)) == 1


async def test_abandoned_is_charged_and_a_late_truth_corrects_it_once(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    for _ in range(2):
        await scopes.abandon("req_1", hold(), grant.tag, Decimal("0.25"), NOW)
    charged = committed("0.25")
    assert await level(scopes) == Level(1, 10, 0, charged, charged)
    (stored,) = await scopes.holds(TEAM)
    assert (stored.charged, stored.abandoned_at) == (Decimal("0.25"), int(NOW))
    for _ in range(2):
        await scopes.settle("req_1", hold(), grant.tag, Decimal("0.01"), 7, NOW)
    assert await level(scopes) == Level(1, 10, 0, committed("0.01"), committed("0.01"))
    assert await scopes.holds(TEAM) == []


async def test_only_an_abandoned_hold_is_forgotten(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    await scopes.forget("req_1", TEAM)
    assert len(await scopes.holds(TEAM)) == 1
    await scopes.abandon("req_1", hold(), grant.tag, Decimal(0), NOW)
    await scopes.forget("req_1", TEAM)
    assert await scopes.holds(TEAM) == []
    assert await scopes.settle("req_1", hold(), grant.tag, Decimal("0.01"), 7, NOW) is None


@pytest.mark.parametrize(
    ("policy", "fits"),
    [
        (Policy(rpm=4), 4),
        (Policy(tpm=45), 4),
        (Policy(tpm=40), 4),
        (Policy(parallel=2), 2),
        (Policy(budgets=(Budget(Decimal(1), "day"),)), 4),
        (Policy(budgets=(Budget(Decimal("0.99"), "month"),)), 3),
        (Policy(budgets=(Budget(Decimal(9), "day"), Budget(Decimal("0.5"), "total"))), 2),
        (Policy(budgets=(Budget(Decimal("0.24"), "week"),)), 0),
        (Policy(tpm=9), 0),
    ],
)
async def test_exactly_what_fits_is_let_in(scopes: Scopes, policy: Policy, fits: int) -> None:
    wanted = hold(labels=policy.labels(NOW))
    answers = await asyncio.gather(*(scopes.reserve(f"req_{index}", wanted, policy, NOW) for index in range(12)))
    assert sum(isinstance(answer, Grant) for answer in answers) == fits
    after = await refused(scopes, "req_last", wanted, policy)
    assert (after.level.requests, after.level.in_flight, after.stale) == (fits, fits, ())


@pytest.mark.parametrize(
    "policy",
    [
        Policy(rpm=1, tpm=1, parallel=1, budgets=(Budget(Decimal("0.01"), "day"),), shadow=True),
        Policy(budgets=(Budget(Decimal("0.01"), "day", hard=False),)),
    ],
)
async def test_what_is_not_enforced_is_counted(scopes: Scopes, policy: Policy) -> None:
    for index in range(3):
        await granted(scopes, f"req_{index}", hold(labels=policy.labels(NOW)), policy)
    found = await scopes.level(TEAM, MINUTE, policy.labels(NOW))
    assert (found.requests, found.tokens, found.in_flight) == (3, 30, 3)
    assert found.committed_in(policy.labels(NOW)[0]) == Decimal("0.75")


async def test_a_refusal_names_the_holds_past_their_time(scopes: Scopes) -> None:
    policy = Policy(parallel=2)
    old = hold(expires_at=int(NOW) - 1)
    grant = await granted(scopes, "req_old", old, policy)
    await granted(scopes, "req_new", hold(), policy)
    assert (await refused(scopes, "req_3", hold(), policy)).stale == ("req_old",)
    await scopes.abandon("req_old", old, grant.tag, Decimal(0), NOW)
    await granted(scopes, "req_3", hold(), policy)
    assert (await refused(scopes, "req_4", hold(), policy)).stale == ()


async def test_another_minute_has_counters_of_its_own(scopes: Scopes) -> None:
    policy = Policy(rpm=1)
    await granted(scopes, "req_1", hold(), policy)
    await refused(scopes, "req_2", hold(), policy)
    grant = await granted(scopes, "req_2", hold(minute=MINUTE + 5), policy)
    assert grant.level.requests == 1


async def test_tokens_of_a_minute_long_over_are_left(scopes: Scopes) -> None:
    grant = await granted(scopes, "req_1", hold())
    await scopes.settle("req_1", hold(), grant.tag, Decimal(0), 7, NOW + 180)
    assert (await level(scopes)).tokens == 10


async def test_pruning_takes_what_is_over_and_nothing_else(scopes: Scopes) -> None:
    await granted(scopes, "req_1", hold())
    assert await scopes.prune(TEAM, NOW) == 0
    assert await scopes.prune(TEAM, NOW + 5 * 86_400) == 3  # the minute's two, and the day
    assert await scopes.level(TEAM, MINUTE, LABELS) == Level(0, 0, 1, ((LABELS[1], Decimal("0.25")),))


async def test_every_scope_is_found(scopes: Scopes) -> None:
    wanted = [Scope("team", f"team {index}") for index in range(20)]
    for scope in wanted:
        await scopes.reserve("req_1", hold(scope=scope), Policy(), NOW)
    assert sorted(scope.id for scope in [each async for each in scopes.scopes()]) == sorted(
        scope.id for scope in wanted
    )
