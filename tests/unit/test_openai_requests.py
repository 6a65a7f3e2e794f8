"""What the gateway checks of a request, and the `param` it blames; everything else passes unread."""

import orjson
import pytest

from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import read_chat_request, read_embeddings_request

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"", None, "invalid_json"),
        (b"{", None, "invalid_json"),
        (b"[]", None, "invalid_json"),
        (b'"text"', None, "invalid_json"),
        (b"\xff\xfe{}", None, "invalid_json"),
        (b'{"messages":"\xc3\x28"}', None, "invalid_json"),
        (b'{"messages":[{"role":"user"}],"temperature":NaN}', None, "invalid_json"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", None, "invalid_json"),
        (orjson.dumps({"model": "x"}), "messages", None),
        (orjson.dumps({"messages": []}), "messages", None),
        (orjson.dumps({"messages": "hi"}), "messages", None),
        (orjson.dumps({"messages": ["hi"]}), "messages[0]", None),
        (orjson.dumps({"messages": [*MESSAGES, {"content": "x"}]}), "messages[1].role", None),
        (orjson.dumps({"messages": MESSAGES, "model": 7}), "model", None),
        (orjson.dumps({"messages": MESSAGES, "model": " "}), "model", None),
        (orjson.dumps({"messages": MESSAGES, "stream": "yes"}), "stream", None),
        (orjson.dumps({"messages": MESSAGES, "stream": 1}), "stream", None),
        (orjson.dumps({"messages": MESSAGES, "stream_options": {"include_usage": True}}), "stream_options", None),
        (orjson.dumps({"messages": MESSAGES, "stream": True, "stream_options": []}), "stream_options", None),
        (
            orjson.dumps({"messages": MESSAGES, "stream": True, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
            None,
        ),
        (orjson.dumps({"messages": MESSAGES, "temperature": "hot"}), "temperature", None),
        (orjson.dumps({"messages": MESSAGES, "temperature": True}), "temperature", None),
        (orjson.dumps({"messages": MESSAGES, "max_tokens": 1.5}), "max_tokens", None),
        (orjson.dumps({"messages": MESSAGES, "max_tokens": -1}), "max_tokens", None),
        (orjson.dumps({"messages": MESSAGES, "n": 0}), "n", None),
        (orjson.dumps({"messages": MESSAGES, "n": 129}), "n", None),
        (orjson.dumps({"messages": MESSAGES, "tools": {}}), "tools", None),
        (orjson.dumps({"messages": MESSAGES, "user": 5}), "user", None),
    ],
)
def test_a_bad_chat_request_names_what_is_wrong(body: bytes, param: str | None, code: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_chat_request(body)
    assert (caught.value.http_status, caught.value.param, caught.value.error_code) == (400, param, code)


def test_nulls_of_a_client_and_unknown_members_are_accepted() -> None:
    nulls = dict.fromkeys(("model", "stream", "stream_options", "temperature", "n", "max_tokens", "tools", "user"))
    request = read_chat_request(orjson.dumps({**nulls, "messages": MESSAGES, "from_the_future": {"x": [1]}}))
    assert (request.model, request.stream, request.include_usage) == (None, False, False)
    assert request.fields["from_the_future"] == {"x": [1]}


@pytest.mark.parametrize("given", [None, "", [], {}, 5])
def test_embeddings_need_an_input(given: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_embeddings_request(orjson.dumps({"model": "m", "input": given}))
    assert caught.value.param == "input"


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2], [[1], [2]]])
def test_embeddings_take_text_and_tokens(given: object) -> None:
    assert read_embeddings_request(orjson.dumps({"model": "m", "input": given})).model == "m"


@pytest.mark.parametrize("given", [0, -1, 1.5, "256", True])
def test_dimensions_are_a_positive_integer(given: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_embeddings_request(orjson.dumps({"input": "a", "dimensions": given}))
    assert caught.value.param == "dimensions"
    assert read_embeddings_request(b'{"input":"a","dimensions":null}').fields["dimensions"] is None
