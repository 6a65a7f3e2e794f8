"""Specifies what follows a failed attempt: the same deployment, the next one, or the end; and how long is waited."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.routing.faults import Fault, FaultKind
from llm_gateway.routing.retries import Decision, decide

KINDS = get_args(FaultKind)


def decided(kind: FaultKind, retry_after: float | None = None, **over: Any) -> Decision:
    given = {"tries_here": 1, "retries": None, "others_left": True, "left_s": 60.0, "random": lambda: 0.5, **over}
    return decide(Fault(kind, retry_after), **given)


@pytest.mark.parametrize(("others_left", "most"), [(True, 2), (False, 3)])
def test_a_passing_fault_is_tried_again_a_few_times_and_then_elsewhere(*, others_left: bool, most: int) -> None:
    kinds = [decided("passing", tries_here=tries, others_left=others_left).kind for tries in range(1, most + 1)]
    assert kinds == ["again"] * (most - 1) + ["next" if others_left else "stop"]


@pytest.mark.parametrize("retries", range(6))
def test_an_operator_says_how_often(retries: int) -> None:
    kinds = [decided("passing", tries_here=tries, retries=retries).kind for tries in range(1, retries + 2)]
    assert kinds == ["again"] * retries + ["next"]


@pytest.mark.parametrize(
    ("tries_here", "random", "expected"),
    [(1, 0.5, 0.25), (1, 0.0, 0.05), (2, 0.5, 0.5), (3, 0.5, 1.0), (3, 0.0, 1.0), (4, 0.5, 2.0), (5, 0.75, 6.0)],
)
def test_the_wait_is_full_jitter_of_a_doubling_time(tries_here: int, random: float, expected: float) -> None:
    found = decided("passing", tries_here=tries_here, retries=5, random=lambda: random)
    assert found == Decision("again", expected)


@pytest.mark.parametrize(
    ("kind", "retry_after", "others_left", "expected"),
    [
        # What the provider asks for is the least, the jitter comes on top.
        ("passing", 1.5, True, Decision("again", 1.75)),
        ("passing", 2.5, True, Decision("next")),
        ("passing", 2.0, False, Decision("again", 2.25)),
        ("passing", 2.5, False, Decision("stop")),
        ("limited", 1.5, True, Decision("again", 1.75)),
        ("limited", 0.0, True, Decision("again", 0.25)),
        ("limited", 2.5, True, Decision("next")),
        ("limited", None, True, Decision("next")),
        ("limited", None, False, Decision("again", 0.25)),
        ("limited", 2.0, False, Decision("again", 2.25)),
        ("limited", 20.0, False, Decision("stop")),
    ],
)
def test_a_hint_is_obeyed_or_led_round(
    kind: FaultKind, retry_after: float | None, *, others_left: bool, expected: Decision
) -> None:
    assert decided(kind, retry_after, others_left=others_left) == expected


def test_a_rate_limit_with_a_short_hint_is_tried_once_more_where_others_are_left() -> None:
    assert decided("limited", 1.0, tries_here=2, retries=5) == Decision("next")
    assert decided("limited", 1.0, tries_here=2, others_left=False).kind == "again"
    assert decided("limited", 1.0, retries=0) == Decision("next")


@pytest.mark.parametrize("kind", ["silent", "denied", "context_length"])
@pytest.mark.parametrize("retry_after", [None, 0.1])
def test_what_would_be_the_same_again_goes_on_at_once(kind: FaultKind, retry_after: float | None) -> None:
    assert decided(kind, retry_after, retries=5) == Decision("next")
    assert decided(kind, retry_after, retries=5, others_left=False) == Decision("stop")


def test_a_context_that_is_too_long_takes_its_own_chain_where_there_is_one() -> None:
    assert decided("context_length", context_left=True) == Decision("next", chain="context")
    assert decided("context_length", context_left=True, others_left=False) == Decision("next", chain="context")
    assert decided("passing", context_left=True, others_left=False, retries=0) == Decision("stop")


def test_nothing_leads_round_a_refusal_of_the_content_policy_but_its_own_chain() -> None:
    assert decided("content_policy") == Decision("stop")
    assert decided("content_policy", context_left=True) == Decision("stop")
    assert decided("content_policy", content_left=True) == Decision("next", chain="content")


@pytest.mark.parametrize("kind", ["request", "gateway"])
def test_a_fault_of_the_request_or_our_own_ends_it(kind: FaultKind) -> None:
    assert decided(kind, 0.1, context_left=True, content_left=True) == Decision("stop")


def test_a_wait_that_does_not_fit_leads_on_or_to_the_end() -> None:
    assert decided("passing", 1.0, left_s=0.9) == Decision("next")
    assert decided("passing", 1.0, left_s=0.9, others_left=False) == Decision("stop")
    # The jitter shrinks rather than that the time is lost.
    assert decided("passing", left_s=0.4, random=lambda: 1.0) == Decision("again", 0.2)
    assert decided("passing", left_s=0.05) == Decision("next")


FAULTS = st.builds(Fault, st.sampled_from(KINDS), st.none() | st.floats(0, 4000))
NOW = {
    "tries_here": st.integers(1, 12),
    "retries": st.none() | st.integers(0, 5),
    "others_left": st.booleans(),
    "left_s": st.floats(-5, 900),
    "random": st.floats(0, 1, exclude_max=True).map(lambda number: lambda: number),
    "context_left": st.booleans(),
    "content_left": st.booleans(),
}


@given(FAULTS, st.fixed_dictionaries(NOW))
def test_what_is_decided_always_fits_into_the_time_and_obeys_the_provider(fault: Fault, now: dict[str, Any]) -> None:
    found = decide(fault, **now)
    if now["left_s"] <= 0:
        assert found.kind == "stop"
    if found.kind == "again":
        assert max(0.05, fault.retry_after or 0.0) <= found.wait_s < now["left_s"]
        assert found.wait_s <= 38
        assert fault.kind in {"passing", "limited"}
        assert now["tries_here"] <= (2 if now["retries"] is None else now["retries"])
    else:
        assert found.wait_s == 0
    if found.kind == "next":
        assert {"general": now["others_left"], "context": now["context_left"], "content": now["content_left"]}[
            found.chain
        ]


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=5, max_size=5))
def test_no_deployment_is_called_more_than_three_times_within_a_second(randoms: list[float]) -> None:
    waits = [
        decided("passing", tries_here=tries, retries=5, random=lambda number=number: number).wait_s
        for tries, number in enumerate(randoms, 1)
    ]
    assert all(sum(waits[at : at + 3]) >= 1 for at in range(3))
