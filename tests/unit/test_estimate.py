"""Specifies token estimates: near a real tokenizer on real text, never falling as text grows, quick, never raising."""

import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_gateway.metering.estimate import (
    IMAGE_TOKENS,
    LOW_DETAIL_IMAGE_TOKENS,
    MESSAGE_TOKENS,
    estimate_request_tokens,
    estimate_tokens,
)

ENGLISH = (
    "The quick brown fox jumps over the lazy dog. She had been thinking about the problem for several weeks, and "
    "although no obvious solution presented itself, there was something in the way the numbers lined up that made her "
    'suspect an underlying structure. "We should measure it first," he said, "before we decide which of the two is '
    'slower."\n'
)

# Counted with OpenAI's o200k_base.
COUNTED = [
    ("english", ENGLISH, 68),
    ("chinese", "人工智能是计算机科学的一个分支,它企图了解智能的实质,并生产出一种新的能做出反应的智能机器。", 34),
    ("japanese", "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", 32),
    ("korean", "한국어는 대한민국의 공용어이다. 오늘은 날씨가 좋아서 친구들과 함께 공원에 갔습니다.", 27),
    ("russian", "Искусственный интеллект сегодня применяется в самых разных областях, от медицины до торговли.", 20),
    ("hindi", "भारत एक विशाल देश है जहाँ अनेक भाषाएँ बोली जाती हैं। यहाँ की संस्कृति बहुत पुरानी है।", 22),
    ("sql", "SELECT NAME, ADDRESS FROM CUSTOMERS WHERE COUNTRY = 'DE' ORDER BY CREATED_AT DESC LIMIT 100;\n" * 5, 110),
    ("python",
     "def total(items: list[int]) -> int:\n    sum = 0\n    for item in items:\n        sum += item\n    return sum",
     30),
    ("json", '[{"id": 0, "name": "user 0", "tags": ["a", "b"], "score": 0.0, "active": true}, {"id": 1}]', 43),
    ("digits", "884392716 120398471 998123749 551209834 771230984", 19),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "counted"), [(text, counted) for _, text, counted in COUNTED], ids=[c[0] for c in COUNTED]
)
def test_estimates_are_near_a_real_tokenizers_count(text: str, counted: int) -> None:
    assert 0.65 <= estimate_tokens(text) / counted <= 1.4


def test_nothing_is_nothing_and_something_is_something() -> None:
    assert estimate_tokens("") == 0
    assert {estimate_tokens(text) for text in (" ", "a", ".", "猫", "\n", "\x00", "\ud800")} == {1}
    assert {estimate_tokens(text) for text in ("é", "🚀")} == {2}


@given(st.text(), st.text())
def test_more_text_never_counts_less(text: str, more: str) -> None:
    whole = estimate_tokens(text + more)
    assert whole >= estimate_tokens(text)
    assert whole >= estimate_tokens(more)
    assert whole <= estimate_tokens(text) + estimate_tokens(more)


@given(st.text(min_size=1))
def test_never_none_for_some_text_and_never_more_than_its_bytes(text: str) -> None:
    assert 1 <= estimate_tokens(text) <= 1 + 2 * len(text.encode("utf-8", "surrogatepass"))


def test_a_megabyte_takes_milliseconds() -> None:
    text = ENGLISH * 3000
    began = time.process_time()
    assert estimate_tokens(text) > 100_000
    assert time.process_time() - began < 0.1  # measured: 2 ms


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), **more}


USER = {"role": "user", "content": "hello there"}
TEXT = estimate_tokens("user" + "hello there")


@pytest.mark.parametrize(
    ("request_body", "expected"),
    [
        ({}, 0),
        (chat(), MESSAGE_TOKENS),
        (chat(USER), 2 * MESSAGE_TOKENS + TEXT),
        (chat({"role": "user", "content": None, "name": None}), 2 * MESSAGE_TOKENS + 1),
        (chat({"role": "user", "content": [{"type": "text", "text": "hello there"}]}), 2 * MESSAGE_TOKENS + TEXT),
        (chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:" + "A" * 90_000}}]}),
         2 * MESSAGE_TOKENS + 1 + IMAGE_TOKENS),
        (chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x", "detail": "low"}}]}),
         2 * MESSAGE_TOKENS + 1 + LOW_DETAIL_IMAGE_TOKENS),
        (chat({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A" * 210_000}}]}),
         2 * MESSAGE_TOKENS + 1 + 106),
        ({"input": "hello there"}, estimate_tokens("hello there")),
        ({"input": ["hello ", "there"]}, estimate_tokens("hello there")),
        ({"input": [1, 2, 3]}, 3),
        ({"input": [[1, 2, 3], [4]]}, 4),
        ({"prompt": "hello there"}, estimate_tokens("hello there")),
        ({"prompt": None}, 1),
    ],
)  # fmt: skip
def test_what_a_request_counts(request_body: dict[str, Any], expected: int) -> None:
    assert estimate_request_tokens(request_body) == expected


def test_tools_calls_and_schemas_count() -> None:
    plain = estimate_request_tokens(chat(USER))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    assert estimate_request_tokens(chat(USER, tools=[tool])) > plain + 10
    assert (
        estimate_request_tokens(chat(USER, response_format={"type": "json_schema", "json_schema": {"a": 1}}))
        > plain + 5
    )
    assistant = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert estimate_request_tokens(chat(USER, assistant)) > plain + 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "image_url", "function", "tool_calls"]), inner
        )
    ),
    max_leaves=12,
)


@example({"messages": [{"content": [{"type": []}]}]})
@example({"messages": [{"content": [{"type": {}}, {"type": "file", "file": {"file_data": None}}]}]})
@given(st.dictionaries(st.sampled_from(["messages", "input", "prompt", "tools", "response_format", "model"]), JSON))
@settings(max_examples=300)
def test_no_body_makes_it_raise(body: dict[str, Any]) -> None:
    assert estimate_request_tokens(body) >= 0


def test_deep_nesting_is_counted_and_not_recursed_into() -> None:
    nested: Any = "hello there"
    for _ in range(1000):
        nested = [nested]
    assert estimate_request_tokens({"input": nested}) == estimate_tokens("hello there")


@given(st.lists(JSON, max_size=4), JSON)
def test_another_message_never_counts_less(messages: list[Any], more: Any) -> None:
    assert estimate_request_tokens(chat(*messages, more)) >= estimate_request_tokens(chat(*messages))
