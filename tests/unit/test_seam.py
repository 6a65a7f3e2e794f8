"""Specifies where one model's text goes over into another's, however it comes in pieces."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_gateway.dialects.seam import Seam
from llm_gateway.errors import UpstreamMalformed

LONG = "The gateway forwards every chunk as it came, and counts what it costs."


def rest_of(said: str, pieces: list[str], *, echoes: bool = False) -> str:
    """What of a continuation in these pieces reaches the caller."""
    seam, begun = Seam(said, echoes=echoes), ""
    for at, piece in enumerate(pieces):
        begun += piece
        cut = seam.cut(begun, ended=at == len(pieces) - 1)
        if cut is not None:
            return begun[cut:] + "".join(pieces[at + 1 :])
    raise AssertionError("an ended text is always told")


texts = st.text("ab \n", max_size=10)


@given(st.text("abc \n", max_size=30), st.integers(0, 30), st.lists(st.integers(0, 30), max_size=4), st.booleans())
@example("word \n next", 6, [7], False)
def test_a_text_that_is_cut_anywhere_is_joined_as_it_was(whole: str, at: int, edges: list[int], echoes: bool) -> None:
    """The second model gets what was said without the white space at its end, and writes exactly what is missing."""
    said = whole[:at]
    sent = said.rstrip()
    new = (sent if echoes else "") + whole[len(sent) :]
    cuts = [0, *sorted(edge for edge in edges if edge < len(new)), len(new)]
    pieces = [new[start:end] for start, end in pairwise(cuts)]
    try:
        joined = said + rest_of(said, pieces, echoes=echoes)
    except UpstreamMalformed:
        assert not echoes  # a text that repeats itself for so long cannot be told from one begun anew
        assert new.lstrip().startswith(said.strip()[:12])
    else:
        if not (echoes and not sent.strip()):
            assert joined.startswith(said)
            assert joined == whole


@pytest.mark.parametrize(
    ("said", "new", "joined"),
    [
        ("one ", " two", "one two"),
        ("one ", "two", "one two"),
        ("one\n", "\n\ntwo", "one\n\ntwo"),
        ("one\n\n", "\ntwo", "one\n\ntwo"),
        ("one", " two", "one two"),
        ("on", "e two", "one two"),
        (" ", " two", " two"),
    ],
)
def test_white_space_is_not_doubled(said: str, new: str, joined: str) -> None:
    assert said + rest_of(said, [new]) == joined
    assert said + rest_of(said, list(new)) == joined


@pytest.mark.parametrize("lead", ["", "\n\n"])
@pytest.mark.parametrize("said", [LONG, LONG[:30], LONG[:16]])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_an_answer_begun_anew_is_told_before_any_of_it_goes_out(lead: str, said: str, size: int) -> None:
    again = lead + LONG
    with pytest.raises(UpstreamMalformed):
        rest_of(said, [again[at : at + size] for at in range(0, len(again), size)])


def test_only_as_much_is_held_back_as_is_needed_to_tell() -> None:
    seam = Seam("The gateway for", echoes=False)
    assert seam.cut(" The", ended=False) is None
    assert seam.cut(" The gate", ended=False) is None
    assert seam.cut(" The gates", ended=False) == 0
    assert Seam("The gateway for", echoes=False).cut(" And", ended=False) == 0


@pytest.mark.parametrize("size", [1, 7, 200])
def test_a_model_may_speak_of_the_answer_before_it_begins_it_anew(size: int) -> None:
    again = "Sure, here is the whole answer once more: " + LONG
    with pytest.raises(UpstreamMalformed):
        rest_of(LONG[:40], [again[at : at + size] for at in range(0, len(again), size)])


def test_two_characters_tell_where_they_come_again_at_once() -> None:
    with pytest.raises(UpstreamMalformed):
        rest_of("w0", ["w0", " w1"])
    assert rest_of("w0", [" w0", " w1"]) == " w0 w1"


def test_few_words_that_come_again_are_no_sign() -> None:
    assert rest_of("ha ha ", ["ha ha"]) == "ha ha"


def test_a_short_end_that_looks_like_the_beginning_is_an_end() -> None:
    assert rest_of(LONG, [" The gateway"]) == " The gateway"


@pytest.mark.parametrize("size", [1, 7, 200])
@pytest.mark.parametrize("said", ["I", "Hello ", LONG[:40]])
def test_an_echo_is_cut_off(said: str, size: int) -> None:
    new = said.rstrip() + " and more"
    pieces = [new[at : at + size] for at in range(0, len(new), size)]
    assert said + rest_of(said, pieces, echoes=True) == said.rstrip() + " and more"


def test_a_model_that_was_to_echo_and_does_not_is_taken_as_it_is() -> None:
    assert rest_of("Hello", [" world"], echoes=True) == " world"
