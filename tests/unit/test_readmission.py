"""A request that goes on to another deployment: what it holds then, what it leaves, and what it is charged in the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import orjson
import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.catalog import Catalog, Deployment
from llm_gateway.domain.limits import Budget, Grant, Hold, Policy, Refusal, Scope
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import DeploymentLimited, GatewayError, QuotaExceeded, RateLimited, Unavailable
from llm_gateway.pipeline.admission import Admission, Admitted
from llm_gateway.pipeline.repair import Repair
from llm_gateway.pipeline.reservations import Limited, Reservations
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request
from tests.contract.records import open_record

AT = 1_770_000_000.0
KEY, TEAM = Scope("key", "prod"), Scope("team", "search")
A, B = Scope("deployment", "corp:a"), Scope("deployment", "corp:b")
BUDGET = Budget(Decimal(10), "total")
CALLER = (Limited(KEY, Policy(rpm=50)), Limited(TEAM, Policy(budgets=(BUDGET,))))
AT_A = Limited(A, Policy(rpm=5, parallel=2, budgets=(BUDGET,)))
AT_B = Limited(B, Policy(rpm=5, parallel=2, budgets=(Budget(Decimal(4), "total"),)))


@dataclass(frozen=True)
class PerToken:
    """Implements `CostBound`: so much for each token of output, and a dollar for the input."""

    each: Decimal
    output_tokens: int | None
    most_output_tokens: int | None
    answers: int = 1
    members: Mapping[str, Any] = field(default_factory=dict)

    def usd(self, output_tokens: int) -> Decimal:
        return 1 + self.each * output_tokens

    def output_that_fits(self, usd: Decimal) -> int:
        return int((usd - 1) // self.each) if usd >= 1 else -1


class Prices:
    """A cent a token at `a`, two at `b`; a model writes 500 or 300 tokens at most."""

    each: Mapping[str, str] = {"a": "0.01", "b": "0.02"}
    most: Mapping[str, int] = {"a": 500, "b": 300}

    def bound(
        self, _endpoint: str, request: ModelRequest, _calls: int, deployment: Deployment, *_more: object
    ) -> PerToken:
        maximum = request.fields.get("max_completion_tokens")
        return PerToken(Decimal(self.each[deployment.model]), maximum, self.most[deployment.model])


class CountedScopes(MemoryScopes):
    """Counts calls, and does not answer where `down` says so; what it was asked may be done all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.down: Callable[[str, Scope], bool] = lambda _operation, _scope: False

    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        self.calls += 1
        answer = await super().reserve(request_id, hold, policy, now)
        return self._heard("reserve", hold.scope, answer)

    async def widen(
        self, request_id: str, hold: Hold, tag: str, usd: Decimal, policy: Policy, now: float
    ) -> Grant | Refusal:
        self.calls += 1
        return self._heard("widen", hold.scope, await super().widen(request_id, hold, tag, usd, policy, now))

    async def leave(self, request_id: str, hold: Hold, tag: str, now: float) -> None:
        self.calls += 1
        if self.down("leave", hold.scope):
            raise Unavailable("down")
        await super().leave(request_id, hold, tag, now)

    def _heard(self, operation: str, scope: Scope, answer: Grant | Refusal) -> Grant | Refusal:
        if self.down(operation, scope):
            raise Unavailable("down")
        return answer


class LedgerOfAccounts(MemoryLedger):
    """Stands for `Accounts` too, whose `settle` takes the holds beside the record."""

    opened = 0

    async def open(self, record: RequestRecord) -> None:
        self.opened += 1
        await super().open(record)

    async def settle(self, record: RequestRecord, _holds: object = ()) -> bool:
        return await super().settle(record)


class World:
    """Admission over memory stores, with a clock that a test turns."""

    def __init__(self) -> None:
        self.now = AT
        self.slept: list[float] = []
        self.lost: list[Scope] = []
        self.ledger, self.scopes = LedgerOfAccounts(), CountedScopes()
        self.repair = Repair(self.ledger, self.scopes, lambda: "charge", lambda: self.now)
        reservations = Reservations(
            self.ledger, self.scopes, self.repair, lambda _alert: None, self._lose, lambda: self.now
        )
        self.admission = Admission(reservations, Prices(), lambda: self.now, self._sleep)

    def _lose(self, _request_id: str, scope: Scope, _error: GatewayError) -> None:
        self.lost.append(scope)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def admit(self, *limited: Limited, request_id: str = "req_1", model: str = "a", **more: Any) -> Admitted:
        return await self.admission.admit(
            "chat.completions", record(request_id), limited, asked(**more), 1, Deployment("corp", model), NO_CATALOG
        )

    async def readmit(
        self, admitted: Admitted | None, *limited: Limited, model: str = "b", spent: str = "0", **more: Any
    ) -> Admitted:
        opened = record("req_1") if admitted is None else admitted.record
        deployment = Deployment("corp", model)
        return await self.admission.readmit(
            "chat.completions", admitted, opened, limited, asked(**more), 1, deployment, NO_CATALOG, Decimal(spent)
        )

    async def settle(self, admitted: Admitted, usd: str) -> RequestRecord:
        settled = replace(admitted.record, status="settled", cost_usd=Decimal(usd), usage=Usage(30, 10))
        return await self.admission.settle(settled, admitted, self.ledger)  # type: ignore[arg-type]

    async def money(self, scope: Scope) -> tuple[Decimal, Decimal]:
        """What is committed and what is spent."""
        level = await self.scopes.level(scope, 0, ("T",))
        return level.committed_in("T"), level.spent_in("T")

    async def level(self, scope: Scope) -> tuple[int, int]:
        """Requests of the minute, and those in flight."""
        level = await self.scopes.level(scope, int(self.now) // 60, ())
        return level.requests, level.in_flight

    async def item(self) -> RequestRecord:
        found = await self.ledger.get("req_1")
        assert found is not None
        return found


NO_CATALOG = Catalog({}, {})


def record(request_id: str) -> RequestRecord:
    return open_record(request_id, at_ms=int(AT * 1000), expires_at=int(AT) + 900, reserved_usd=None)


def asked(**more: Any) -> ModelRequest:
    return read_chat_request(orjson.dumps({"messages": [{"role": "user", "content": "hello"}], **more}))


def usd(committed: str, spent: str) -> tuple[Decimal, Decimal]:
    return Decimal(committed), Decimal(spent)


async def test_a_dearer_deployment_widens_what_is_held() -> None:
    world = World()
    first = await world.admit(*CALLER, max_completion_tokens=100)
    assert await world.money(TEAM) == usd("2", "0")
    calls = world.scopes.calls
    second = await world.readmit(first, *CALLER, max_completion_tokens=100, spent="0.5")
    assert await world.money(TEAM) == usd("3.5", "0")
    assert world.scopes.calls == calls + 1, "a scope without money is not asked"
    assert second.record.reserved_usd == Decimal("3.5")
    assert await world.level(KEY) == (1, 1)
    settled = await world.settle(second, "3.2")
    assert settled.scopes == (KEY.id, TEAM.id)
    assert await world.money(TEAM) == usd("3.2", "3.2")
    assert await world.level(KEY) == (1, 0)


async def test_a_cheaper_one_asks_nothing_of_the_stores() -> None:
    world = World()
    first = await world.admit(*CALLER, model="b", max_completion_tokens=100)
    calls = world.scopes.calls
    second = await world.readmit(first, *CALLER, model="a", max_completion_tokens=100)
    assert (world.scopes.calls, world.ledger.opened) == (calls, 1)
    assert second.record.reserved_usd == Decimal(2), "the most that it can still cost"
    assert await world.money(TEAM) == usd("3", "0")


async def test_without_limits_it_costs_nothing() -> None:
    world = World()
    admitted = await world.readmit(None, model="b")
    assert (world.scopes.calls, world.ledger.opened, admitted.record.scopes) == (0, 0, ())


async def test_no_room_leaves_what_is_held() -> None:
    world = World()
    first = await world.admit(*CALLER, max_completion_tokens=100)
    await world.admit(*CALLER, request_id="req_2", max_completion_tokens=600)
    with pytest.raises(QuotaExceeded) as caught:
        await world.readmit(first, *CALLER, max_completion_tokens=100, spent="0.000000000001")
    assert "$7 is spent or reserved, and it may cost up to $3.000000000001" in caught.value.message
    assert not isinstance(caught.value, DeploymentLimited)
    assert await world.money(TEAM) == usd("9", "0")
    await world.readmit(first, *CALLER, max_completion_tokens=100)
    assert await world.money(TEAM) == usd("10", "0"), "exactly what is left is no lack of room"
    await world.settle(first, "0.25")
    assert await world.money(TEAM) == usd("7.25", "0.25")


async def test_what_the_gateway_chose_it_chooses_again_of_what_is_left() -> None:
    world = World()
    first = await world.admit(*CALLER)
    assert first.members == {"max_completion_tokens": 500}
    await world.admit(*CALLER, request_id="req_2", max_completion_tokens=100)
    second = await world.readmit(first, *CALLER, max_completion_tokens=500, spent="2")
    # 10 less the other's 2, less what is spent and the input: 5 dollars are 250 tokens.
    assert second.members == {"max_completion_tokens": 250}
    assert second.headers["x-gateway-max-tokens"] == "250"
    assert await world.money(TEAM) == usd("10", "0")


async def test_what_the_gateway_chose_is_no_more_than_the_next_model_writes() -> None:
    world = World()
    first = await world.admit(*CALLER)
    assert (await world.readmit(first, *CALLER)).members == {"max_completion_tokens": 300}
    rest = await world.readmit(first, *CALLER, max_completion_tokens=20)
    assert rest.members == {"max_completion_tokens": 20}, "of a continuation"


@pytest.mark.parametrize("spent", ["0", "0.5"])
async def test_a_deployment_is_left_where_it_cost_nothing(spent: str) -> None:
    world = World()
    first = await world.admit(*CALLER, AT_A, max_completion_tokens=50)
    second = await world.readmit(first, *CALLER, AT_B, max_completion_tokens=50, spent=spent)
    assert await world.level(B) == (1, 1)
    assert await world.level(A) == ((1, 0) if spent == "0" else (1, 1)), "it was called, so it counts in the minute"
    wanted = (KEY.id, TEAM.id, B.id) if spent == "0" else (KEY.id, TEAM.id, A.id, B.id)
    assert (await world.item()).scopes == wanted
    settled = await world.settle(second, "1.25")
    assert (settled.scopes, (await world.item()).scopes) == (wanted, wanted)
    for scope in (TEAM, B):
        assert await world.money(scope) == usd("1.25", "1.25")
    assert await world.money(A) == (usd("0", "0") if spent == "0" else usd("1.25", "1.25"))
    for scope in (KEY, TEAM, A, B):
        assert await world.scopes.holds(scope) == []


async def test_there_and_back_again() -> None:
    world = World()
    admitted = await world.admit(*CALLER, AT_A, max_completion_tokens=50)
    admitted = await world.readmit(admitted, *CALLER, AT_B, max_completion_tokens=50)
    admitted = await world.readmit(admitted, *CALLER, AT_A, model="a", max_completion_tokens=50)
    assert [await world.level(A), await world.level(B)] == [(2, 1), (1, 0)]
    settled = await world.settle(admitted, "1")
    assert settled.scopes == (KEY.id, TEAM.id, A.id)
    assert [await world.money(A), await world.money(B)] == [usd("1", "1"), usd("0", "0")]


async def test_the_first_deployment_had_no_limits() -> None:
    world = World()
    await world.ledger.open(record("req_1"))
    admitted = await world.readmit(None, AT_B, max_completion_tokens=50, spent="0.25")
    assert (await world.item()).scopes == admitted.record.scopes == (B.id,)
    assert admitted.record.reserved_usd == Decimal("2.25")
    await world.settle(admitted, "2.2")
    assert await world.money(B) == usd("2.2", "2.2")


@pytest.mark.parametrize("filled", ["parallel", "budget"])
async def test_a_deployment_that_is_full_says_so(filled: str) -> None:
    """Another may have room, so it is told from the caller's own limits; to the caller it reads the same."""
    world = World()
    if filled == "parallel":
        for number in range(2):
            await world.admit(AT_B, request_id=f"req_b{number}", max_completion_tokens=0)
    else:
        await world.admit(AT_B, request_id="req_b", model="b", max_completion_tokens=149)
    first = await world.admit(*CALLER, AT_A, max_completion_tokens=50)
    with pytest.raises(DeploymentLimited) as caught:
        await world.readmit(first, *CALLER, AT_B, max_completion_tokens=50)
    with pytest.raises(DeploymentLimited):
        await world.admit(*CALLER, AT_B, request_id="req_3", model="b", max_completion_tokens=50)
    code = "insufficient_quota" if filled == "budget" else "rate_limit_exceeded"
    assert (caught.value.error_code, "deployment `corp:b`" in caught.value.message) == (code, True)
    await world.settle(first, "0")
    assert await world.money(TEAM) == usd("0", "0")
    assert await world.level(B) == ((2, 2) if filled == "parallel" else (1, 1))


async def test_a_key_that_is_full_is_no_deployment_that_is() -> None:
    world = World()
    full = (Limited(KEY, Policy(parallel=1)), AT_A)
    await world.admit(*full, max_completion_tokens=50)
    with pytest.raises(RateLimited) as caught:
        await world.admit(*full, request_id="req_2", max_completion_tokens=50)
    assert not isinstance(caught.value, DeploymentLimited)


@pytest.mark.parametrize("patient", [True, False])
async def test_room_at_the_deployment_is_waited_for_where_there_is_no_other(*, patient: bool) -> None:
    world = World()
    only = (Limited(A, Policy(parallel=1)),)
    await world.admit(*only)
    with pytest.raises(DeploymentLimited):
        await world.admission.admit(
            "chat.completions",
            record("req_2"),
            only,
            asked(),
            1,
            Deployment("corp", "a"),
            NO_CATALOG,
            patient=patient,
        )
    assert world.slept == ([0.05, 0.2] if patient else [])


@pytest.mark.parametrize(("operation", "scope"), [("widen", TEAM), ("reserve", B), ("leave", A)], ids=str)
async def test_a_store_that_does_not_answer_leaves_nothing_behind(operation: str, scope: Scope) -> None:
    """Each of these was carried out, or not, and nobody heard of it."""
    world = World()
    first = await world.admit(*CALLER, AT_A, max_completion_tokens=50)
    world.scopes.down = lambda wanted, at: (wanted, at) == (operation, scope)
    if operation == "leave":  # the deployment is left all the same: the sweep, or the settlement, sees to it
        first = await world.readmit(first, *CALLER, AT_B, max_completion_tokens=50)
    else:
        with pytest.raises(Unavailable) as caught:
            await world.readmit(first, *CALLER, AT_B, max_completion_tokens=50)
        assert caught.value.error_code == "ledger_unavailable"
    world.scopes.down = lambda _operation, _scope: False
    await world.settle(first, "0.125")
    assert await world.money(TEAM) == usd("0.125", "0.125")
    for each in (KEY, TEAM, A, B):
        assert await world.scopes.holds(each) == []
        assert (await world.level(each))[1] == 0
    assert (await world.money(A))[0] == 0


async def test_where_it_may_pass_what_was_not_held_is_counted_afterwards() -> None:
    world = World()
    lenient = (*CALLER, replace(AT_B, policy=replace(AT_B.policy, on_outage="allow")))
    first = await world.admit(*CALLER, max_completion_tokens=50)
    world.scopes.down = lambda _operation, scope: scope == TEAM
    second = await world.readmit(first, *lenient, max_completion_tokens=50)
    world.scopes.down = lambda _operation, _scope: False
    await world.settle(second, "1.75")
    assert [await world.money(TEAM), await world.money(B)] == [usd("1.75", "1.75")] * 2


@pytest.mark.parametrize(("moved", "charge"), [(False, "1.5"), (True, "2.0")])
async def test_a_request_that_died_after_it_moved_on_is_charged_what_it_held_last(*, moved: bool, charge: str) -> None:
    world = World()
    first = await world.admit(*CALLER, AT_A, max_completion_tokens=50)
    if moved:
        await world.readmit(first, *CALLER, AT_B, max_completion_tokens=50)
    world.now += 901
    await world.repair.sweep()
    item = await world.item()
    assert (item.status, item.cost_usd) == ("abandoned", Decimal(charge))
    assert await world.money(TEAM) == usd(charge, charge)
    for scope in (A, B):
        named = scope.id in item.scopes
        assert named is (scope == (B if moved else A))
        assert await world.money(scope) == (usd(charge, charge) if named else usd("0", "0"))


async def test_one_that_died_while_it_moved_on_is_charged_what_it_held_before() -> None:
    """The next deployment's scope holds nothing yet, and of two budgets only one is widened: nothing is called yet."""
    world = World()
    organisation = Limited(Scope("organisation", "default"), Policy(budgets=(BUDGET,)))
    first = await world.admit(*CALLER, organisation, max_completion_tokens=50)
    grant = first.reservation.grants[1]
    assert grant is not None
    tags = tuple(tag for _, tag in first.reservation.tagged)
    await world.ledger.open(replace(first.record, scopes=(*first.record.scopes, B.id), holds=tags))
    await world.scopes.widen("req_1", first.reservation.holds[1], grant.tag, Decimal(2), CALLER[1].policy, AT)
    world.now += 901
    await world.repair.sweep()
    item = await world.item()
    assert (item.cost_usd, item.scopes) == (Decimal("1.5"), first.record.scopes)
    for scope in (TEAM, organisation.scope):
        assert await world.money(scope) == usd("1.5", "1.5")


async def test_budgets_of_different_periods_refuse_in_their_own_words() -> None:
    """The key has no budget, or one by the day; it is the team's month that is full."""
    for keys in (Policy(rpm=50), Policy(budgets=(Budget(Decimal(90), "day"),))):
        world = World()
        limited = (Limited(KEY, keys), Limited(TEAM, Policy(budgets=(Budget(Decimal(5), "month"),))))
        await world.admit(*limited, request_id="req_1", max_completion_tokens=200)
        with pytest.raises(QuotaExceeded, match=r"team `search`, \$5 a month"):
            await world.admit(*limited, request_id="req_2", max_completion_tokens=200)
        clamped = await world.admit(*limited, request_id="req_3")
        assert clamped.members == {"max_completion_tokens": 100}
