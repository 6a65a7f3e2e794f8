"""The ways in which providers frame a stream, by the names that dialects use."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from llm_gateway.dialects.dialect import Framing, SplitEvents
from llm_gateway.upstream.aws_event_stream import MessageSplitter, split_checked_messages
from llm_gateway.upstream.framing import BlockSplitter, Splitter, split_events


class StreamFraming(NamedTuple):
    """`splitter` makes one for a stream; `split_events` parses a block that it gave."""

    splitter: Callable[[], Splitter]
    split_events: SplitEvents


FRAMINGS: Mapping[Framing, StreamFraming] = {
    "sse": StreamFraming(BlockSplitter, split_events),
    "aws_event_stream": StreamFraming(MessageSplitter, split_checked_messages),
}
