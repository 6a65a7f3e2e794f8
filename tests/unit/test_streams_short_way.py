"""Specifies that the short way of a stream's plain chunks says byte for byte what the way through the parser says.

A member that no wire has yet (`"new": 1`) changes nothing for the caller, and keeps an event off the short way.
"""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.anthropic_messages import AnthropicMessages
from llm_gateway.dialects.dialect import SplitEvents, StreamEvent, StreamTranslator
from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent
from llm_gateway.dialects.gemini_raw import function_arguments
from llm_gateway.errors import UpstreamMalformed
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.aws_event_stream import MessageSplitter, split_messages
from llm_gateway.upstream.framing import BlockSplitter, split_events
from llm_gateway.upstream.framings import FRAMINGS
from tests.fakes.bedrock_upstream import message

REQUEST = read_chat_request(
    b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}'
)
Event = dict[str, Any]
texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(['"', "\\", '"args": {}', '": ', "\u2028"])


def claude(split: SplitEvents = split_events) -> StreamTranslator:
    return AnthropicMessages(now=lambda: 1.0).translator(REQUEST, "m", split)


def gemini(split: SplitEvents = split_events) -> StreamTranslator:
    return GeminiGenerateContent(now=lambda: 1.0, new_id=lambda: "made-up").translator(REQUEST, "m", split)


def said(translator: StreamTranslator, stream: bytes, cuts: Sequence[int] = ()) -> tuple[object, ...]:
    splitter = BlockSplitter()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    out = [translator.feed(splitter.feed(stream[start:end])) for start, end in pairwise(edges)]
    whole = b"".join([*out, translator.finish(splitter.rest())])
    return whole, translator.text(), translator.usage, translator.finish_reason, translator.model


# -- Claude


def claude_stream(events: Sequence[Event]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
        for event in events
    )


def _block(index: int, kind: str, pieces: Sequence[str]) -> list[Event]:
    starts = {
        "text": {"type": "text", "text": ""},
        "thinking": {"type": "thinking", "thinking": "", "signature": ""},
        "tool_use": {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        "server_tool_use": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    }
    names = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
    kind_of_delta, name = names.get(kind, ("input_json_delta", "partial_json"))
    deltas = [
        {"type": "content_block_delta", "index": index, "delta": {"type": kind_of_delta, name: piece}}
        for piece in pieces
    ]
    start = {"type": "content_block_start", "index": index, "content_block": starts[kind]}
    return [start, *deltas, {"type": "content_block_stop", "index": index}]


blocks = st.lists(
    st.tuples(st.sampled_from(["text", "thinking", "tool_use", "server_tool_use"]), st.lists(texts, max_size=5)),
    max_size=5,
)
STARTED = {
    "type": "message_start",
    "message": {"id": "i", "model": "c", "usage": {"input_tokens": 1, "output_tokens": 1}},
}
ENDED: list[Event] = [
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]


@settings(max_examples=80, deadline=None)
@given(blocks, st.booleans(), st.lists(st.integers(0, 4000), max_size=8))
def test_claude(content: list[tuple[str, list[str]]], one_index: bool, cuts: list[int]) -> None:
    inside = [
        event for at, (kind, pieces) in enumerate(content) for event in _block(0 if one_index else at, kind, pieces)
    ]
    short = claude_stream([STARTED, *inside, *ENDED])
    long = claude_stream([STARTED, *({**event, "new": 1} for event in inside), *ENDED])
    assert said(claude(), short, cuts) == said(claude(), long)


def _deltas(kind: str, name: str) -> bytes:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": kind, name: '{"a": "é'}}
    return claude_stream([delta])


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        ("text", _deltas("text_delta", "text")),
        ("thinking", _deltas("thinking_delta", "thinking")),
        ("tool_use", _deltas("input_json_delta", "partial_json")),
    ],
)
def test_claudes_deltas_are_not_parsed_once_their_block_has_begun(kind: str, plain: bytes) -> None:
    parsed, counting = _counting()
    translator = claude(counting)
    translator.feed(claude_stream([STARTED, *_block(0, kind, ["a"])[:-1]]))
    parsed.clear()
    assert [translator.feed(plain), translator.feed(plain * 3)] == [(one := translator.feed(plain)), one * 3]
    assert parsed == []
    assert json.loads(one.removeprefix(b"data: "))["choices"][0]["delta"]


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\\ud800", b"\\x", b"\t"])
def test_claudes_text_that_is_none_is_malformed_wherever_it_comes(bad: bytes) -> None:
    translator = claude()
    translator.feed(claude_stream([STARTED, *_block(0, "text", ["a"])[:-1]]))
    plain = _deltas("text_delta", "text")
    out = translator.feed(plain + plain.replace("é".encode(), bad) + plain)
    assert json.loads(out.removeprefix(b"data: "))["choices"][0]["delta"] == {"content": '{"a": "é'}
    with pytest.raises(UpstreamMalformed):
        translator.finish(b"")
    assert translator.text() == 'a{"a": "é'


# -- Gemini


def google(answer: Event) -> bytes:
    """As Google's printer writes it: a space behind colons, none behind commas."""
    return b"data: %b\r\n\r\n" % json.dumps(answer, ensure_ascii=False, separators=(",", ": ")).encode()


def compact(answer: Event) -> bytes:
    return b"data: %b\n\n" % json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def spaced(answer: Event) -> bytes:
    return b"data: %b\n\n" % json.dumps(answer, ensure_ascii=False).encode()


def escaped(answer: Event) -> bytes:
    return b"data: %b\n\n" % json.dumps(answer, separators=(",", ": ")).encode()


numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    numbers | st.booleans() | st.none() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=6,
)
arguments = st.dictionaries(texts | st.just("args"), values, max_size=3)
calls = st.builds(lambda args, more: {"functionCall": {"name": "f", **args, **more}},
                  st.one_of(st.builds(lambda args: {"args": args}, arguments), st.sampled_from([{}, {"args": None}])),
                  st.sampled_from([{}, {"id": "given"}]))  # fmt: skip
parts = st.lists(st.builds(lambda text: {"text": text}, texts) | calls
                 | st.builds(lambda text: {"text": text, "thought": True}, texts), min_size=1, max_size=6)  # fmt: skip


def gemini_answer(part: Event, number: int, last: bool = False) -> Event:
    candidate = {
        "content": {"parts": [part], "role": "model"},
        "index": 0,
        **({"finishReason": "STOP"} if last else {}),
    }
    counts = {"promptTokenCount": 3, "candidatesTokenCount": number, "totalTokenCount": 3 + number}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "g-1", "responseId": "r"}


@settings(max_examples=80, deadline=None)
@given(parts, st.sampled_from([google, compact, spaced]), st.lists(st.integers(0, 3000), max_size=8))
def test_gemini(content: list[Event], printer: Callable[[Event], bytes], cuts: list[int]) -> None:
    end = gemini_answer({"text": "."}, 99, last=True)
    short = b"".join([printer(gemini_answer(part, at)) for at, part in enumerate(content)]) + printer(end)
    longer = [gemini_answer({**part, "new": 1}, at) for at, part in enumerate(content)]
    long = b"".join([compact(answer) for answer in longer]) + compact(end)
    assert said(gemini(), short, cuts) == said(gemini(), long)


@settings(max_examples=80, deadline=None)
@given(st.lists(calls, min_size=1, max_size=3), st.sampled_from([google, compact, spaced, escaped]))
def test_geminis_arguments_keep_the_bytes_of_every_token(
    content: list[Event], printer: Callable[[Event], bytes]
) -> None:
    answer = gemini_answer({}, 1)
    answer["candidates"][0]["content"]["parts"] = [{"text": 'say "args": {}'}, *content]
    body = printer(answer)[6:]
    found = function_arguments(json.loads(body), body)[0]
    ascii_only = printer is escaped
    for position, part in enumerate(content, start=1):
        wanted = json.dumps(part["functionCall"].get("args") or {}, ensure_ascii=ascii_only, separators=(",", ":"))
        assert found[position] == wanted


def test_geminis_plain_events_are_not_framed_by_the_parser() -> None:
    parsed, counting = _counting()
    translator = gemini(counting)
    for printer in (google, compact):
        event = printer(gemini_answer({"text": "a"}, 1))
        for block in (event, event * 3):
            assert translator.feed(block)
    assert parsed == []
    assert translator.text() == "a" * 8


@pytest.mark.parametrize("odd", [0.0, "0", [0], None])
def test_an_index_that_is_none_is_malformed_behind_text_too(odd: object) -> None:
    translator = gemini()
    translator.feed(google(gemini_answer({"text": "a"}, 1)))
    strange = gemini_answer({"text": "b"}, 2)
    strange["candidates"][0]["index"] = odd
    assert translator.feed(google(strange)) == b""
    with pytest.raises(UpstreamMalformed):
        translator.finish(b"")


# -- AWS messages


def test_a_message_is_checked_once_and_read_the_same() -> None:
    stream = (
        message("chunk", {"bytes": "e30="}) + message("throttlingException", b"", "exception") + message("x", b"{}")
    )
    block = MessageSplitter().feed(stream)
    assert FRAMINGS["aws_event_stream"].split_events(block) == split_messages(stream)


def _counting() -> tuple[list[bytes], SplitEvents]:
    parsed: list[bytes] = []

    def split(block: bytes) -> Sequence[StreamEvent]:
        parsed.append(block)
        return split_events(block)

    return parsed, split
