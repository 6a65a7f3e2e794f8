"""Specifies the cutting of server-sent events: the standard's rules, however the bytes are torn.

The reference below is the WHATWG algorithm, line by line and slow; everything is compared with it.
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import UpstreamMalformed
from llm_gateway.upstream.framing import BlockSplitter, SseFramer


def reference_lines(stream: bytes) -> tuple[list[bytes], bytes]:
    """Complete lines, and what is left of the last one."""
    lines, line, index = [], bytearray(), 0
    while index < len(stream):
        byte = stream[index : index + 1]
        index += 1
        if byte not in (b"\r", b"\n"):
            line += byte
            continue
        if byte == b"\r" and stream[index : index + 1] == b"\n":
            index += 1
        lines.append(bytes(line))
        line.clear()
    return lines, bytes(line)


def reference_events(stream: bytes) -> tuple[list[tuple[str | None, bytes]], tuple[str | None, bytes] | None]:
    """What is dispatched, and what a dispatch at the end of the stream would add."""
    lines, unfinished = reference_lines(stream.removeprefix(b"\xef\xbb\xbf"))
    events: list[tuple[str | None, bytes]] = []
    name, data = b"", b""

    def dispatched() -> tuple[str | None, bytes]:
        return name.decode("utf-8", "replace") or None, data.removesuffix(b"\n")

    for number, line in enumerate([*lines, unfinished]):
        if line == b"" and number < len(lines):
            if data:
                events.append(dispatched())
            name, data = b"", b""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if field == b"event":
                name = value
            elif field == b"data":
                data += value + b"\n"
    return events, dispatched() if data else None


def reference_boundary(stream: bytes) -> int:
    """Where the last blank line ends. A CR ends a line at once; an LF after it belongs to the same line end."""
    boundary, empty, previous = 0, True, b""
    for index in range(len(stream)):
        byte = stream[index : index + 1]
        if byte == b"\n" and previous == b"\r":
            if boundary == index:
                boundary = index + 1
        elif byte in (b"\r", b"\n"):
            if empty:
                boundary = index + 1
            empty = True
        else:
            empty = False
        previous = byte
    return boundary


LINE_ENDS = [b"\n", b"\r", b"\r\n"]
LINES = [
    b"", b"", b"", b"data", b"data:", b"data: a", b"data: {}", b"data:  b", b"data: \xe2\x80\xa8\xc2\x85\x0b\x0c",
    b"event: a", b"event:", b"event", b": c", b":", b"id: 1", b"retry: 5", b"x", b" data: no", b"\xef\xbb\xbfdata: c",
    b"data: \x00\xff", b"datax: no", b"data :no",
]  # fmt: skip
STREAMS = st.one_of(
    st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(LINE_ENDS)).map(b"".join), max_size=20).map(b"".join),
    st.tuples(st.lists(st.sampled_from([*LINES, b"\n\n"]), max_size=12), st.sampled_from(LINE_ENDS)).map(
        lambda held: held[1].join(held[0])
    ),
    st.lists(st.sampled_from([*LINE_ENDS, b"d", b"data:"]), max_size=30).map(b"".join),
    st.binary(max_size=60),
)


@st.composite
def torn(draw: st.DrawFn) -> list[bytes]:
    stream = draw(STREAMS)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(torn())
def test_any_split_of_the_bytes_gives_the_events_of_the_standard(pieces: list[bytes]) -> None:
    framer = SseFramer()
    events = [(event.event, event.data) for piece in pieces for event in framer.feed(piece)]
    last = framer.flush()
    assert (events, last and (last.event, last.data)) == reference_events(b"".join(pieces))


@given(torn())
def test_blocks_are_the_input_unchanged_and_always_as_long_as_they_can_be(pieces: list[bytes]) -> None:
    splitter = BlockSplitter()
    seen = out = b""
    for piece in pieces:
        seen += piece
        out += splitter.feed(piece)
        assert len(out) == reference_boundary(seen)
        assert out + splitter.rest() == seen


@given(STREAMS)
def test_byte_by_byte_equals_all_at_once(stream: bytes) -> None:
    whole, single = SseFramer(), SseFramer()
    at_once = whole.feed(stream)
    one_by_one = [event for byte in stream for event in single.feed(bytes([byte]))]
    assert [event[:2] for event in one_by_one] == [event[:2] for event in at_once]
    assert (whole.flush() or ())[:2] == (single.flush() or ())[:2]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [(None, b"a")]),
        (b"data: a\r\n\r\n", [(None, b"a")]),
        (b"data: a\r\r", [(None, b"a")]),
        (b"data: a\n\r\n", [(None, b"a")]),
        (b"data:a\n\ndata:  b\n\n", [(None, b"a"), (None, b" b")]),
        (b"data: a\ndata: b\n\n", [(None, b"a\nb")]),
        (b"data\n\ndata\ndata\n\n", [(None, b""), (None, b"\n")]),
        (b": OPENROUTER PROCESSING\n\ndata: a\n\n", [(None, b"a")]),
        (b"event: ping\n\n", []),
        (b"event: error\ndata: {}\n\ndata: a\n\n", [("error", b"{}"), (None, b"a")]),
        (b"event:\ndata: a\n\n", [(None, b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(None, b"a")]),
        (b"id: 7\nretry: 10\ndata: a\nunknown: x\n\n", [(None, b"a")]),
        ("data: a\u2028b\u2029c\u0085d\x0be\x0cf\n\n".encode(), [(None, "a\u2028b\u2029c\u0085d\x0be\x0cf".encode())]),
        (b"data: a", []),
        (b"data: a\n", []),
    ],
)
def test_events(stream: bytes, events: list[tuple[str | None, bytes]]) -> None:
    assert [event[:2] for event in SseFramer().feed(stream)] == events


def test_raw_is_what_came() -> None:
    first, second = b": hello\r\ndata: a\r\n\r\n", b"event: x\r\ndata: b\r\n\r\n"
    assert [event.raw for event in SseFramer().feed(first + second)] == [first, second]


@pytest.mark.parametrize(
    ("left", "data"),
    [(b"data: [DONE]", b"[DONE]"), (b"data: [DONE]\n", b"[DONE]"), (b"data: [1, 2", b"[1, 2"), (b"data: a\r", b"a")],
)  # fmt: skip
def test_flush_hands_over_the_event_without_a_blank_line(left: bytes, data: bytes) -> None:
    framer = SseFramer()
    assert framer.feed(b"data: before\n\n" + left) == [(None, b"before", b"data: before\n\n")]
    assert framer.flush() == (None, data, left)
    assert framer.flush() is None


@pytest.mark.parametrize("left", [b"", b": keep-alive", b"event: x", b"\n"])
def test_flush_has_nothing_where_nothing_was_begun(left: bytes) -> None:
    framer = SseFramer()
    framer.feed(left)
    assert framer.flush() is None


def test_a_byte_order_mark_counts_only_at_the_start_of_the_stream() -> None:
    framer = SseFramer()
    marked = b"\xef\xbb\xbfdata: a\n\n"
    assert [len(framer.feed(marked)), len(framer.feed(marked)), len(SseFramer().feed(marked + marked))] == [1, 0, 1]


def test_the_reference_knows_the_standards_own_examples() -> None:
    """From section 9.2.6 of the standard."""
    assert reference_events(b"data: YHOO\ndata: +2\ndata: 10\n\n") == ([(None, b"YHOO\n+2\n10")], None)
    first = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event"
    assert reference_events(first) == ([(None, b"first event"), (None, b"second event")], (None, b" third event"))
    assert reference_events(b"data\n\ndata\ndata\n\ndata:") == ([(None, b""), (None, b"\n")], (None, b""))
    assert reference_events(b"data:test\n\ndata: test\n\n") == ([(None, b"test")] * 2, None)
    assert reference_events(b"event: add\rdata: 73857293\r\r") == ([("add", b"73857293")], None)


def test_an_event_may_be_as_large_as_the_limit_and_no_larger() -> None:
    event = b"data: " + b"x" * 92 + b"\n\n"
    assert len(SseFramer(limit=100).feed(event)[0].data) == 92
    for framing in (SseFramer(limit=99), BlockSplitter(limit=97)):
        feed: Callable[[bytes], object] = framing.feed
        with pytest.raises(UpstreamMalformed, match="more than 9"):
            list(map(feed, [event[index : index + 1] for index in range(len(event))]))
    with pytest.raises(UpstreamMalformed):
        SseFramer(limit=99).feed(event)
    with pytest.raises(UpstreamMalformed):
        SseFramer(limit=99).feed(b"event: x\n" + event)


def test_a_large_event_in_small_pieces_takes_linear_time() -> None:
    piece = b"x" * 1024
    splitter = BlockSplitter()
    splitter.feed(b"data: ")
    start = time.process_time()
    for _ in range(4096):
        assert splitter.feed(piece) == b""
    assert len(splitter.feed(b"\n\n")) == 6 + 4096 * 1024 + 2
    assert time.process_time() - start < 1
