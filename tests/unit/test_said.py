"""Specifies what a translator says has gone out, for every wire: what another model goes on from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import UpstreamCut
from tests.unit.stream_wires import NAMES, OPENAI, WIRES, Wire, chunks_of, content_of, sse

every_wire = pytest.mark.parametrize("wire", WIRES, ids=NAMES)
texts = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), min_size=1, max_size=8)


@every_wire
@given(said=texts, together=st.booleans())
def test_the_text_is_what_the_caller_has(wire: Wire, said: list[str], together: bool) -> None:
    translator = wire.translator()
    events = [*wire.start, *map(wire.text, said)]
    out = b"".join(map(translator.feed, [b"".join(events)] if together else events))
    found = translator.said()
    assert found.content == content_of(out) == "".join(said)
    assert found.plain
    first = chunks_of(out)[0]
    assert found.opening == {name: first[name] for name in ("id", "created", "model")}


@every_wire
def test_before_anything_there_is_nothing(wire: Wire) -> None:
    assert wire.translator().said().content == ""


@every_wire
def test_a_tool_call_is_not_plain(wire: Wire) -> None:
    translator = wire.translator()
    for event in [*wire.start, wire.text("a"), wire.call]:
        translator.feed(event)
    assert translator.said().content == "a"
    assert not translator.said().plain


@every_wire
def test_a_last_event_that_never_went_out_was_not_said(wire: Wire) -> None:
    translator = wire.translator()
    for event in [*wire.start, wire.text("a")]:
        translator.feed(event)
    with pytest.raises(UpstreamCut):
        translator.finish(wire.text("b")[:-2])
    assert translator.said().content == "a"


@pytest.mark.parametrize(
    "delta",
    [
        {"refusal": "no"},
        {"audio": {"data": "x"}},
        {"images": [{"image_url": {"url": "x"}}]},
        {"content": [{"type": "thinking", "thinking": "x"}]},
        {"from_the_future": 1},
        {"function_call": {"name": "f"}},
    ],
)
def test_what_is_not_text_is_not_plain(delta: dict[str, object]) -> None:
    translator = OPENAI.translator()
    for event in [*OPENAI.start, OPENAI.text("a"), sse({"choices": [{"index": 0, "delta": delta}]})]:
        translator.feed(event)
    assert not translator.said().plain


@pytest.mark.parametrize("delta", [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"annotations": [{"a": 1}]}, {}])
def test_what_another_model_need_not_know_is_plain(delta: dict[str, object]) -> None:
    translator = OPENAI.translator()
    for event in [*OPENAI.start, sse({"choices": [{"index": 0, "delta": delta}]}), OPENAI.text("a")]:
        translator.feed(event)
    assert translator.said().plain
    assert translator.said().content == "a"


def test_several_choices_are_not_plain() -> None:
    translator = OPENAI.translator()
    for event in [*OPENAI.start, OPENAI.text("a"), sse({"choices": [{"index": 1, "delta": {"content": "b"}}]})]:
        translator.feed(event)
    assert not translator.said().plain


def test_text_is_known_though_every_chunk_counts() -> None:
    """Perplexity and xAI send usage with each chunk."""
    translator = OPENAI.translator()
    for word in ("a", "b"):
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        translator.feed(sse({"id": "i", "choices": [{"index": 0, "delta": {"content": word}}], "usage": usage}))
    assert translator.said().content == "ab"
