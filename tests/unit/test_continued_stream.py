"""Specifies that a stream which another model finishes looks to the caller like one that was never cut."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.continuation import Continued, Prefill
from llm_gateway.dialects.dialect import Said
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut, UpstreamMalformed
from llm_gateway.upstream.framing import split_events
from tests.unit.stream_wires import NAMES, OPENAI, WIRES, Wire, chunks_of, content_of, sse

BEFORE = Usage(input_tokens=10, output_tokens=4, cached_tokens=6, reasoning_tokens=2)
FIRST = Said("The first half of it, ", plain=True, opening={"id": "first-id", "created": 3, "model": "first"})
every_wire = pytest.mark.parametrize("wire", WIRES, ids=NAMES)


def continued(wire: Wire, said: Said = FIRST, *, echoes: bool = False, before: Usage = BEFORE) -> Continued:
    return Continued(wire.translator(), said, before, Prefill("plain", echoes), split_events)


def run(translator: Any, events: list[bytes]) -> bytes:
    return b"".join([*map(translator.feed, events), translator.finish(b"")])


@pytest.mark.parametrize("second", WIRES, ids=NAMES)
@every_wire
@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.sampled_from(["one", " two", "\n", " ", "drei", ", "]), min_size=2, max_size=10), data=st.data()
)
def test_cut_anywhere_and_gone_on_with_by_anyone_it_is_the_whole(
    wire: Wire, second: Wire, words: list[str], data: Any
) -> None:
    whole = "".join(words)
    at = data.draw(st.integers(1, len(words)))
    first = wire.translator()
    out = b"".join(map(first.feed, [*wire.start, *map(wire.text, words[:at])]))
    with pytest.raises(UpstreamCut):
        first.finish(b"")
    said = first.said()
    missing = whole[len(said.content.rstrip()) :]
    # What repeats itself cannot be told from an answer begun anew.
    assume(not (said.content.strip() and missing.lstrip().startswith(said.content.strip()[:12])))
    size = data.draw(st.integers(1, 6))
    pieces = [missing[start : start + size] for start in range(0, len(missing), size)]
    translator = continued(second, said)
    out += run(translator, second.stream(*pieces))
    assert content_of(out) == whole
    chunks = chunks_of(out)
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert sum("role" in choice["delta"] for chunk in chunks for choice in chunk["choices"]) == 1
    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]][-1] == "stop"
    assert out.endswith(b"data: [DONE]\n\n")
    assert translator.said().content == whole


@every_wire
def test_usage_counts_both_and_the_continuations_own_stays_readable(wire: Wire) -> None:
    translator = continued(wire)
    usage = chunks_of(run(translator, wire.stream("and the second")))[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (15, 7, 22)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 6
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 2
    assert translator.usage is not None
    assert (translator.usage.input_tokens, translator.usage.output_tokens) == (5, 3)
    assert translator.finish_reason == "stop"
    assert translator.whole
    assert "second" in translator.text()


@every_wire
def test_an_answer_begun_anew_fails_before_any_of_it_goes_out(wire: Wire) -> None:
    translator = continued(wire)
    for event in [*wire.start, *map(wire.text, ["The first", " half"])]:
        assert content_of(translator.feed(event)) == ""
        assert not translator.started
    with pytest.raises(UpstreamMalformed):
        translator.feed(wire.text(" of it, and the second"))
    assert translator.said() == FIRST


@every_wire
def test_nobody_has_started_until_text_is_out(wire: Wire) -> None:
    translator = continued(wire)
    for event in wire.start:
        assert translator.feed(event) == b""
    assert translator.feed(wire.text(" ")) == b""
    assert not translator.started
    assert content_of(translator.feed(wire.text("and on"))) == "and on"
    assert translator.started


@every_wire
def test_a_cut_continuation_can_be_continued(wire: Wire) -> None:
    translator = continued(wire)
    for event in [*wire.start, wire.text("and the "), wire.text("second")]:
        translator.feed(event)
    with pytest.raises(UpstreamCut):
        translator.finish(b"")
    assert translator.said() == Said("The first half of it, and the second", plain=True, opening=FIRST.opening)
    last = continued(wire, translator.said())
    out = run(last, wire.stream(" half."))
    assert content_of(out) == " half."
    assert {chunk["id"] for chunk in chunks_of(out)} == {"first-id"}


@every_wire
def test_what_is_held_back_when_it_is_cut_was_not_said(wire: Wire) -> None:
    translator = continued(wire)
    for event in [*wire.start, wire.text("The fir")]:
        assert translator.feed(event) == b""
    with pytest.raises(UpstreamCut):
        translator.finish(b"")
    assert translator.said() == FIRST


@every_wire
def test_a_tool_call_may_follow_and_ends_the_holding_back(wire: Wire) -> None:
    translator = continued(wire)
    out = b"".join(map(translator.feed, [*wire.start, wire.text("The "), wire.call]))
    assert content_of(out) == "The "
    assert b"tool_calls" in out
    assert not translator.said().plain


@every_wire
def test_an_echo_is_not_seen(wire: Wire) -> None:
    out = run(continued(wire, echoes=True), wire.stream("The first half", " of it, and", " on"))
    assert FIRST.content + content_of(out) == "The first half of it, and on"


@every_wire
def test_with_nothing_said_all_of_it_passes(wire: Wire) -> None:
    said = Said("", plain=True, opening=FIRST.opening)
    translator = Continued(wire.translator(), said, BEFORE, None, split_events)
    out = run(translator, wire.stream("All", " of it"))
    assert content_of(out) == "All of it"
    assert {chunk["id"] for chunk in chunks_of(out)} == {"first-id"}


def test_everything_else_in_a_chunk_stays_as_it_came() -> None:
    odd = b'data: {"id":"x","new":12345678901234567890123,"choices":[{"index":0,"delta":{"content":"yes","n":1.50},"finish_reason":null}],"created":9}\n\n'
    out = continued(OPENAI).feed(OPENAI.start[0] + odd)
    assert out == odd.replace(b'"id":"x"', b'"id":"first-id"').replace(b'"created":9', b'"created":3')


def test_a_chunk_that_holds_role_and_text_loses_the_role_alone() -> None:
    said = {"role": "assistant", "content": "yes", "new": None}
    out = continued(OPENAI).feed(sse({"id": "x", "choices": [{"index": 0, "delta": said, "finish_reason": None}]}))
    assert chunks_of(out)[0]["choices"][0]["delta"] == {"content": "yes", "new": None}


def test_reasoning_passes_while_the_text_is_awaited() -> None:
    translator = continued(OPENAI)
    out = translator.feed(OPENAI.start[0] + sse({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}))
    assert chunks_of(out)[0]["choices"][0]["delta"] == {"reasoning_content": "hm"}
    assert translator.said().plain


@pytest.mark.parametrize(("told", "cost"), [(Decimal("0.25"), 0.75), (None, None)])
def test_a_cost_is_told_where_it_is_known_of_both(told: Decimal | None, cost: float | None) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 0.5}
    events = [*OPENAI.start, OPENAI.text("x"), OPENAI.end[0], sse({"choices": [], "usage": usage})]
    out = run(continued(OPENAI, before=Usage(1, 1, told_cost_usd=told)), events)
    assert chunks_of(out)[-1]["usage"].get("cost") == cost


def test_a_usage_that_nobody_asked_for_is_not_made_up() -> None:
    out = run(continued(OPENAI), [*OPENAI.start, OPENAI.text("x"), OPENAI.end[0], OPENAI.end[-1]])
    assert not any(chunk.get("usage") for chunk in chunks_of(out))
    assert json.loads(out.split(b"\n\n")[0].removeprefix(b"data: "))["model"] == "gpt"


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [{"index": 0, "delta": "x"}]},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": {"a": 1}},
        {"choices": "x"},
        {"choices": [{}]},
        {"object": "x"},
    ],
)
def test_odd_chunks_break_nothing(odd: dict[str, Any]) -> None:
    events = [*OPENAI.start, sse(odd), OPENAI.text("a"), sse(odd), *OPENAI.end]
    translator = OPENAI.translator()
    run(translator, events)
    assert translator.said().content == translator.text() == "a"
    assert content_of(run(continued(OPENAI), [event for event in events if event != sse(odd)])) == "a"
    assert b'"a"' in run(continued(OPENAI), events)
