"""Specifies `models` of a request: the names to try after `model`, which no provider is sent."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request, read_embeddings_request

Reader = Callable[[bytes], ModelRequest]
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
EMBEDDINGS = {"input": "hi"}
READERS = pytest.mark.parametrize(("read", "body"), [(read_chat_request, CHAT), (read_embeddings_request, EMBEDDINGS)])


@READERS
@pytest.mark.parametrize(
    ("given", "model", "models"),
    [
        ({"model": "a", "models": ["b", "c"]}, "a", ("b", "c")),
        ({"models": ["b", "c"]}, "b", ("c",)),
        ({"model": None, "models": ["b"]}, "b", ()),
        ({"model": "a", "models": ["a", "b", "a", "b"]}, "a", ("b",)),
        ({"model": "a", "models": []}, "a", ()),
        ({"model": "a", "models": None}, "a", ()),
        ({"models": []}, None, ()),
        ({"model": "a"}, "a", ()),
        ({"model": "a", "models": list("bcdefghi")}, "a", tuple("bcdefghi")),
    ],
)
def test_the_names_to_try(
    read: Reader, body: dict[str, Any], given: dict[str, Any], model: str | None, models: tuple[str, ...]
) -> None:
    request = read(orjson.dumps({**body, **given}))
    assert (request.model, request.models) == (model, models)
    assert "models" not in request.fields
    assert "models" not in orjson.loads(request.body)


@READERS
@pytest.mark.parametrize(
    ("models", "param"),
    [
        ("b", "models"),
        ({"0": "b"}, "models"),
        (list("bcdefghij"), "models"),
        (["b", 7], "models[1]"),
        ([None], "models[0]"),
        (["b", ""], "models[1]"),
        (["b\n"], "models[0]"),
        (["b" * 513], "models[0]"),
    ],
)
def test_what_is_no_list_of_names_is_refused(read: Reader, body: dict[str, Any], models: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(orjson.dumps({**body, "model": "a", "models": models}))
    assert (caught.value.http_status, caught.value.param) == (400, param)


def test_the_other_members_stay_as_they_were_written() -> None:
    body = b'{"big": 12345678901234567890123, "models":["b"],\n"float":1.0e5 ,"models" : ["c"],"messages":[{"role":"user"}]}'
    request = read_chat_request(body)
    assert (request.model, request.models) == ("c", ())
    assert request.body == b'{"big": 12345678901234567890123,"float":1.0e5,"messages":[{"role":"user"}]}'


def test_a_body_without_the_member_is_not_touched() -> None:
    body = b'{ "messages" : [ {"role": "user", "content": "models"} ] , "model":"a" }'
    assert read_chat_request(body).body is body


@given(
    st.dictionaries(
        st.sampled_from(["a", "mod\\els", "models ", "x"]), st.none() | st.integers(-(2**63), 2**63) | st.text()
    ),
    st.lists(st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=9), max_size=8),
)
def test_nothing_else_is_lost(members: dict[str, Any], models: list[str]) -> None:
    request = read_chat_request(orjson.dumps({**CHAT, **members, "models": models, "model": "first"}))
    assert orjson.loads(request.body) == {**CHAT, **members, "model": "first"} == request.fields
    assert request.models == tuple(dict.fromkeys(name for name in models if name != "first"))
