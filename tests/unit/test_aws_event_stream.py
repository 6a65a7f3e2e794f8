"""Specifies AWS event-stream framing: whole messages only, both checksums, limits, every type of header."""

import struct
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.errors import UpstreamMalformed
from llm_gateway.upstream.aws_event_stream import MAX_PAYLOAD, MessageSplitter, read_headers, split_messages
from tests.fakes.bedrock_upstream import frame, message, string_header

HELLO = message("contentBlockDelta", {"delta": {"text": "hé"}})
BYE = message("messageStop", {"stopReason": "end_turn"})


def test_a_message_is_an_event() -> None:
    (event,) = split_messages(HELLO)
    assert (event.event, event.data, event.raw, event.failed) == (
        "contentBlockDelta",
        b'{"delta":{"text":"h\\u00e9"}}',
        HELLO,
        False,
    )


def test_exceptions_and_errors_are_told_from_events() -> None:
    failure = message("throttlingException", {"message": "slow down"}, "exception")
    error = frame(
        string_header(":error-code", "InternalError")
        + string_header(":message-type", "error")
        + string_header(":error-message", "broken"),
        b"",
    )
    found = [(event.event, event.data, event.failed) for event in split_messages(failure + error)]
    assert found == [
        ("throttlingException", b'{"message":"slow down"}', True),
        ("InternalError", b'{"message":"broken"}', True),
    ]


HEADERS = [
    (0, b"", True),
    (1, b"", False),
    (2, b"\xff", -1),
    (3, b"\x01\x02", 258),
    (4, b"\xff\xff\xff\xfe", -2),
    (5, struct.pack("!q", 1 << 40), 1 << 40),
    (6, b"\x00\x02\x00\xff", b"\x00\xff"),
    (7, b"\x00\x02hi", "hi"),
    (8, struct.pack("!q", 1_700_000_000_123), datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)),
    (9, bytes(range(16)), UUID(bytes=bytes(range(16)))),
]


@pytest.mark.parametrize(("kind", "value", "meaning"), HEADERS)
def test_every_type_of_header(kind: int, value: bytes, meaning: object) -> None:
    assert read_headers(b"\x01x" + bytes([kind]) + value + string_header("y", "z")) == {"x": meaning, "y": "z"}


@pytest.mark.parametrize("block", [b"\x01x\x0a", b"\x05x", b"\x01x\x07\x00\x09hi", b"\x01x\x09\x00", b"\x01\xff\x00"])
def test_headers_that_cannot_be_read(block: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        split_messages(frame(block, b""))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 2 * len(HELLO + BYE)), max_size=10))
def test_any_split_gives_whole_messages_and_nothing_is_lost(cuts: list[int]) -> None:
    stream = HELLO + BYE + HELLO + BYE[:-3]
    splitter, out = MessageSplitter(), []
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for start, end in pairwise(edges):
        block = splitter.feed(stream[start:end])
        split_messages(block)
        out.append(block)
    assert b"".join(out) == HELLO + BYE + HELLO
    assert splitter.rest() == BYE[:-3]


@pytest.mark.parametrize("at", range(len(HELLO)))
def test_no_flipped_bit_gets_through(at: int) -> None:
    """botocore refuses the same bytes, or waits for more of them as we do."""
    broken = bytearray(HELLO)
    broken[at] ^= 1
    theirs = EventStreamBuffer()
    theirs.add_data(bytes(broken))
    with pytest.raises(Exception, match="hecksum"):
        next(theirs)
    with pytest.raises(UpstreamMalformed, match="checksum"):
        MessageSplitter().feed(bytes(broken))
    with pytest.raises(UpstreamMalformed, match=r"checksum|not whole"):
        split_messages(bytes(broken))


def test_what_came_before_a_broken_message_is_given_out_first() -> None:
    broken = BYE[:-1] + bytes([BYE[-1] ^ 1])
    splitter = MessageSplitter()
    assert splitter.feed(HELLO + broken) == HELLO
    with pytest.raises(UpstreamMalformed):
        splitter.feed(HELLO)
    with pytest.raises(UpstreamMalformed):
        splitter.rest()


@pytest.mark.parametrize(("total", "headers"), [(MAX_PAYLOAD + 17, 0), (200 * 1024, 128 * 1024 + 1), (20, 10), (4, 0)])
def test_lengths_beyond_the_format_are_refused_at_the_prelude(total: int, headers: int) -> None:
    prelude = struct.pack("!II", total, headers)
    with pytest.raises(UpstreamMalformed):
        MessageSplitter().feed(prelude + struct.pack("!I", crc32(prelude)))


def test_a_torn_block_is_not_a_block() -> None:
    with pytest.raises(UpstreamMalformed):
        split_messages(HELLO[:-1])
