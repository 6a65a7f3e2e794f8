"""Page tokens come back as they were made, for their question and key alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.page_tokens import PageTokens

TOKENS = PageTokens("hash-of-a-key")
QUESTION = ["totals", ["2026-11-01", "2026-11-30"], ["team"]]
_json = st.recursive(st.none() | st.text(max_size=30) | st.integers(), lambda inner: st.lists(inner, max_size=4))


@given(position=_json, question=_json)
def test_what_is_sealed_opens(position: object, question: object) -> None:
    token = TOKENS.seal(question, position)
    assert TOKENS.open(question, token) == position
    assert token.isascii()
    assert all(character.isalnum() or character in "-_" for character in token)


@given(data=st.data())
def test_any_change_is_seen(data: st.DataObject) -> None:
    token = TOKENS.seal(QUESTION, ["2026-11-21", ["search", None]])
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_=. é\n").filter(lambda each: each != token[place]))
    with pytest.raises(InvalidRequest) as refused:
        TOKENS.open(QUESTION, token[:place] + other + token[place + 1 :])
    assert (refused.value.http_status, refused.value.param) == (400, "next")


@pytest.mark.parametrize("token", ["", "x", "null", "AAAA", "A" * 22, "A" * 100_000, "=", "é", "eyJhIjoxfQ=="])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(InvalidRequest):
        TOKENS.open(QUESTION, token)


def test_it_is_bound_to_the_question_and_the_key() -> None:
    token = TOKENS.seal(QUESTION, ["", []])
    with pytest.raises(InvalidRequest):
        TOKENS.open([*QUESTION, "more"], token)
    with pytest.raises(InvalidRequest):
        PageTokens("hash-of-another").open(QUESTION, token)
