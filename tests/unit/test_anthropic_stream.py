"""Specifies Claude's streams where they are not as in the goldens: errors inside, oddities, estimates, and bad bytes."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.anthropic_messages import AnthropicMessages
from llm_gateway.dialects.anthropic_stream import AnthropicStream
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framings import FRAMINGS
from tests.fakes.bedrock_upstream import message

REQUEST = read_chat_request(b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}')
USAGE = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}
START = {"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": USAGE}}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
HELLO = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}
STOP = {"type": "message_stop"}
DIALECT = AnthropicMessages(now=lambda: 1.0)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def stream(framing: str = "sse") -> AnthropicStream:
    return DIALECT.translator(REQUEST, "m", FRAMINGS[framing].split_events)  # type: ignore[index]  # the name is one of both


def error(kind: str, text: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": text}}


ITERATIONS: list[dict[str, Any]] = [
    {
        "type": "compaction",
        "input_tokens": 180_000,
        "cache_read_input_tokens": 50,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_1h_input_tokens": 10, "ephemeral_5m_input_tokens": 20},
        "output_tokens": 3_500,
    },
    {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 400, "output_tokens": 40},
    {"type": "fallback_message", "input_tokens": 600, "output_tokens": 60},
    {"type": "message", "input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 7},
]


@pytest.mark.parametrize("declared", [ITERATIONS, [*ITERATIONS, "junk", None, {"type": "compaction"}]])
def test_compaction_is_counted_beside_the_totals_and_nothing_else_is(declared: list[Any]) -> None:
    translator = stream()
    counted = {"output_tokens": 7, "iterations": declared}
    translator.feed(sse(START, TEXT, HELLO, {**END, "usage": counted}, STOP))
    assert translator.usage == Usage(
        input_tokens=180_180,
        output_tokens=3_507,
        cached_tokens=140,
        cache_write_tokens=20,
        cache_write_1h_tokens=10,
    )


def test_a_stream_that_only_compacted_is_cut_short_and_not_whole() -> None:
    translator = stream()
    paused = {"type": "message_delta", "delta": {"stop_reason": "compaction"}, "usage": {"output_tokens": 0}}
    out = translator.feed(sse(START, paused, STOP)) + translator.finish(b"")
    assert b'"finish_reason":"length","native_finish_reason":"compaction"' in out


ERRORS: list[tuple[str, type[Exception], int]] = [
    ("overloaded_error", UpstreamUnavailable, 503),
    ("rate_limit_error", UpstreamRejected, 429),
    ("api_error", UpstreamFailed, 502),
    ("timeout_error", UpstreamTimeout, 504),
    ("invalid_request_error", UpstreamRejected, 400),
    ("request_too_large", UpstreamRejected, 413),
    ("billing_error", UpstreamRejected, 402),
    ("an_error_of_tomorrow", UpstreamFailed, 502),
]


@pytest.mark.parametrize(("kind", "expected", "status"), ERRORS)
def test_an_error_event_is_raised_as_what_it_is(kind: str, expected: type[Exception], status: int) -> None:
    translator = stream()
    with pytest.raises(expected) as caught:
        translator.feed(sse(START, error(kind)))
    assert getattr(caught.value, "http_status") == status  # noqa: B009 - the type is a parameter


def test_an_error_behind_content_waits_until_that_is_out() -> None:
    translator = stream()
    translator.feed(sse(START, TEXT, HELLO))
    assert b"Hello" in translator.feed(sse(HELLO, error("overloaded_error"), HELLO))
    assert translator.complete
    with pytest.raises(UpstreamUnavailable):
        translator.finish(b"")


def test_an_error_sent_with_200_and_no_stream() -> None:
    with pytest.raises(UpstreamUnavailable):
        DIALECT.decode("chat.completions", REQUEST, "m", json.dumps(error("overloaded_error")).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content":null}', b'{"content":["x"]}', b"<html>"])
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        DIALECT.decode("chat.completions", REQUEST, "m", body)


MALFORMED = [
    sse(HELLO),
    sse({"type": "message_start"}),
    sse(START, {"type": "content_block_delta", "delta": {}}),
    sse(START, {"type": "content_block_delta", "index": 0, "delta": "x"}),
    sse(START, {"type": "content_block_start", "index": 0}),
    sse(START, STOP),
    b"data: [1]\n\n",
    b"data: nonsense\n\n",
]


HALF = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d"}}\n\n'


def test_half_a_character_is_malformed_whichever_way_it_takes() -> None:
    for begun in (sse(START, TEXT), sse(START, TEXT, HELLO)):
        translator = stream()
        translator.feed(begun)
        with pytest.raises(UpstreamMalformed):
            translator.feed(HALF)


@pytest.mark.parametrize("block", MALFORMED)
def test_malformed(block: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        stream().feed(block)


KINDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
]
KINDS += [
    "text",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "text_delta",
    "thinking_delta",
    "signature_delta",
    "input_json_delta",
]
NAMES = [
    "type",
    "index",
    "message",
    "content_block",
    "delta",
    "usage",
    "text",
    "thinking",
    "signature",
    "data",
    "id",
    "name",
    "input",
]
NAMES += ["stop_reason", "partial_json", "error", "model", "stop_details", "content", "output_tokens", "bytes"]
ANY = st.recursive(
    st.sampled_from([None, True, 0, 1, -1, 2.5, "", "x", *KINDS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), ANY, max_size=5), max_size=4),
    st.sampled_from(["sse", "aws_event_stream"]),
)
def test_whatever_comes_is_read_or_is_the_providers_fault(said: list[dict[str, Any]], framing: str) -> None:
    translator = stream(framing)
    events: list[dict[str, Any]] = [START, TEXT, *said] if said and "model" not in said[0] else said
    with contextlib.suppress(UpstreamError):
        for event in events:
            data = json.dumps(event).encode()
            if framing == "sse":
                translator.feed(b"data: " + data + b"\n\n")
            else:
                translator.feed(message("chunk", {"bytes": base64.b64encode(data).decode()}))
                translator.feed(message("chunk", event))
        translator.finish(b"")
    translator.text()
    with contextlib.suppress(UpstreamError):
        DIALECT.decode(
            "chat.completions", REQUEST, "m", json.dumps({"content": said, **(said[0] if said else {})}).encode()
        )


def test_a_last_event_without_its_blank_line_counts() -> None:
    translator = stream()
    translator.feed(sse(START, TEXT, HELLO, END))
    assert translator.finish(sse(STOP)[:-2]).endswith(b"data: [DONE]\n\n")


RESTS = [b"", b"event: message_st", b'event: message_stop\ndata: {"type"', b"\x00\x00\x01"]


@pytest.mark.parametrize("rest", RESTS)
def test_without_a_stop_reason_a_stream_is_cut(rest: bytes) -> None:
    translator = stream()
    translator.feed(sse(START, TEXT, HELLO))
    with pytest.raises(UpstreamCut):
        translator.finish(rest)


@pytest.mark.parametrize("rest", RESTS)
def test_with_a_stop_reason_nothing_is_missing_but_the_last_event(rest: bytes) -> None:
    translator = stream()
    translator.feed(sse(START, TEXT, HELLO, END))
    assert translator.whole
    assert not translator.complete
    assert translator.finish(rest) == b"data: [DONE]\n\n"


def test_a_second_stop_reason_only_counts() -> None:
    translator = stream()
    translator.feed(sse(START, TEXT, HELLO, END))
    assert translator.feed(sse({**END, "usage": {"output_tokens": 9}})) == b""
    assert translator.usage == Usage(input_tokens=100, cached_tokens=90, output_tokens=9)


def test_nothing_counts_before_content_and_an_estimate_until_the_end() -> None:
    translator = stream()
    translator.feed(sse(START, TEXT))
    assert not translator.started
    assert translator.usage is None
    translator.feed(sse(*[HELLO] * 4))
    assert translator.started
    assert translator.usage == Usage(input_tokens=100, cached_tokens=90, output_tokens=5, estimated=True)
    assert translator.text() == "Hello" * 4
    translator.feed(sse(END))
    assert translator.usage == Usage(input_tokens=100, cached_tokens=90, output_tokens=7)


def test_events_after_the_end_are_not_read() -> None:
    translator = stream()
    out = translator.feed(sse(START, TEXT, HELLO, END, STOP, error("api_error"), HELLO))
    assert out.count(b"Hello") == 1
    assert translator.finish(b"") == b"data: [DONE]\n\n"


@pytest.mark.parametrize("text", ["", "plain", 'q"\\\u2028\x00\x1fé😀\x7f'])
def test_both_ways_through_give_the_same_text(text: str) -> None:
    """The quick way (a text delta in Anthropic's own spelling) and the parser's."""
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    quick, slow = stream(), stream()
    for translator in (quick, slow):
        translator.feed(sse(START, TEXT, HELLO))
    one = (
        f"event: content_block_delta\ndata: {json.dumps(delta, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()
    )
    other = f"data: {json.dumps(delta, indent=None)}\nevent: content_block_delta\n\n".encode()
    made = [translator.feed(block) for translator, block in ((quick, one), (slow, other))]
    read = [[json.loads(part[6:]) for part in out.decode().split("\n\n") if part] for out in made]
    assert read[0] == read[1]
    assert quick.text() == slow.text() == "Hello" + text


def test_full_input_at_the_start_of_a_tool_call_reaches_the_caller_as_it_stands() -> None:
    translator = stream()
    raw = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"n":12345678901234567890123}}}\n\n'
    out = translator.feed(sse(START) + raw + sse({"type": "content_block_stop", "index": 0}))
    assert rb'"arguments":"{\"n\":12345678901234567890123}"' in out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("throttlingException", UpstreamRejected),
        ("modelStreamErrorException", UpstreamFailed),
        ("internalServerException", UpstreamFailed),
        ("serviceUnavailableException", UpstreamUnavailable),
        ("modelTimeoutException", UpstreamTimeout),
        ("validationException", UpstreamRejected),
    ],
)
def test_bedrocks_exceptions(name: str, expected: type[Exception]) -> None:
    with pytest.raises(expected, match="because"):
        stream("aws_event_stream").feed(message(name, {"message": "because"}, "exception"))


def test_a_bedrock_chunk_that_is_not_base64() -> None:
    with pytest.raises(UpstreamMalformed):
        stream("aws_event_stream").feed(message("chunk", {"bytes": "%%"}))


def test_bedrocks_other_events_are_passed_over() -> None:
    assert stream("aws_event_stream").feed(message("chunk", {"p": "abc"}) + message("initial-response", b"{}")) == b""
