"""Page tokens come back as they were made, for their question and key alone."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.page_tokens import PageTokens, read_moment

TOKENS = PageTokens("hash-of-a-key")
QUESTION = ["totals", ["2026-11-01", "2026-11-30"], ["team"]]


def as_it_is(position: object) -> object:
    return position


_json = st.recursive(st.none() | st.text(max_size=30) | st.integers(), lambda inner: st.lists(inner, max_size=4))


@given(position=_json, question=_json)
def test_what_is_sealed_opens(position: object, question: object) -> None:
    token = TOKENS.seal(question, position)
    assert TOKENS.open(question, token, as_it_is) == position
    assert token.isascii()
    assert all(character.isalnum() or character in "-_" for character in token)


@given(data=st.data())
def test_any_change_is_seen(data: st.DataObject) -> None:
    token = TOKENS.seal(QUESTION, ["2026-11-21", ["search", None]])
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_=. é\n").filter(lambda each: each != token[place]))
    with pytest.raises(InvalidRequest) as refused:
        TOKENS.open(QUESTION, token[:place] + other + token[place + 1 :], as_it_is)
    assert (refused.value.http_status, refused.value.param) == (400, "next")


@pytest.mark.parametrize("token", ["", "x", "null", "AAAA", "A" * 22, "A" * 100_000, "=", "é", "eyJhIjoxfQ=="])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(InvalidRequest):
        TOKENS.open(QUESTION, token, as_it_is)


def test_it_is_bound_to_the_question_and_the_key() -> None:
    token = TOKENS.seal(QUESTION, ["", []])
    with pytest.raises(InvalidRequest):
        TOKENS.open([*QUESTION, "more"], token, as_it_is)
    with pytest.raises(InvalidRequest):
        PageTokens("hash-of-another").open(QUESTION, token, as_it_is)


@pytest.mark.parametrize(
    "position",
    [
        5, "a", None, {}, [], ["x"], [1], [1, "a", 2], [1e300, "x"], ["1", "x"], [-1, "x"], [10**15, "x"], [1, 2],
        [1, "x" * 129], [1, "a\n"], {"0": 1},
    ],
)  # fmt: skip
def test_a_place_that_a_keys_holder_made_up_is_refused(position: object) -> None:
    """The secret of a token is the key's hash, which its holder can compute."""
    with pytest.raises(InvalidRequest) as refused:
        TOKENS.open(QUESTION, TOKENS.seal(QUESTION, position), read_moment)
    assert (refused.value.http_status, refused.value.param) == (400, "next")


def test_a_moment() -> None:
    assert TOKENS.open(QUESTION, TOKENS.seal(QUESTION, [1_763_000_000_000, "id"]), read_moment) == (
        1_763_000_000_000,
        "id",
    )
    assert TOKENS.open(QUESTION, TOKENS.seal(QUESTION, [7, ""]), read_moment) == (7, "")


def test_what_is_nested_too_deep_is_no_position() -> None:
    payload = b"[" * 3000
    token = base64.urlsafe_b64encode(TOKENS._mac(QUESTION, payload) + payload).decode().rstrip("=")
    with pytest.raises(InvalidRequest):
        TOKENS.open(QUESTION, token, as_it_is)
