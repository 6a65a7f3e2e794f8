"""Specifies what is read of a caller's headers: tags by `x-gateway-tag-<name>`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.api.headers import CallerHeaders
from llm_gateway.errors import InvalidRequest

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=64)
VALUES = st.text(min_size=1, max_size=256).filter(str.isprintable)


@given(st.dictionaries(NAMES, VALUES, max_size=16))
def test_tags_are_the_headers_by_what_follows_the_prefix(tags: dict[str, str]) -> None:
    headers = [(f"x-gateway-tag-{name}".encode(), value.encode()) for name, value in tags.items()]
    assert CallerHeaders([(b"authorization", b"Bearer x"), (b"x-gateway-body", b"off"), *headers]).tags() == tags


@pytest.mark.parametrize("name", [b"", b"a.b", b"a b", "ä".encode(), b"a" * 65, b"a\n", b"A"])
def test_a_name_that_cannot_be_one(name: bytes) -> None:
    with pytest.raises(InvalidRequest, match="A tag's name must be") as caught:
        CallerHeaders([(b"x-gateway-tag-" + name, b"x")]).tags()
    assert caught.value.param == (b"x-gateway-tag-" + name).decode("latin-1")


@pytest.mark.parametrize("value", [b"", b"a" * 257, b"a\tb", b"\xff", "a\u200bb".encode(), b"\x7f"])
def test_a_value_that_cannot_be_one(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="A tag's value must be") as caught:
        CallerHeaders([(b"x-gateway-tag-a", value)]).tags()
    assert caught.value.param == "x-gateway-tag-a"


def test_sixteen_and_no_more() -> None:
    headers = [(f"x-gateway-tag-{number}".encode(), b"x") for number in range(17)]
    assert len(CallerHeaders(headers[:16]).tags()) == 16
    with pytest.raises(InvalidRequest, match=r"16 tags .*, not 17"):
        CallerHeaders(headers).tags()
