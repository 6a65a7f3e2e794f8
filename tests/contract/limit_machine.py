"""A limit's item against a simple model: any interleaving of what may be done to it leaves the counters that it should.

The model keeps what became of each hold and adds it up afresh whenever it is asked; the stores keep counters and
never look back. A subclass of `LimitMachine` says where they are.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_gateway.domain.limits import MINUTE_S, Budget, Grant, Hold, Level, Policy, Refusal, Scope
from llm_gateway.domain.ports import Scopes

_Result = TypeVar("_Result")

SCOPE = Scope("team", "search")
START = 1_795_046_300.0
"""Five minutes before midnight in Berlin on 19 November 2026."""
POLICIES = (
    Policy(
        rpm=4,
        tpm=100,
        parallel=3,
        budgets=(
            Budget(Decimal(1), "day", "Europe/Berlin"),
            Budget(Decimal(2), "total"),
            Budget(Decimal("0.1"), "week", hard=False),
        ),
    ),
    Policy(budgets=(Budget(Decimal("0.9"), "month"), Budget(Decimal("1.5"), "month"))),
    Policy(parallel=2, tpm=60),
    Policy(rpm=1, parallel=1, budgets=(Budget(Decimal("0.01"), "day"),), shadow=True),
)
_NAMES = tuple(f"req_{number}" for number in range(6))
_names = st.sampled_from(_NAMES)
_dollars = st.decimals("0", "0.7", places=12)
_tokens = st.integers(0, 60)
_shares = st.decimals("0", "1", places=3)


@dataclass
class Life:
    """One hold of one request, from its grant on. `cost` is None until it is charged or settled."""

    hold: Hold
    tag: str
    cost: Decimal | None = None
    tokens: int | None = None
    """The true ones, where they came while the minute was still counted."""
    state: str = "live"
    """live, abandoned, settled, cancelled"""
    known: Hold = field(init=False)
    """The hold as it was taken: whoever ends it need not have heard that it was widened."""

    def __post_init__(self) -> None:
        self.known = self.hold

    @property
    def is_held(self) -> bool:
        return self.state in ("live", "abandoned")


class Model:
    """What the counters ought to be."""

    def __init__(self) -> None:
        self.lives: list[tuple[str, Life]] = []

    def held(self, name: str) -> Life | None:
        return next((life for each, life in self.lives if each == name and life.is_held), None)

    def all_held(self) -> list[tuple[str, Life]]:
        return [(name, life) for name, life in self.lives if life.is_held]

    def level(self, minute: int, labels: tuple[str, ...]) -> Level:
        counted = [life for _, life in self.lives if life.state != "cancelled"]
        of_minute = [life for life in counted if life.hold.minute == minute]
        return Level(
            len(of_minute),
            sum(life.hold.tokens if life.tokens is None else life.tokens for life in of_minute),
            sum(life.state == "live" for life in counted),
            tuple((label, self._money(counted, label, reserved=True)) for label in labels),
            tuple((label, self._money(counted, label, reserved=False)) for label in labels),
        )

    def _money(self, counted: list[Life], label: str, *, reserved: bool) -> Decimal:
        return sum(
            (
                life.cost if life.cost is not None else life.hold.usd if reserved else Decimal(0)
                for life in counted
                if label in life.hold.labels
            ),
            Decimal(0),
        )

    def widens(self, policy: Policy, life: Life, more: Decimal) -> bool:
        """Only money is asked for, and only what it is more than before."""
        if life.state != "live":
            return False
        now = self.level(life.hold.minute, life.hold.labels)
        return (
            policy.shadow
            or more <= 0
            or all(
                now.committed_in(label) + more <= budget.usd
                for budget in policy.budgets
                for label in life.hold.labels
                if budget.hard and budget.counts_in(label)
            )
        )

    def fits(self, policy: Policy, hold: Hold) -> bool:
        if policy.shadow:
            return True
        now = self.level(hold.minute, hold.labels)
        room = (
            policy.rpm is None or now.requests + 1 <= policy.rpm,
            policy.tpm is None or now.tokens + hold.tokens <= policy.tpm,
            policy.parallel is None or now.in_flight + 1 <= policy.parallel,
            *(
                now.committed_in(label) + hold.usd <= budget.usd
                for budget in policy.budgets
                for label in hold.labels
                if budget.hard and budget.counts_in(label)
            ),
        )
        return all(room)


class LimitMachine(RuleBasedStateMachine):
    """The rules. A subclass says where the scopes are and how its coroutines are run."""

    scopes: Scopes

    def run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.model = Model()
        self.policy = POLICIES[0]
        self.labels_seen: set[str] = set()

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: Policy) -> None:
        self.policy = policy

    # -- what a request does ------------------------------------------------------------------------------------

    @rule(name=_names, usd=_dollars, tokens=_tokens)
    def reserve(self, name: str, usd: Decimal, tokens: int) -> None:
        labels = self.policy.labels(self.now)
        hold = Hold(SCOPE, usd, tokens, int(self.now) // MINUTE_S, labels, int(self.now) + 900)
        held, fits = self.model.held(name), self.model.fits(self.policy, hold)
        answer = self.run(self.scopes.reserve(name, hold, self.policy, self.now))
        self.labels_seen |= set(labels)
        if held is not None:
            # A repetition. A store that knows the attempt says so; either way nothing changes.
            assert isinstance(answer, Refusal) or answer.tag == held.tag
            return
        note(f"{name}: {'granted' if isinstance(answer, Grant) else 'refused'}")
        assert isinstance(answer, Grant) is fits, "no false refusal, and nothing let in that does not fit"
        if isinstance(answer, Grant):
            self.model.lives.append((name, Life(hold, answer.tag)))
            assert _money_shown(answer.level.committed) == _money_shown(self.level(hold).committed)
            assert (answer.level.requests, answer.level.tokens, answer.level.in_flight) == _counts(self.level(hold))

    @precondition(lambda self: self.model.all_held())
    @rule(data=st.data(), share=_shares, tokens=_tokens)
    def settle(self, data: st.DataObject, share: Decimal, tokens: int) -> None:
        """Late ones, of a hold that was abandoned, too."""
        self.end(*self.draw(data), share, tokens)

    @precondition(lambda self: self.model.all_held())
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """A request that came to nothing is settled with nothing."""
        self.end(*self.draw(data), Decimal(0), 0)

    def end(self, name: str, life: Life, share: Decimal, tokens: int) -> None:
        cost = life.hold.usd * share
        after = self.run(self.scopes.settle(name, life.known, life.tag, cost, tokens, self.now))
        if life.state == "live" and life.hold.minute >= int(self.now) // MINUTE_S - 1:
            life.tokens = tokens
        life.cost, life.state = cost, "settled"
        assert after is not None
        assert self.counted(after.spent) == self.counted(self.level(life.hold).spent)

    @precondition(lambda self: self.model.all_held())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name, life = self.draw(data)
        self.run(self.scopes.cancel(name, life.known, life.tag, self.now))
        if life.state == "live":
            life.state = "cancelled"

    @precondition(lambda self: self.model.all_held())
    @rule(data=st.data(), more=st.decimals("-0.2", "0.5", places=12), heard=st.booleans())
    def widen(self, data: st.DataObject, more: Decimal, heard: bool) -> None:
        """Its process may know of an earlier widening, or not."""
        name, life = self.draw(data)
        known = life.hold if heard else life.known
        usd, fits = life.hold.usd + more, self.model.widens(self.policy, life, more)
        answer = self.run(self.scopes.widen(name, known, life.tag, usd, self.policy, self.now))
        assert isinstance(answer, Grant) is fits, "no false refusal, and nothing widened that does not fit"
        if isinstance(answer, Grant):
            life.hold = replace(life.hold, usd=max(usd, life.hold.usd))
            if answer.level.committed:
                assert self.counted(answer.level.committed) == self.counted(self.level(life.hold).committed)
        elif life.state == "live":
            others = self.level(life.hold).without(life.hold)
            assert self.counted(answer.level.committed) == self.counted(others.committed)

    @precondition(lambda self: self.model.all_held())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Of a live hold only: one that was abandoned is charged what its record says."""
        name, life = self.draw(data)
        self.run(self.scopes.leave(name, life.known, life.tag, self.now))
        if life.state == "live":
            if life.hold.minute >= int(self.now) // MINUTE_S - 1:
                life.tokens = 0
            life.cost, life.state = Decimal(0), "settled"

    # -- what the sweep does ------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.all_held())
    @rule(data=st.data(), share=st.sampled_from([Decimal(0), Decimal(1)]))
    def abandon(self, data: st.DataObject, share: Decimal) -> None:
        name, life = self.draw(data)
        charge = life.hold.usd * share
        self.run(self.scopes.abandon(name, life.known, life.tag, charge, self.now))
        if life.state == "live":
            life.cost, life.state = charge, "abandoned"

    @rule(name=_names)
    def forget(self, name: str) -> None:
        self.run(self.scopes.forget(name, SCOPE))
        life = self.model.held(name)
        if life is not None and life.state == "abandoned":
            life.state = "settled"

    @rule()
    def prune(self) -> None:
        self.run(self.scopes.prune(SCOPE, self.now))

    # -- what arrives twice, late, or for another hold ----------------------------------------------------------

    @precondition(lambda self: self.model.lives)
    @rule(
        data=st.data(),
        ends=st.sampled_from(["cancel", "leave", "settle", "abandon", "widen"]),
        usd=_dollars,
        tokens=_tokens,
    )
    def again(self, data: st.DataObject, ends: str, usd: Decimal, tokens: int) -> None:
        """What ends a hold that has ended, or another attempt's, changes nothing."""
        name, life = data.draw(st.sampled_from(self.model.lives))
        tag = life.tag if not life.is_held else "another"
        if ends == "cancel":
            self.run(self.scopes.cancel(name, life.hold, tag, self.now))
        elif ends == "leave":
            self.run(self.scopes.leave(name, life.hold, tag, self.now))
        elif ends == "abandon":
            self.run(self.scopes.abandon(name, life.hold, tag, usd, self.now))
        elif ends == "widen":
            assert isinstance(self.run(self.scopes.widen(name, life.hold, tag, usd, self.policy, self.now)), Refusal)
        else:
            assert self.run(self.scopes.settle(name, life.hold, tag, usd, tokens, self.now)) is None

    @rule(seconds=st.sampled_from([1, 7, 59, 60, 130, 400, 3600, 86_400, 8 * 86_400]))
    def wait(self, seconds: int) -> None:
        """Minutes, days, weeks and months roll over while holds live on."""
        self.now += seconds

    # -- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def counters_are_the_models(self) -> None:
        minute = int(self.now) // MINUTE_S
        labels = tuple(self.labels_that_count())
        for each in (minute, minute - 1):
            found = self.run(self.scopes.level(SCOPE, each, labels))
            wanted = self.model.level(each, labels)
            assert _counts(found) == _counts(wanted)
            assert _money_shown(found.committed) == _money_shown(wanted.committed)
            assert _money_shown(found.spent) == _money_shown(wanted.spent)

    @invariant()
    def holds_are_the_models(self) -> None:
        found = {
            (stored.request_id, stored.hold, stored.tag, stored.charged)
            for stored in self.run(self.scopes.holds(SCOPE))
        }
        assert found == {
            (name, life.hold, life.tag, life.cost if life.state == "abandoned" else None)
            for name, life in self.model.lives
            if life.is_held
        }

    @invariant()
    def no_hard_budget_is_passed(self) -> None:
        if self.policy.shadow:
            return
        for label in self.labels_that_count():
            level = self.run(self.scopes.level(SCOPE, 0, (label,)))
            for budget in self.policy.budgets:
                if budget.hard and budget.counts_in(label):
                    assert level.spent_in(label) <= level.committed_in(label) <= budget.usd

    def draw(self, data: st.DataObject) -> tuple[str, Life]:
        return data.draw(st.sampled_from(self.model.all_held()))

    def labels_that_count(self) -> list[str]:
        """Those of two days ago may have been pruned, in every zone."""
        fresh = {label for days in range(2) for label in self.policy.labels(self.now - days * 86_400)}
        return sorted(self.labels_seen & fresh)

    def counted(self, money: tuple[tuple[str, Decimal], ...]) -> dict[str, Decimal]:
        """Of a hold that outlived its period the counters may have been pruned."""
        counted = set(self.labels_that_count())
        return {label: usd for label, usd in _money_shown(money).items() if label in counted}

    def level(self, hold: Hold) -> Level:
        return self.model.level(hold.minute, hold.labels)


def _counts(level: Level) -> tuple[int, int, int]:
    return level.requests, level.tokens, level.in_flight


def _money_shown(money: tuple[tuple[str, Decimal], ...]) -> dict[str, Decimal]:
    """A counter that is not there is zero."""
    return {label: usd for label, usd in money if usd}
