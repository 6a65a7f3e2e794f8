"""Specifies how JSON is read that escapes half a surrogate pair, which Python's own parser takes and orjson does not."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.dialects.openai_chat import OpenAIChat
from llm_gateway.schemas.json_text import parse_json
from llm_gateway.schemas.openai_chat import read_chat_request

REQUEST = read_chat_request(b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
texts = st.text(st.characters(codec="utf-16", categories=["Lu", "So", "Cs"]) | st.sampled_from('\\"u\n\ud83d\ude00'))


def repaired(text: str) -> str:
    """Pairs joined, halves replaced, as any JSON parser and then any encoder would."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@given(st.lists(texts) | st.dictionaries(texts, texts))
def test_whatever_is_escaped_is_read(value: Any) -> None:
    read = parse_json(json.dumps(value).encode())
    if isinstance(value, list):
        assert [repaired(text) for text in value] == read
    else:
        assert {repaired(name): repaired(text) for name, text in value.items()} == read


@pytest.mark.parametrize("text", [rb'"\\ud83d"', rb'"\ud83d\ude00"', rb'"\\\\ud83d\u0041"'])
def test_what_is_no_half_stays(text: bytes) -> None:
    assert parse_json(text) == orjson.loads(text)
    assert parse_json(text[:-1] + rb'\ud83d"') == orjson.loads(text) + "\ufffd"


@pytest.mark.parametrize("text", [b"", b"{oops}", rb'{"a": "\ud83d"', rb'"\ud83d" NaN', b'"\\ud83d \xff"', b"NaN"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        parse_json(text)


def test_an_answer_with_half_an_emoji_is_one() -> None:
    message = rb'{"role":"assistant","content":"hi \ud83d"}'
    usage = b'{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}'
    body = b'{"model":"m","choices":[{"index":0,"message":%s,"finish_reason":"stop"}],"usage":%s}' % (message, usage)
    answer = OpenAIChat().decode("chat.completions", REQUEST, "m", body)
    assert answer.body == body
    assert answer.text() == "hi \ufffd"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 4)
