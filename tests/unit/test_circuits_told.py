"""Specifies what a circuit makes of the findings of other processes: the later call is right, whoever made it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.routing.circuits import PROBE_S, Circuits, Opening
from llm_gateway.routing.faults import Fault
from tests.fakes.manual_clock import ManualClock

ONE = "corp:small-1"
BROKEN = Fault("passing", code="upstream_cut")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def turned() -> list[str]:
    return []


@pytest.fixture
def circuits(clock: ManualClock, turned: list[str]) -> Circuits:
    return Circuits(clock, turned=turned.append)


def told(began: float = 999.9, opened_at: float = 1000.0, rests_until: float = 1005.0) -> Opening:
    return Opening(began, opened_at, rests_until, opened_at, "upstream_timeout")


def breaks(circuits: Circuits, times: int = 5, latency_s: float = 0.1) -> None:
    for _ in range(times):
        circuits.failed(ONE, BROKEN, latency_s)


def test_it_is_open_for_as_long_as_it_was_told(circuits: Circuits, clock: ManualClock, turned: list[str]) -> None:
    circuits.told_open(ONE, told())
    assert circuits.open(ONE)
    assert circuits.opening(ONE) == told()
    assert circuits.openings() == {ONE: told()}
    assert circuits.state(ONE).last_error == "upstream_timeout"
    clock.now = 1005.0
    assert circuits.try_enter(ONE)
    assert not circuits.try_enter(ONE), "one at a time"
    assert turned == []


def test_its_own_turns_are_heard_of(circuits: Circuits, clock: ManualClock, turned: list[str]) -> None:
    breaks(circuits, 4)
    assert turned == []
    breaks(circuits, 3)
    assert turned == [ONE]
    opening = circuits.opening(ONE)
    assert opening is not None
    assert opening.began == pytest.approx(999.9)
    assert (opening.opened_at, opening.since) == (1000.0, 1000.0)
    clock.now = 1005.0
    circuits.failed(ONE, BROKEN, 0.0)
    clock.now = 1015.0
    again = circuits.opening(ONE)
    assert again is not None
    assert (again.opened_at, again.since) == (1005.0, 1000.0)
    circuits.succeeded(ONE, 0.0)
    assert turned == [ONE] * 3
    assert circuits.opening(ONE) is None
    assert circuits.well_at(ONE) == 1015.0
    circuits.succeeded(ONE, 0.0)
    assert turned == [ONE] * 3


def test_a_call_of_its_own_that_began_later_knows_better(circuits: Circuits, clock: ManualClock) -> None:
    clock.now = 1001.0
    circuits.succeeded(ONE, 0.5)
    circuits.told_open(ONE, told())
    assert not circuits.open(ONE)
    circuits.told_open(ONE, told(began=1000.6))
    assert circuits.open(ONE)
    circuits.succeeded(ONE, 0.5)
    assert circuits.open(ONE), "that one began before"
    circuits.succeeded(ONE, 0.3)
    assert not circuits.open(ONE), "though it began before theirs had failed"


def test_a_longer_rest_is_kept(circuits: Circuits) -> None:
    circuits.told_open(ONE, told(rests_until=1009.0))
    circuits.told_open(ONE, told(began=999.95, rests_until=1005.0))
    opening = circuits.opening(ONE)
    assert opening is not None
    assert opening.rests_until == 1009.0


def test_an_older_finding_changes_nothing(circuits: Circuits) -> None:
    circuits.told_open(ONE, told())
    circuits.told_open(ONE, told(began=999.9, rests_until=1010.0))
    circuits.told_well(ONE, 999.9)
    assert circuits.opening(ONE) == told()


def test_a_success_that_is_told_closes_it(circuits: Circuits, turned: list[str]) -> None:
    breaks(circuits)
    circuits.told_well(ONE, 999.0)
    assert circuits.open(ONE)
    circuits.told_well(ONE, 1000.5)
    assert not circuits.open(ONE)
    assert circuits.state(ONE).failures == 0
    assert circuits.state(ONE).error_rate == 0
    assert turned == [ONE]
    circuits.told_open(ONE, told(began=1000.2))
    assert not circuits.open(ONE)


def test_what_works_elsewhere_is_nothing_to_who_never_called(circuits: Circuits) -> None:
    circuits.told_well(ONE, 1000.0)
    assert circuits.states() == {}


_MOMENTS = st.floats(0, 20)
_EVENTS = st.one_of(
    st.tuples(st.just("passes"), _MOMENTS),
    st.tuples(st.just("works"), _MOMENTS),
    st.tuples(st.just("fails"), _MOMENTS),
    st.tuples(st.just("tries"), _MOMENTS),
    st.tuples(st.just("told open"), _MOMENTS),
    st.tuples(st.just("told well"), _MOMENTS),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_EVENTS, max_size=40))
def test_whatever_is_told_it_is_tried_again_in_time(events: list[tuple[str, float]]) -> None:
    clock = ManualClock()
    circuits = Circuits(clock)
    longest = 13.0
    tried_at = 0.0
    for event, seconds in events:
        now = clock.now
        match event:
            case "passes":
                clock.now += seconds
            case "works":
                circuits.succeeded(ONE, seconds)
            case "fails":
                circuits.failed(ONE, BROKEN, seconds)
            case "tries":
                was_open = circuits.open(ONE)
                assert circuits.try_enter(ONE) is not was_open
                tried_at = tried_at if was_open else now
            case "told open":
                circuits.told_open(ONE, Opening(now - seconds, now - seconds / 2, now + longest - seconds, now, "x"))
            case "told well":
                circuits.told_well(ONE, now - seconds)
        opening = circuits.opening(ONE)
        if opening is None:
            assert not circuits.open(ONE)
            continue
        well_at = circuits.well_at(ONE)
        assert well_at is None or max(opening.began, opening.opened_at) >= well_at
        assert opening.rests_until <= clock.now + longest
        if circuits.open(ONE):
            assert opening.rests_until > clock.now or clock.now - tried_at < PROBE_S
    circuits.succeeded(ONE, 0.0)
    assert circuits.opening(ONE) is None, "what begins now and works is the latest there is"
