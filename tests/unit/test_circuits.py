"""Specifies when a deployment is passed over, and when it serves again."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_gateway.domain.catalog import CircuitPolicy
from llm_gateway.routing.circuits import MOST_DEPLOYMENTS, PROBE_S, Circuits
from llm_gateway.routing.faults import Fault, FaultKind
from llm_gateway.routing.health import CircuitState

ONE = "corp:small-1"
BROKEN = Fault("passing", code="upstream_cut")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def passes(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuits(clock: Clock) -> Circuits:
    return Circuits(clock)


def broken(circuits: Circuits, times: int = 5, fault: Fault = BROKEN, **over: Any) -> None:
    for _ in range(times):
        circuits.failed(ONE, fault, **over)


def test_whoever_was_never_called_is_well(circuits: Circuits) -> None:
    assert not circuits.open(ONE)
    assert circuits.try_enter(ONE)
    circuits.left(ONE)
    assert circuits.state(ONE) == CircuitState()
    assert circuits.states() == {}


@pytest.mark.parametrize("kind", ["passing", "silent", "denied"])
def test_five_failures_in_a_row_open_it(circuits: Circuits, kind: FaultKind) -> None:
    broken(circuits, 4, Fault(kind))
    assert not circuits.open(ONE)
    broken(circuits, 1, Fault(kind))
    assert circuits.open(ONE)
    assert not circuits.try_enter(ONE)
    assert circuits.state(ONE) == CircuitState("open", 5, 1.0, kind, 1000.0)


def test_a_success_between_begins_the_row_anew(circuits: Circuits) -> None:
    broken(circuits, 4)
    circuits.succeeded(ONE, 0.1)
    broken(circuits, 4)
    assert not circuits.open(ONE)


@pytest.mark.parametrize("kind", ["request", "context_length", "content_policy"])
def test_a_refusal_of_the_request_shows_that_the_deployment_works(circuits: Circuits, kind: FaultKind) -> None:
    broken(circuits, 4)
    broken(circuits, 20, Fault(kind))
    broken(circuits, 4)
    assert not circuits.open(ONE)
    assert circuits.state(ONE).error_rate == pytest.approx(8 / 28)


def test_our_own_faults_say_nothing(circuits: Circuits) -> None:
    broken(circuits, 4)
    broken(circuits, 20, Fault("gateway"))
    assert not circuits.open(ONE)
    broken(circuits, 1)
    assert circuits.open(ONE)


def test_a_rate_of_failures_opens_it_once_there_were_ten_calls(circuits: Circuits) -> None:
    for _ in range(4):
        circuits.succeeded(ONE, 0.1)
        broken(circuits, 1)
    circuits.succeeded(ONE, 0.1)
    assert not circuits.open(ONE)
    broken(circuits, 1)
    assert circuits.open(ONE)
    assert circuits.state(ONE).error_rate == 0.5


def test_only_the_last_half_minute_counts(circuits: Circuits, clock: Clock) -> None:
    for _ in range(4):
        circuits.succeeded(ONE, 0.1)
        broken(circuits, 1)
    clock.passes(34)
    assert circuits.state(ONE).error_rate == 0
    circuits.succeeded(ONE, 0.1)
    broken(circuits, 1)
    assert not circuits.open(ONE)


def test_the_policy_is_the_operators_and_may_change(clock: Clock) -> None:
    circuits = Circuits(clock, CircuitPolicy(failures=2, cool_down_s=60))
    broken(circuits, 2)
    assert circuits.open(ONE)
    clock.passes(59.9)
    assert circuits.open(ONE)
    clock.passes(0.1)
    assert not circuits.open(ONE)
    circuits.succeeded(ONE, 0.0)
    circuits.policy = CircuitPolicy(failures=1)
    broken(circuits, 1)
    assert circuits.open(ONE)


def test_after_cooling_down_one_call_at_a_time_tries_it(circuits: Circuits, clock: Clock) -> None:
    broken(circuits)
    clock.passes(4.9)
    assert circuits.open(ONE)
    clock.passes(0.1)
    assert not circuits.open(ONE)
    assert circuits.state(ONE).state == "half_open"
    assert circuits.try_enter(ONE)
    assert circuits.open(ONE)
    assert not circuits.try_enter(ONE)
    clock.passes(1)
    circuits.succeeded(ONE, 1)
    assert not circuits.open(ONE)
    assert circuits.state(ONE).state == "closed"
    assert circuits.try_enter(ONE)
    assert circuits.try_enter(ONE)


def test_a_try_that_fails_lets_it_cool_for_ten_seconds(circuits: Circuits, clock: Clock) -> None:
    broken(circuits)
    clock.passes(5)
    for _ in range(3):
        assert circuits.try_enter(ONE)
        circuits.failed(ONE, BROKEN, 0.0)
        clock.passes(9.9)
        assert circuits.open(ONE)
        clock.passes(0.1)
        assert not circuits.open(ONE)


@pytest.mark.parametrize("end", ["left", "gateway"])
def test_a_try_that_says_nothing_is_given_back(circuits: Circuits, clock: Clock, end: str) -> None:
    broken(circuits)
    clock.passes(5)
    assert circuits.try_enter(ONE)
    if end == "left":
        circuits.left(ONE)
    else:
        circuits.failed(ONE, Fault("gateway"))
    assert not circuits.open(ONE)
    assert circuits.try_enter(ONE)


def test_a_try_that_hangs_keeps_nobody_from_seeing_that_it_is_well_again(circuits: Circuits, clock: Clock) -> None:
    broken(circuits)
    clock.passes(5)
    assert circuits.try_enter(ONE)
    clock.passes(PROBE_S - 0.1)
    assert circuits.open(ONE)
    clock.passes(0.1)
    assert circuits.try_enter(ONE)
    circuits.succeeded(ONE, 0.2)
    assert not circuits.open(ONE)
    # And what the hanging one ends with is one failure, not a reason to open again.
    circuits.failed(ONE, Fault("silent"), 10)
    assert not circuits.open(ONE)


def test_what_began_before_it_opened_neither_closes_nor_prolongs(circuits: Circuits, clock: Clock) -> None:
    broken(circuits)
    clock.passes(3)
    circuits.succeeded(ONE, 60)
    assert circuits.open(ONE)
    clock.passes(2)
    circuits.failed(ONE, Fault("silent"), 120)
    assert not circuits.open(ONE)
    circuits.failed(ONE, Fault("limited", 9.0), 120)
    assert not circuits.open(ONE)
    circuits.failed(ONE, Fault("silent"), 1)
    assert circuits.open(ONE)


def test_who_is_called_for_want_of_another_closes_it_and_does_not_prolong_it(circuits: Circuits, clock: Clock) -> None:
    broken(circuits)
    clock.passes(4)
    circuits.failed(ONE, BROKEN, 0.5)
    clock.passes(1)
    assert not circuits.open(ONE)
    broken(circuits)
    assert circuits.open(ONE)
    circuits.succeeded(ONE, 0.0)
    assert not circuits.open(ONE)


@pytest.mark.parametrize(("retry_after", "rest_s"), [(2.0, 2.0), (60.0, 10.0), (None, 5.0)])
def test_three_rate_limits_in_a_row_are_a_rest(
    circuits: Circuits, clock: Clock, retry_after: float | None, rest_s: float
) -> None:
    limited = Fault("limited", retry_after)
    broken(circuits, 2, limited)
    circuits.succeeded(ONE, 0.1)
    broken(circuits, 2, limited)
    assert not circuits.open(ONE)
    broken(circuits, 1, limited)
    assert circuits.open(ONE)
    clock.passes(rest_s - 0.1)
    assert circuits.open(ONE)
    clock.passes(0.1)
    assert not circuits.open(ONE)
    assert circuits.state(ONE).error_rate == 0


def test_a_try_that_is_limited_rests_again(circuits: Circuits, clock: Clock) -> None:
    broken(circuits)
    clock.passes(5)
    assert circuits.try_enter(ONE)
    circuits.failed(ONE, Fault("limited", 3.0))
    clock.passes(2.9)
    assert circuits.open(ONE)
    clock.passes(0.1)
    assert circuits.try_enter(ONE)


def test_a_flapping_primary_serves_within_fifteen_seconds_of_each_recovery(circuits: Circuits, clock: Clock) -> None:
    """A call a second; silent for half a minute, well for half a minute, for ten minutes."""
    waited, since = 0.0, None
    for second in range(600):
        clock.passes(1)
        well = second % 60 >= 30
        if not well:
            since = None
        elif since is None:
            since = clock()
        if circuits.open(ONE) or not circuits.try_enter(ONE):
            continue
        if well:
            assert since is not None
            waited = max(waited, clock() - since)
            circuits.succeeded(ONE, 0.1)
            since = clock()
        else:
            circuits.failed(ONE, BROKEN, 0.1)
    assert 0 < waited <= 15


def test_the_latency_is_a_mean_that_forgets(circuits: Circuits) -> None:
    circuits.succeeded(ONE, 1.0)
    assert circuits.state(ONE).latency_s == 1.0
    circuits.succeeded(ONE, 2.0)
    assert circuits.state(ONE).latency_s == pytest.approx(1.2)
    for _ in range(50):
        circuits.succeeded(ONE, 0.5)
    assert circuits.state(ONE).latency_s == pytest.approx(0.5, abs=0.001)


def test_one_deployments_troubles_are_not_anothers(circuits: Circuits) -> None:
    broken(circuits)
    assert not circuits.open("corp:small-1@eu-central-1")
    circuits.succeeded("other:m", 0.1)
    assert {name: state.state for name, state in circuits.states().items()} == {ONE: "open", "other:m": "closed"}


def test_names_that_callers_make_up_do_not_fill_the_memory(circuits: Circuits) -> None:
    broken(circuits)
    for number in range(MOST_DEPLOYMENTS - 1):
        circuits.failed(f"openai:{number}", BROKEN)
    broken(circuits, 1)
    circuits.failed("openai:one-more", BROKEN)
    assert len(circuits.states()) == MOST_DEPLOYMENTS
    assert circuits.open(ONE)
    assert "openai:0" not in circuits.states()


class CircuitMachine(RuleBasedStateMachine):
    """Calls that begin, end and overlap as they like, beside a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.circuits = Circuits(self.clock)
        self.running: list[tuple[float, bool]] = []
        """When each began, and whether it is a half-open circuit's try."""

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.clock.passes(seconds)

    @rule()
    def one_enters(self) -> None:
        before = self.circuits.state(ONE).state
        was_open = self.circuits.open(ONE)
        entered = self.circuits.try_enter(ONE)
        assert entered is not was_open
        if entered:
            self.running.append((self.clock(), before == "half_open"))
            assert self.circuits.open(ONE) is (before == "half_open")

    @rule()
    def one_goes_for_want_of_another(self) -> None:
        self.running.append((self.clock(), False))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_works(self, data: st.DataObject) -> None:
        began, _ = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        opened_at = self.circuits.state(ONE).opened_at
        self.circuits.succeeded(ONE, self.clock() - began)
        state = self.circuits.state(ONE)
        assert state.failures == 0
        if opened_at is None or self.clock() - (self.clock() - began) >= opened_at:
            assert state.state == "closed"
        else:
            assert state.opened_at == opened_at

    @precondition(lambda self: self.running)
    @rule(data=st.data(), kind=st.sampled_from(["passing", "silent", "limited", "request", "gateway"]))
    def one_fails(self, data: st.DataObject, kind: FaultKind) -> None:
        began, _ = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.circuits.failed(ONE, Fault(kind, 4.0 if kind == "limited" else None), self.clock() - began)

    @precondition(lambda self: self.running)
    @rule()
    def one_leaves(self) -> None:
        self.running.pop()
        self.circuits.left(ONE)

    @invariant()
    def nothing_but_a_running_try_keeps_it_from_being_tried_for_longer_than_ten_seconds(self) -> None:
        state = self.circuits.state(ONE)
        if not self.circuits.open(ONE):
            return
        assert state.opened_at is not None
        trying = any(is_try and self.clock() - began < PROBE_S for began, is_try in self.running)
        assert trying or self.clock() - state.opened_at < 10

    @invariant()
    def a_closed_one_has_not_failed_five_times_in_a_row(self) -> None:
        state = self.circuits.state(ONE)
        assert state.state != "closed" or state.failures < 5
        assert 0 <= state.error_rate <= 1


TestCircuits = CircuitMachine.TestCase
TestCircuits.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
