"""Requests that die at any step, and the sweep, which may die too: in the end every sum agrees and nothing is held.

A process here is a wrapper around the stores that says of each call whether it is carried out, carried out and
unheard, not carried out, or the last thing that its process ever did.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.limits import Abandoned, Budget, Policy, Scope
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline.repair import LATE_S, Repair
from llm_gateway.pipeline.reservations import Change, Limited, Refused, Reservation, Reservations
from tests.contract.records import open_record

START = 1_770_000_000.0
LIVES_S = 900
KEY, TEAM = Scope("key", "prod"), Scope("team", "search")
TOTAL = Budget(Decimal(2), "total")
DAY = Budget(Decimal(1), "day", "America/New_York")
CALLERS = (Limited(KEY, Policy(parallel=3, budgets=(DAY,))), Limited(TEAM, Policy(budgets=(TOTAL, DAY))))
DEPLOYMENTS = (
    Limited(Scope("deployment", "corp:a"), Policy(parallel=2, budgets=(TOTAL,))),
    Limited(Scope("deployment", "corp:b"), Policy(budgets=(DAY,))),
)
LIMITED = (*CALLERS, *DEPLOYMENTS)
OPENED = LIMITED[:3]
"""What limits a request at first: it goes to the deployment `a`."""

Fate = Literal["done", "unheard", "not done", "dies before", "dies after"]
_fates = st.lists(
    st.sampled_from(["done", "done", "done", "done", "unheard", "not done", "dies before", "dies after"]), max_size=8
)
Call = Callable[[], Awaitable[Any]]
ARRIVES_WITHIN_S = 3600
"""A signed request is refused by AWS when it is older than minutes: twelve times that is more than enough.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""
_dollars = st.decimals("0", "0.9", places=12)
_shares = st.decimals("0", "1", places=3)


class DiedError(Exception):
    """The process is gone; whatever it had sent may still be carried out."""


@dataclass
class Line:
    """A process's line to the stores. Calls beyond its fates are carried out. `sent` is what may arrive again, late."""

    fates: list[Fate] = field(default_factory=list)
    sent: list[Call] = field(default_factory=list)
    reserved: list[Call] = field(default_factory=list)

    async def write(self, call: Call) -> Any:
        self.sent.append(call)
        fate = self.fates.pop(0) if self.fates else "done"
        answer = await call() if fate in ("done", "unheard", "dies after") else None
        if fate.startswith("dies"):
            raise DiedError
        if fate != "done":
            raise Unavailable("no answer")
        return answer


class LedgerOnLine:
    def __init__(self, ledger: MemoryLedger, line: Line) -> None:
        self._ledger, self._line = ledger, line

    async def open(self, record: RequestRecord) -> None:
        await self._line.write(lambda: self._ledger.open(record))

    async def settle(self, record: RequestRecord) -> bool:
        return bool(await self._line.write(lambda: self._ledger.settle(record)))

    async def abandon(self, record: RequestRecord) -> bool:
        return bool(await self._line.write(lambda: self._ledger.abandon(record)))

    async def close(self, request_id: str) -> None:
        await self._line.write(lambda: self._ledger.close(request_id))

    async def get(self, request_id: str) -> RequestRecord | None:
        return await self._ledger.get(request_id)

    def due(self, now: float) -> AsyncIterator[str]:
        return self._ledger.due(now)


class ScopesOnLine:
    """Writes go through the line; what is read is read."""

    def __init__(self, scopes: MemoryScopes, line: Line) -> None:
        self._scopes, self._line = scopes, line

    async def reserve(self, *given: Any) -> Any:
        self._line.reserved.append(lambda: self._scopes.reserve(*given))
        return await self._line.write(self._line.reserved[-1])

    async def widen(self, *given: Any) -> Any:
        return await self._line.write(lambda: self._scopes.widen(*given))

    async def leave(self, *given: Any) -> None:
        await self._line.write(lambda: self._scopes.leave(*given))

    async def cancel(self, *given: Any) -> None:
        await self._line.write(lambda: self._scopes.cancel(*given))

    async def settle(self, *given: Any) -> Any:
        return await self._line.write(lambda: self._scopes.settle(*given))

    async def abandon(self, *given: Any) -> None:
        await self._line.write(lambda: self._scopes.abandon(*given))

    async def forget(self, *given: Any) -> None:
        await self._line.write(lambda: self._scopes.forget(*given))

    async def prune(self, *given: Any) -> int:
        return int(await self._line.write(lambda: self._scopes.prune(*given)))

    async def holds(self, scope: Scope) -> Any:
        return await self._scopes.holds(scope)

    async def level(self, *given: Any) -> Any:
        return await self._scopes.level(*given)

    def scopes(self) -> AsyncIterator[Scope]:
        return self._scopes.scopes()


class RequestsThatDie(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.ledger, self.scopes = MemoryLedger(), MemoryScopes()
        self.sent: list[Call] = []
        self.reserved: list[Call] = []
        self.running: list[tuple[RequestRecord, Reservation, Line]] = []
        self.spent: set[str] = set()
        """Requests of which an attempt that failed may have cost something."""
        self.owed: dict[str, Decimal] = {}
        """What the attempts of a request that is running may have cost."""
        self.died: list[tuple[str, Decimal]] = []
        """Requests that had been admitted when their process died, with what they may have cost until then."""
        self.count = 0
        self.policy: Abandoned = "charge"
        self.loop = asyncio.new_event_loop()

    def teardown(self) -> None:
        try:
            self.everything_agrees_in_the_end()
        finally:
            self.loop.close()

    @initialize(policy=st.sampled_from(["charge", "release"]))
    def begin(self, policy: Abandoned) -> None:
        self.policy = policy

    @rule(usd=_dollars, fates=_fates, rounds=st.sampled_from([1, 1, 2]))
    def open(self, usd: Decimal, fates: list[Fate], rounds: int) -> None:
        """A clamp asks again with less when it was refused: two rounds, as `Admission` makes them."""
        self.count += 1
        line = Line(fates, self.sent, self.reserved)
        record = open_record(
            f"req_{self.count}",
            at_ms=int(self.now * 1000),
            expires_at=int(self.now) + LIVES_S,
            scopes=tuple(each.scope.id for each in OPENED),
        )
        for number in range(rounds):
            record = replace(record, reserved_usd=usd / (number + 1))
            try:
                answer = self.run(self.process(line).open(record, OPENED, 50, "deny"))
            except DiedError:
                return
            except Unavailable:
                break
            if isinstance(answer, Reservation):
                self.running.append((record, answer, line))
                self.owed[record.request_id] = usd / (number + 1)
                return
        self.write(line, replace(record, status="failed", cost_usd=None, error_code="insufficient_quota"), None)

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        usd=_dollars,
        fates=_fates,
        to=st.sampled_from([(), DEPLOYMENTS[:1], DEPLOYMENTS[1:]]),
        spent=st.booleans(),
    )
    def move_on(
        self, data: st.DataObject, usd: Decimal, fates: list[Fate], to: tuple[Limited, ...], spent: bool
    ) -> None:
        """Its attempt has failed, and the next may cost `usd`, which is less or more than what it holds."""
        index = data.draw(st.integers(0, len(self.running) - 1))
        record, reservation, line = self.running[index]
        line.fates = fates
        held = {each.scope for each in reservation.limited}
        if spent:
            self.spent.add(record.request_id)
        spent = record.request_id in self.spent
        deployments = [] if spent else [each.scope for each in DEPLOYMENTS if each.scope in held and each not in to]
        change = Change([each for each in to if each.scope not in held], deployments, 50)
        moved = replace(record, reserved_usd=usd)
        # What is asked for has what was spent in it.
        self.owed[record.request_id] = min(self.owed[record.request_id], usd)
        try:
            refused = self.run(self.process(line).readmit(moved, reservation, change, "deny"))
        except DiedError:
            del self.running[index]
            if spent:
                self.has_died(record)
        except Unavailable:
            return  # what it held before is held
        else:
            if not isinstance(refused, Refused):
                self.running[index] = moved, reservation, line
                self.owed[record.request_id] = usd

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.has_died(self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))[0])

    def has_died(self, record: RequestRecord) -> None:
        self.died.append((record.request_id, self.owed[record.request_id]))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), share=_shares, fates=_fates)
    def settle(self, data: st.DataObject, share: Decimal, fates: list[Fate]) -> None:
        """At any time: also when the sweep has given it up, and when that is too late to be taken."""
        record, reservation, line = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        line.fates = fates
        assert record.reserved_usd is not None
        cost = record.reserved_usd * share
        settled = replace(record, status="settled", cost_usd=cost, reserved_usd=None, usage=Usage(30, 10))
        self.write(line, settled, reservation)

    @rule(fates=_fates)
    def sweep(self, fates: list[Fate]) -> None:
        self.sweep_once(Line(fates, self.sent, self.reserved))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def arrives_late(self, data: st.DataObject) -> None:
        """Any call that was ever sent, once more: a duplicate, or the first time for one that was not carried out."""
        self.run(data.draw(st.sampled_from(self.sent))())

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def a_hold_arrives_late(self, data: st.DataObject) -> None:
        """The phantom: of a request that may have been settled long ago."""
        self.run(data.draw(st.sampled_from(self.reserved))())

    @rule(seconds=st.sampled_from([1, 60, 450, LIVES_S + 1, LATE_S + 1]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        if seconds > ARRIVES_WITHIN_S:
            self.sent.clear()
            self.reserved.clear()

    @invariant()
    def no_budget_is_passed(self) -> None:
        for limited in LIMITED:
            for label in self.labels():
                level = self.run(self.scopes.level(limited.scope, 0, (label,)))
                for budget in limited.policy.budgets:
                    if budget.counts_in(label):
                        assert level.spent_in(label) <= level.committed_in(label) <= budget.usd

    def everything_agrees_in_the_end(self) -> None:
        """Once for what died, twice for the marks of what was abandoned: those stay a day."""
        for seconds in (LIVES_S + 1, LATE_S + 1, LATE_S + 1):
            self.now += seconds
            self.sweep_once(Line())
        for limited in LIMITED:
            assert self.run(self.scopes.holds(limited.scope)) == []
            labels = self.labels()
            level = self.run(self.scopes.level(limited.scope, 0, labels))
            assert level.in_flight == 0
            for label in labels:
                items = self.cost_of_items(limited, label)
                assert (label, level.spent_in(label), level.committed_in(label)) == (label, items, items)
        if self.policy == "charge":
            for request_id, usd in self.died:
                charged = self.ledger.records[request_id].cost_usd
                assert charged is not None
                assert charged >= usd, "what its attempts may have cost"

    def labels(self) -> tuple[str, ...]:
        """Periods whose counters cannot have been pruned."""
        return "T", DAY.label(self.now)

    def cost_of_items(self, limited: Limited, label: str) -> Decimal:
        return sum(
            (
                record.cost_usd or Decimal(0)
                for record in self.ledger.records.values()
                if limited.scope.id in record.scopes and label in limited.policy.labels(record.at_ms / 1000)
            ),
            Decimal(0),
        )

    def sweep_once(self, line: Line) -> None:
        ledger, scopes = LedgerOnLine(self.ledger, line), ScopesOnLine(self.scopes, line)
        try:
            self.run(Repair(ledger, scopes, lambda: self.policy, lambda: self.now).sweep())
        except (DiedError, Unavailable):
            return

    def write(self, line: Line, record: RequestRecord, reservation: Reservation | None) -> None:
        """The end of a request, as `Admission.settle` and `Accounts.settle` go about it."""
        process, ledger = self.process(line), LedgerOnLine(self.ledger, line)
        try:
            if reservation is not None:
                record = self.run(process.complete(record, reservation))
            if self.run(ledger.settle(record)) and reservation is not None:
                self.run(process.settle(record, reservation))
        except (DiedError, Unavailable):
            return

    def process(self, line: Line) -> Reservations:
        ledger, scopes = LedgerOnLine(self.ledger, line), ScopesOnLine(self.scopes, line)
        repair = Repair(ledger, scopes, lambda: self.policy, lambda: self.now)
        return Reservations(
            ledger,
            scopes,
            repair,
            lambda _alert: None,
            lambda _request, _scope, _error: None,
            lambda: self.now,
        )

    def run(self, call: Any) -> Any:
        async def whole() -> Any:
            try:
                return await call
            finally:
                # What a process that died had sent is on its way all the same.
                others: Sequence[asyncio.Task[Any]] = [
                    task for task in asyncio.all_tasks() if task is not asyncio.current_task()
                ]
                await asyncio.gather(*others, return_exceptions=True)

        return self.loop.run_until_complete(whole())


TestRequestsThatDie = RequestsThatDie.TestCase
TestRequestsThatDie.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
