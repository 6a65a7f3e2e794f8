"""Specifies when a second deployment is begun beside a silent one, and how often that may be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.domain.strategies import Hedge
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.faults import Fault
from llm_gateway.routing.hedging import LATEST, LEAST, MOST_SAVED, SILENT_AFTER, Hedging

ONE, TWO = "corp:small-1", "openai:gpt-4.1-mini"
P95 = Hedge(percentile=0.95)
times = st.floats(0.001, 100)


def after(hedging: Hedging, hedge: Hedge = P95, deployment: str = ONE, *, streamed: bool = True) -> float | None:
    return hedging.begin("fast", hedge, deployment, streamed=streamed)


def takes(hedging: Hedging, seconds: list[float]) -> None:
    for each in seconds:
        hedging.took(ONE, each, streamed=True)


def test_a_fixed_time_needs_no_experience() -> None:
    assert after(Hedging(), Hedge(after_s=1.5)) == 1.5


def test_a_percentile_of_too_few_times_means_nothing() -> None:
    hedging = Hedging()
    assert after(hedging) is None
    takes(hedging, [1.0] * (LEAST - 1))
    assert after(hedging) is None
    takes(hedging, [1.0])
    assert after(hedging) == 1.0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0), (0.07, 7.0), (0.0, 1.0), (1.0, 100.0)]
)
def test_a_percentile_is_the_least_time_that_so_many_do_not_exceed(share: float, expected: float) -> None:
    hedging = Hedging()
    takes(hedging, [float(each) for each in range(100, 0, -1)])
    assert after(hedging, Hedge(percentile=share)) == expected


@given(st.lists(times, min_size=LEAST, max_size=3 * LATEST), st.integers(1, 99))
def test_only_the_latest_times_count(seconds: list[float], percent: int) -> None:
    hedging = Hedging()
    takes(hedging, seconds)
    latest = seconds[-LATEST:]
    at = after(hedging, Hedge(percentile=percent / 100))
    assert at in latest
    within = sum(each <= at for each in latest)
    assert within * 100 >= percent * len(latest)
    assert sum(each < at for each in latest) * 100 < percent * len(latest)


def test_an_old_time_is_forgotten_for_a_new_one() -> None:
    hedging, highest = Hedging(), Hedge(percentile=1.0)
    takes(hedging, [9.0] + [1.0] * (LATEST - 1))
    assert after(hedging, highest) == 9.0
    takes(hedging, [1.0])
    assert after(hedging, highest) == 1.0


def test_streams_and_whole_answers_are_two_things_and_so_are_deployments() -> None:
    hedging = Hedging()
    takes(hedging, [0.5] * LEAST)
    assert after(hedging, streamed=False) is None
    assert after(hedging, deployment=TWO) is None
    assert after(hedging) == 0.5


@given(st.lists(st.booleans(), max_size=300), st.sampled_from([0.0, 0.5, 2.5, 10.0, 33.0, 100.0]))
def test_never_more_than_its_percent_of_the_calls_so_far_have_a_second(wants: list[bool], percent: float) -> None:
    hedging, hedge, hedged = Hedging(), Hedge(after_s=0.1, percent=percent), 0
    for calls, wanted in enumerate(wants, 1):
        after(hedging, hedge)
        hedged += wanted and hedging.take("fast")
        assert hedged <= calls * percent / 100


def test_every_tenth_may_have_one_and_what_is_left_over_is_kept_within_reason() -> None:
    hedging, hedge = Hedging(), Hedge(after_s=0.1, percent=10)
    allowed = []
    for _ in range(30):
        after(hedging, hedge)
        allowed.append(hedging.take("fast"))
    assert [at for at, each in enumerate(allowed, 1) if each] == [10, 20, 30]
    for _ in range(10_000):
        after(hedging, hedge)
    assert [hedging.take("fast") for _ in range(MOST_SAVED + 1)] == [True] * MOST_SAVED + [False]


def test_an_alias_spends_nobody_elses() -> None:
    hedging = Hedging()
    after(hedging, Hedge(after_s=0.1, percent=100))
    assert not hedging.take("smart")
    assert hedging.take("fast")


def test_what_was_not_sent_is_given_back() -> None:
    hedging = Hedging()
    after(hedging, Hedge(after_s=0.1, percent=100))
    assert hedging.take("fast")
    assert not hedging.take("fast")
    hedging.give_back("fast")
    assert hedging.take("fast")
    assert not hedging.take("fast")


def test_one_that_was_given_up_is_one_of_the_slow_ones() -> None:
    """A tail that is always given up would sink the percentile with every one, if it did not count."""
    hedging = Hedging()
    takes(hedging, [0.1 * each for each in range(1, 101)])
    before = after(hedging)
    assert before is not None
    for _ in range(200):
        takes(hedging, [0.5] * 19)
        hedging.given_up(ONE, before + 0.2, streamed=True)
    now = after(hedging, Hedge(percentile=0.96))
    assert now is not None
    assert math.isclose(now, before + 0.2)


def test_a_deployment_that_fell_silent_is_found_out_though_its_every_call_has_a_second() -> None:
    hedging, circuits = Hedging(), Circuits(lambda: 1000.0)
    silent = 0
    while not circuits.open(ONE):
        if hedging.given_up(ONE, 2.0, streamed=True):
            silent += 1
            circuits.failed(ONE, Fault("silent"), 2.0)
        assert silent <= 5
    assert silent == 5


def test_slow_calls_that_are_given_up_between_others_are_no_silence() -> None:
    hedging = Hedging()
    for _ in range(20):
        assert [hedging.given_up(ONE, 2.0, streamed=True) for _ in range(SILENT_AFTER)] == [False] * SILENT_AFTER
        takes(hedging, [0.5])
