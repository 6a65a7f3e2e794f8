"""Server-sent events: cutting a byte stream into events, and, for passthrough, at the boundaries between events.

Lines end at CR, LF or CRLF and at nothing else; a blank line ends an event; a line that begins with a colon is a
comment. Bytes may be torn anywhere, inside a character or a CRLF too.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from typing import NamedTuple, Protocol

from llm_gateway.errors import UpstreamMalformed

MAX_EVENT = 8 * 1024 * 1024
"""Bytes of one event, its field names and comments included."""
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"
_CR, _LF = 13, 10


class SseEvent(NamedTuple):
    """One event. `data` has the lines of its `data` fields joined by LF, without one at its end.

    `event` is None where the stream names none. `raw` is what came, with the blank line and comments before it.
    """

    event: str | None
    data: bytes
    raw: bytes


class Splitter(Protocol):
    """Cuts a stream where its events end. One serves one stream."""

    def feed(self, data: bytes) -> bytes:
        """The whole events that `data` completes, unchanged, or `b""`. Raises `UpstreamMalformed`."""
        ...

    def rest(self) -> bytes:
        """What has come of an event that is not complete."""
        ...


class BlockSplitter:
    """Cuts a stream where events end, and changes no byte: the passthrough's framing.

    What `feed` has returned so far is always the longest part of the input that ends at a blank line (the beginning
    of the stream counts as the start of a line); what `feed` returned and `rest()` together are the input.
    """

    __slots__ = ("_last", "_limit", "_pieces", "_size")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        """What came after the last boundary, uncut: joined once, however many reads an event takes."""
        self._size = 0
        self._last = _LF
        """The byte before the next one."""

    def feed(self, data: bytes) -> bytes:
        """Whole events, or `b""`. Raises `UpstreamMalformed` where an event grows past the limit."""
        if not self._pieces and data.endswith((b"\n\n", b"\r\n\r\n")):
            self._last = _LF
            return data
        if not data:
            return data
        cut = self._boundary(data)
        self._last = data[-1]
        if cut == 0:
            self._keep(data)
            return b""
        if not self._pieces:
            block = data if cut == len(data) else data[:cut]
        else:
            self._pieces.append(data[:cut])
            block = b"".join(self._pieces)
            self._pieces = []
            self._size = 0
        if cut < len(data):
            self._keep(data[cut:])
        return block

    def rest(self) -> bytes:
        """What has come of an event that is not complete."""
        return b"".join(self._pieces)

    def _keep(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise UpstreamMalformed(f"the provider sent an event of more than {self._limit} bytes")

    def _boundary(self, data: bytes) -> int:
        """The length of the longest prefix of `data` after which no event is open; 0 where there is none."""
        # A line end directly after a line end makes a blank line; of two bytes only CR LF is one line end, not two.
        found = max(data.rfind(b"\n\n"), data.rfind(b"\n\r"), data.rfind(b"\r\r"))
        if found >= 0:
            cut = found + 2
        elif data[0] == _LF and (self._last == _LF or not self._pieces):
            # After LF a blank line; after CR the second half of a line end, which needs no boundary of its own
            # unless what it ends has been returned already.
            return 1
        elif data[0] == _CR and self._last in (_CR, _LF):
            cut = 1
        else:
            return 0
        return cut + 1 if data[cut - 1] == _CR and data[cut : cut + 1] == b"\n" else cut


class SseFramer:
    """Parses a stream into events, by the standard's rules.

    An event without a `data` field is none; `id` and `retry` mean nothing to a gateway and are skipped.
    """

    __slots__ = ("_begun", "_limit", "_splitter")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._splitter = BlockSplitter(limit)
        self._begun = False

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that `data` completes. Raises `UpstreamMalformed` for one larger than the limit."""
        block = self._splitter.feed(data)
        if not block:
            return []
        self._begun, begun = True, self._begun
        if (
            block.startswith(b"data: ")
            and block.find(b"\n") == len(block) - 2
            and block.endswith(b"\n")
            and b"\r" not in block
        ):
            self._check(block)
            return [SseEvent(None, block[6:-2], block)]
        events = []
        start = 0
        for blank in _BLANK_LINE.finditer(block):
            event = self._read(block[start : blank.end()], first=not begun and start == 0)
            start = blank.end()
            if event is not None:
                events.append(event)
        return events

    def flush(self) -> SseEvent | None:
        """At the end of the stream: the event that stands there without its blank line, or None.

        The standard drops such an event. Providers leave the last blank line out, so it is returned, and the caller
        judges whether its data is whole (`[DONE]`, or JSON that parses) or was cut.
        """
        rest = self._splitter.rest()
        self._splitter = BlockSplitter(self._limit)
        self._begun, begun = False, self._begun
        return self._read(rest, first=not begun) if rest else None

    def _check(self, raw: bytes) -> None:
        if len(raw) > self._limit:
            raise UpstreamMalformed(f"the provider sent an event of more than {self._limit} bytes")

    def _read(self, raw: bytes, *, first: bool) -> SseEvent | None:
        self._check(raw)
        name: str | None = None
        data: list[bytes] = []
        for line in _LINE_END.split(raw.removeprefix(_BOM) if first else raw):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ").decode("utf-8", "replace") or None
        return SseEvent(name, b"\n".join(data), raw) if data else None


def split_events(block: bytes) -> list[SseEvent]:
    """Every event of a block of whole events, for passthrough: joined, their `raw` is the block.

    What is no event by the standard, such as a comment alone, is one with empty `data`.
    """
    events: list[SseEvent] = []
    start = 0
    while start < len(block):
        blank = _BLANK_LINE.search(block, start)
        end = blank.end() if blank else len(block)
        raw = block[start:end]
        parsed = SseFramer().feed(raw)
        events.append(parsed[0] if parsed else SseEvent(None, b"", raw))
        start = end
    return events
