"""Specifies what circuits know of how fast a deployment is, and how much it has to do."""

import pytest

from llm_gateway.routing.circuits import MOST_DEPLOYMENTS, Circuits
from llm_gateway.routing.faults import Fault
from llm_gateway.routing.health import CircuitState

ONE = "corp:small-1"


@pytest.fixture
def circuits() -> Circuits:
    return Circuits(lambda: 100.0)


def test_a_call_is_in_flight_until_it_has_ended(circuits: Circuits) -> None:
    circuits.begin(ONE)
    circuits.begin(ONE)
    circuits.succeeded(ONE, 0.3)
    assert circuits.state(ONE).in_flight == 2
    circuits.ended(ONE)
    circuits.failed(ONE, Fault("passing"))
    circuits.ended(ONE)
    assert circuits.state(ONE).in_flight == 0


def test_an_end_without_a_beginning_is_none(circuits: Circuits) -> None:
    """As after so many other deployments that this one was forgotten."""
    circuits.ended(ONE)
    assert circuits.state(ONE) == CircuitState()
    circuits.begin(ONE)
    for number in range(MOST_DEPLOYMENTS):
        circuits.begin(str(number))
    circuits.ended(ONE)
    circuits.begin(ONE)
    circuits.ended(ONE)
    circuits.ended(ONE)
    assert circuits.state(ONE).in_flight == 0


def test_what_was_not_measured_is_unknown(circuits: Circuits) -> None:
    circuits.succeeded(ONE, 2.0)
    circuits.ended(ONE)
    state = circuits.state(ONE)
    assert (state.latency_s, state.ttft_s, state.tokens_per_s) == (2.0, None, None)


def test_a_stream_is_measured_as_it_begins_and_as_it_ends(circuits: Circuits) -> None:
    circuits.succeeded(ONE, 0.4, ttft_s=0.4)
    assert circuits.state(ONE).tokens_per_s is None
    circuits.ended(ONE, tokens_per_s=80.0)
    state = circuits.state(ONE)
    assert (state.latency_s, state.ttft_s, state.tokens_per_s) == (0.4, 0.4, 80.0)


def test_the_newest_call_is_a_fifth_of_the_mean(circuits: Circuits) -> None:
    circuits.succeeded(ONE, 1.0, ttft_s=1.0, tokens_per_s=100.0)
    circuits.succeeded(ONE, 2.0, ttft_s=2.0, tokens_per_s=50.0)
    circuits.succeeded(ONE, 2.0)
    state = circuits.state(ONE)
    assert state.latency_s == pytest.approx(1.36)
    assert state.ttft_s == pytest.approx(1.2)
    assert state.tokens_per_s == pytest.approx(90.0)


def test_a_failure_is_no_measure_of_speed(circuits: Circuits) -> None:
    circuits.succeeded(ONE, 1.0, ttft_s=0.5)
    circuits.failed(ONE, Fault("silent"), 120.0)
    state = circuits.state(ONE)
    assert (state.latency_s, state.ttft_s, state.error_rate) == (1.0, 0.5, 0.5)
