"""Specifies which of several keys is taken: by weight, and none that is resting while another is free."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.pipeline.key_ring import KeyRing
from llm_gateway.pipeline.provider_keys import ProviderKey
from tests.fakes.manual_clock import ManualClock


def keys(*weights: int) -> list[ProviderKey]:
    return [ProviderKey(f"sk-{place}", "system", f"k{place}", weight) for place, weight in enumerate(weights)]


def ring(seed: int = 7, clock: ManualClock | None = None) -> KeyRing:
    return KeyRing(Random(seed).random, clock or ManualClock())  # noqa: S311 - no secret is made of it


WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=8)


@given(WEIGHTS, st.integers())
def test_weights_are_shares_of_the_calls(weights: list[int], seed: int) -> None:
    """Without chance: draws spread evenly over [0, 1) hit each key as often as its weight says."""
    total = sum(weights)
    draws = iter([(step + 0.5) / total for step in range(total)])
    even = KeyRing(lambda: next(draws), ManualClock())
    had = keys(*weights)
    taken = Counter(even.first(had, "corp", "m").name for _ in range(total) if len(had) > 1)
    if len(had) > 1:
        assert [taken[key.name] for key in had] == weights


def test_and_so_they_are_with_chance() -> None:
    chosen, had = ring(), keys(3, 1)
    taken = Counter(chosen.first(had, "corp", "m").name for _ in range(8000))
    assert 0.73 < taken["k0"] / 8000 < 0.77


@given(st.data(), WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_none_that_rests_is_taken_while_another_is_free(data: st.DataObject, weights: list[int], draw: float) -> None:
    clock = ManualClock()
    had = keys(*weights)
    chosen = KeyRing(lambda: draw, clock)
    rests = data.draw(st.lists(st.sampled_from([0.0, 1.0, 30.0]), min_size=len(had), max_size=len(had)))
    for key, seconds in zip(had, rests, strict=True):
        chosen.rest(key, "corp", data.draw(st.sampled_from(["m", None])), seconds)
    clock.now += data.draw(st.sampled_from([0.0, 0.5, 1.0, 29.0]))
    free = {key.name for key, seconds in zip(had, rests, strict=True) if 1000.0 + seconds <= clock.now}
    first = chosen.first(had, "corp", "m")
    assert first in had
    if free:
        assert first.name in free
        assert chosen.free_in(had, "corp", "m") == 0
    else:
        left = {key.name: seconds for key, seconds in zip(had, rests, strict=True)}
        assert left[first.name] == min(rests)
        assert chosen.next(had, "corp", "m", ()) is None
        assert chosen.free_in(had, "corp", "m") == 1000.0 + min(rests) - clock.now


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_a_call_has_each_key_once(weights: list[int], draw: float) -> None:
    chosen, had, tried = KeyRing(lambda: draw, ManualClock()), keys(*weights), list[str]()
    while (key := chosen.next(had, "corp", "m", tried)) is not None:
        tried.append(key.text)
    assert sorted(tried) == sorted(key.text for key in had)


def test_a_rest_ends_and_is_for_one_model_at_one_provider() -> None:
    clock = ManualClock()
    chosen, (one, other) = ring(clock=clock), keys(1, 1)
    chosen.rest(one, "corp", "large", 20)
    chosen.rest(other, "azure", "small", 20)
    taken = {name: {chosen.first([one, other], "corp", name).name for _ in range(50)} for name in ("large", "small")}
    assert taken == {"large": {"k1"}, "small": {"k0", "k1"}}
    clock.now += 20
    assert {chosen.first([one, other], "corp", "large").name for _ in range(50)} == {"k0", "k1"}


def test_a_refused_key_rests_for_every_model() -> None:
    chosen, (one, other) = ring(), keys(1000, 1)
    chosen.rest(one, "corp", None, 300)
    assert {chosen.first([one, other], "corp", model).name for model in "abcdefgh"} == {"k1"}


def test_a_lone_key_is_called_however_it_fared() -> None:
    chosen, (one,) = ring(), keys(1)
    chosen.rest(one, "corp", "m", 3600)
    assert chosen.first([one], "corp", "m") is one


def test_what_is_remembered_is_bounded_and_shows_no_key() -> None:
    clock = ManualClock()
    chosen, had = ring(clock=clock), keys(1, 1)
    for number in range(3000):
        chosen.rest(had[0], "corp", f"model-{number}", 30)
    assert len(chosen._resting) <= 1000
    assert "sk-0" not in repr(chosen._resting)
    assert chosen.first(had, "corp", "model-2999") is had[1]
