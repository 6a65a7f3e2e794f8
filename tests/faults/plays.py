"""How a provider misbehaves: each behaviour makes the steps that answer one request, on any wire.

A behaviour that means a body answers a buffered request and a streamed one alike, where it can; those of `streams` are
for streams alone.
"""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from functools import cache
from time import time

from tests.fakes.faulty_upstream import Close, Drip, Hang, Pause, Repeat, Reset, Seen, Send, Step, Steps
from tests.fakes.faulty_wires import TEXT, Refusal, Wire, words_of

PRIMARY, SPARE = "primary-1", "spare-1"
"""What the two providers' models call themselves."""
Behaviour = Callable[[Wire, Seen], Steps]

SAID = 5
"""Words that go out before a stream fails in its middle."""
HUGE = 3 << 20
_ON_ITS_WAY_S = 0.1
_HTML = b"<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


def head(status: int, content_type: str, headers: Mapping[str, str] | None = None, length: int | None = None) -> bytes:
    """Without a length the body is chunked."""
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", framing]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def body(data: bytes, content_type: str = "application/json", status: int = 200, **headers: str) -> Steps:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [Send(head(status, content_type, named, len(data)) + data)]


def stream(wire: Wire, events: Sequence[bytes], *then: Step, content_type: str | None = None) -> Steps:
    """The events one by one; without more steps the proper end of the body."""
    opened = Send(head(200, content_type or wire.stream_type))
    return [opened, *(Send(chunk(event)) for event in events), *(then or (Send(END),))]


def refuse(made: Refusal, headers: Mapping[str, str] | None = None) -> Steps:
    named = {**made.headers, **(headers or {})}
    return [Send(head(made.status, made.content_type, named, len(made.body)) + made.body)]


def _events(wire: Wire, model: str = PRIMARY) -> list[bytes]:
    return wire.events(TEXT, model)


def _begun(wire: Wire, seen: Seen) -> list[bytes]:
    """The stream as far as its first words; of a request that begins the answer itself, one word more."""
    prefill = wire.prefill(seen)
    words = words_of(TEXT.removeprefix(prefill))[: 1 if prefill else SAID]
    return [*wire.opening(PRIMARY), *(wire.word(each, PRIMARY) for each in words)]


def _rest(wire: Wire, seen: Seen) -> list[bytes]:
    """What follows that."""
    return wire.events(TEXT.removeprefix(wire.prefill(seen)), PRIMARY)[len(_begun(wire, seen)) :]


def _without_terminator(wire: Wire) -> list[bytes]:
    events = _events(wire)
    return events[:-1] if wire.terminator else events


# -- whole answers ----------------------------------------------------------------------------------------------------


def healthy_as(model: str) -> Behaviour:
    """The whole text; where the request begins the answer itself, the rest of it, as a model goes on from a prefill."""

    def answer(wire: Wire, seen: Seen) -> Steps:
        begun = wire.prefill(seen)
        rest = TEXT.removeprefix(begun) if begun else TEXT
        return stream(wire, wire.events(rest, model)) if wire.wants_stream(seen) else body(wire.whole(rest, model))

    return answer


healthy, spare = healthy_as(PRIMARY), healthy_as(SPARE)


def then_healthy(*behaviours: Behaviour) -> Behaviour:
    """The first requests get these, in turn; all others a whole answer."""

    def answer(wire: Wire, seen: Seen) -> Steps:
        return (behaviours[seen.attempt - 1] if seen.attempt <= len(behaviours) else healthy)(wire, seen)

    return answer


def slow(seconds: float) -> Behaviour:
    """The head at once, the first content late."""

    def answer(wire: Wire, seen: Seen) -> Steps:
        if not wire.wants_stream(seen):
            return [Pause(seconds), *healthy(wire, seen)]
        opening = wire.opening(PRIMARY)
        late = _events(wire)[len(opening) :]
        return [
            Send(head(200, wire.stream_type) + b"".join(map(chunk, opening))),
            Pause(seconds),
            *(Send(chunk(event)) for event in late),
            Send(END),
        ]

    return answer


def gzipped(wire: Wire, seen: Seen) -> Steps:
    """Though nobody asked for it."""
    if not wire.wants_stream(seen):
        return body(gzip.compress(wire.whole(TEXT, PRIMARY)), content_encoding="gzip")
    squeeze = zlib.compressobj(wbits=31)
    parts = [squeeze.compress(event) + squeeze.flush(zlib.Z_SYNC_FLUSH) for event in _events(wire)]
    opened = head(200, wire.stream_type, {"content-encoding": "gzip"})
    return [Send(opened), *(Send(chunk(part)) for part in parts), Send(chunk(squeeze.flush())), Send(END)]


def mislabelled(wire: Wire, seen: Seen) -> Steps:
    if wire.wants_stream(seen):
        return stream(wire, _events(wire), content_type="text/plain")
    return body(wire.whole(TEXT, PRIMARY), "text/plain; charset=utf-8")


def stale_once(*end: Step) -> Behaviour:
    """The connection that has served once dies as its next request comes."""

    def answer(wire: Wire, seen: Seen) -> Steps:
        return list(end) if seen.turn > 1 else healthy(wire, seen)

    return answer


# -- no answer, or no proper one --------------------------------------------------------------------------------------


def reset(wire: Wire, seen: Seen) -> Steps:
    return [Reset()]


def vanish(wire: Wire, seen: Seen) -> Steps:
    return [Close()]


def silence(wire: Wire, seen: Seen) -> Steps:
    return [Hang()]


def half_a_head(wire: Wire, seen: Seen) -> Steps:
    return [Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Close()]


def half_a_head_and_silence(wire: Wire, seen: Seen) -> Steps:
    return [Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Hang()]


def dripping_head(wire: Wire, seen: Seen) -> Steps:
    """A byte now and then, for as long as anybody listens."""
    return [Drip(head(200, wire.stream_type, {"x-filling": "x" * 1000}), 0.1)]


def html(status: int) -> Behaviour:
    return lambda wire, seen: body(_HTML, "text/html", status)


def half_json(wire: Wire, seen: Seen) -> Steps:
    """Cut, and yet as long as it says."""
    whole = wire.whole(TEXT, PRIMARY)
    return body(whole[: len(whole) // 2])


def length_too_long(wire: Wire, seen: Seen) -> Steps:
    if wire.wants_stream(seen):
        data = b"".join(_begun(wire, seen))
        return [Send(head(200, wire.stream_type, length=len(data) + 100) + data), Close()]
    whole = wire.whole(TEXT, PRIMARY)
    return [Send(head(200, "application/json", length=len(whole) + 100) + whole), Close()]


def length_too_short(wire: Wire, seen: Seen) -> Steps:
    """What stands behind the length is no answer to anything."""
    stands = b"".join(_events(wire)) if wire.wants_stream(seen) else wire.whole(TEXT, PRIMARY)
    kind = wire.stream_type if wire.wants_stream(seen) else "application/json"
    return [Send(head(200, kind, length=len(stands)) + stands + b"and some more"), Pause(0.05), Close()]


def status(code: int, **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda wire, seen: refuse(wire.refusal(code), named)


def retry_at(code: int, seconds: float) -> Behaviour:
    """`Retry-After` as a date, which has whole seconds."""
    return lambda wire, seen: refuse(wire.refusal(code), {"retry-after": formatdate(time() + seconds, usegmt=True)})


def too_long(wire: Wire, seen: Seen) -> Steps:
    return refuse(wire.too_long())


def blocked(wire: Wire, seen: Seen) -> Steps:
    made = wire.blocked()
    if made.status == 200 and wire.wants_stream(seen):
        return stream(wire, [b"data: " + made.body + b"\n\n"])
    return refuse(made)


# -- streams ----------------------------------------------------------------------------------------------------------


def cut(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, _begun(wire, seen), Close())


def cut_by_reset(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, _begun(wire, seen), Pause(_ON_ITS_WAY_S), Reset())


def cut_in_an_event(wire: Wire, seen: Seen) -> Steps:
    half = wire.word(" half", PRIMARY)
    return stream(wire, [*_begun(wire, seen), half[: len(half) // 2]], Close())


def cut_before_content(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, wire.opening(PRIMARY), Close())


def stall(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, _begun(wire, seen), Hang())


def stall_with_comments(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, _begun(wire, seen), Repeat(chunk(wire.comment()), 0.05))


def stall_with_empty_events(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, _begun(wire, seen), Repeat(chunk(wire.word("", PRIMARY)), 0.05))


def comments_alone(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, [], Repeat(chunk(wire.comment()), 0.05))


def empty_events_alone(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, wire.opening(PRIMARY), Repeat(chunk(wire.word("", PRIMARY)), 0.05))


def slow_words(pause_s: float) -> Behaviour:
    """Never silent for long, and long in all."""

    def answer(wire: Wire, seen: Seen) -> Steps:
        opened = Send(head(200, wire.stream_type))
        paced = [step for event in _events(wire) for step in (Send(chunk(event)), Pause(pause_s))]
        return [opened, *paced, Send(END)]

    return answer


def _fails_by(event: Callable[[Wire], bytes]) -> Behaviour:
    """An event after the first words, which are on their way to the caller by then; then the rest of the answer."""

    def answer(wire: Wire, seen: Seen) -> Steps:
        begun = _begun(wire, seen)
        rest = b"".join(map(chunk, [event(wire), *_rest(wire, seen)]))
        return stream(wire, begun, Pause(_ON_ITS_WAY_S), Send(rest), Send(END))

    return answer


malformed_event = _fails_by(lambda wire: wire.malformed())
error_event = _fails_by(lambda wire: wire.error_event())


def malformed_first(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, [wire.malformed(), *_events(wire)])


def malformed_after_the_finish(wire: Wire, seen: Seen) -> Steps:
    end = [wire.terminator] if wire.terminator else []
    return stream(wire, [*_without_terminator(wire), wire.malformed(), *end])


def error_event_first(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, [*wire.opening(PRIMARY), wire.error_event()])


def no_finish(wire: Wire, seen: Seen) -> Steps:
    """The body ends as it should, and the answer does not."""
    return stream(wire, _begun(wire, seen))


def empty_stream(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, [])


def no_terminator(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, _without_terminator(wire))


def two_terminators(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, [*_events(wire), wire.terminator])


def trailing_garbage(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, [*_events(wire), wire.garbage()])


def left_open(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, _events(wire), Hang())


def left_open_without_terminator(wire: Wire, seen: Seen) -> Steps:
    return stream(wire, _without_terminator(wire), Hang())


def huge_event(wire: Wire, seen: Seen) -> Steps:
    return _with_padding(wire, seen, HUGE)


def too_huge_event(wire: Wire, seen: Seen) -> Steps:
    return _with_padding(wire, seen, wire.largest_event + (1 << 18))


@cache
def _padded(wire: Wire, size: int) -> bytes:
    return wire.word("", PRIMARY, size)


def _with_padding(wire: Wire, seen: Seen, size: int) -> Steps:
    """An event without content after the first words, which are on their way to the caller by then, is this long."""
    padded = _padded(wire, size)
    later = [Send(chunk(event)) for event in (padded, *_rest(wire, seen))]
    return stream(wire, _begun(wire, seen), Pause(_ON_ITS_WAY_S), *later, Send(END))


# -- the fallback's own faults ----------------------------------------------------------------------------------------


def refuses_prefill(wire: Wire, seen: Seen) -> Steps:
    if wire.prefill(seen):
        return refuse(wire.refusal(400, "This model does not support assistant message prefill."))
    return spare(wire, seen)


def begins_anew(wire: Wire, seen: Seen) -> Steps:
    """Takes the prefill, and answers as if it had not been there."""
    return stream(wire, wire.events(TEXT, SPARE)) if wire.wants_stream(seen) else spare(wire, seen)


def cut_again(wire: Wire, seen: Seen) -> Steps:
    """Goes on from the prefill for two words."""
    rest = words_of(TEXT.removeprefix(wire.prefill(seen)))[:2]
    return stream(wire, [*wire.opening(SPARE), *(wire.word(each, SPARE) for each in rest)], Close())
