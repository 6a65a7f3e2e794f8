"""Specifies, for every wire, what an event that cannot be read, a missing or doubled end, and garbage behind it mean."""

import pytest

from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed, UpstreamUnavailable
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framings import FRAMINGS
from tests.fakes.bedrock_upstream import message
from tests.unit.stream_wires import ANTHROPIC, BEDROCK, GEMINI, NAMES, OPENAI, WIRES, Wire, chunks_of, content_of, sse

every_wire = pytest.mark.parametrize("wire", WIRES, ids=NAMES)


def run(wire: Wire, events: list[bytes], rest: bytes = b"") -> bytes:
    translator = wire.translator()
    return b"".join([*map(translator.feed, events), translator.finish(rest)])


@every_wire
def test_an_answer_is_whole_with_its_last_finish_reason(wire: Wire) -> None:
    translator = wire.translator()
    for event in [*wire.start, wire.text("a"), wire.text("b")]:
        translator.feed(event)
        assert not translator.whole
    translator.feed(wire.end[0])
    assert translator.whole


@every_wire
@pytest.mark.parametrize("before", [1, 2])
def test_an_event_that_cannot_be_read_fails_an_answer_that_is_not_whole(wire: Wire, before: int) -> None:
    with pytest.raises(UpstreamMalformed):
        run(wire, [*wire.start, *[wire.text("a")] * before, wire.malformed, *wire.end])


@every_wire
def test_what_stands_before_it_goes_out_first_and_nothing_behind_it(wire: Wire) -> None:
    translator = wire.translator()
    for event in [*wire.start, wire.text("a")]:
        translator.feed(event)
    out = translator.feed(wire.text("b") + wire.malformed + wire.text("c") + b"".join(wire.end))
    assert content_of(out) == "b"
    assert translator.complete
    assert translator.said().content == "ab"
    with pytest.raises(UpstreamMalformed):
        translator.finish(b"")


@every_wire
def test_nothing_goes_out_of_a_first_block_that_cannot_be_read(wire: Wire) -> None:
    translator = wire.translator()
    with pytest.raises(UpstreamMalformed):
        translator.feed(b"".join(wire.start) + wire.text("a") + wire.malformed)


@every_wire
@pytest.mark.parametrize("together", [True, False])
def test_once_it_is_whole_it_is_skipped(wire: Wire, together: bool) -> None:
    finish, *after = wire.end
    events = [*wire.start, wire.text("a"), finish, wire.malformed, *after, wire.malformed]
    given = [*events[: len(wire.start) + 1], b"".join(events[len(wire.start) + 1 :])] if together else events
    assert run(wire, given) == run(wire, wire.stream("a"))


@every_wire
def test_without_its_end_a_whole_answer_is_complete(wire: Wire) -> None:
    out = run(wire, [*wire.start, wire.text("a"), wire.end[0]])
    assert out.endswith(b"data: [DONE]\n\n")
    assert content_of(out) == "a"
    assert [choice["finish_reason"] for chunk in chunks_of(out) for choice in chunk["choices"]][-1] == "stop"


@every_wire
@pytest.mark.parametrize("rest", [b"", b"\x00\x00\x00", b"data: {"])
def test_without_a_finish_reason_it_was_cut(wire: Wire, rest: bytes) -> None:
    with pytest.raises(UpstreamCut):
        run(wire, [*wire.start, wire.text("a")], rest)


@every_wire
def test_an_end_that_comes_twice_is_one(wire: Wire) -> None:
    assert run(wire, [*wire.stream("a"), wire.end[-1]]) == run(wire, wire.stream("a"))
    *events, last = wire.stream("a")
    assert run(wire, [*events, last + last]) == run(wire, wire.stream("a"))


@every_wire
@pytest.mark.parametrize("garbage", [b"<html>", b"\xff\xfe", b"data: [DONE", b"data: {oops}"])
def test_garbage_behind_the_end_is_nothing(wire: Wire, garbage: bytes) -> None:
    assert run(wire, wire.stream("a"), garbage) == run(wire, wire.stream("a"))
    if wire.framing == "sse":
        assert run(wire, [*wire.stream("a"), garbage + b"\n\n"]) == run(wire, wire.stream("a"))


def test_a_failure_behind_bedrocks_end_is_nothing() -> None:
    late = message("internalServerException", {"message": "x"}, "exception")
    *events, last = BEDROCK.stream("a")
    assert run(BEDROCK, [*events, last + late]) == run(BEDROCK, BEDROCK.stream("a"))


def test_the_providers_own_error_counts_though_the_answer_is_whole() -> None:
    overloaded = sse({"type": "error", "error": {"type": "overloaded_error", "message": "x"}})
    with pytest.raises(UpstreamUnavailable):
        run(ANTHROPIC, [*ANTHROPIC.start, ANTHROPIC.text("a"), ANTHROPIC.end[0], overloaded])


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {oops}\n\n",
        b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"choices":[{"index":0.5,"delta":{"content":"x"}}]}\n\n',
        b"data: {}{}\n\n",
        b'data: {"choices":[{"index":0,"delta":\ndata2: {"content":"x"}}]}\n\n',
        b'data: {"choices":[{"index":0,\n"delta":{"content":"x"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"x"}}\n\ndata: ]}\n\n',
        b'data: {"choices":[{"index":0,"delta":\r{"content":"x"}}]}\n\n',
    ],
)
@pytest.mark.parametrize("around", [b"", OPENAI.text("b")])
def test_the_passthrough_reads_every_event(bad: bytes, around: bytes) -> None:
    """Also among chunks that it forwards as they come."""
    with pytest.raises(UpstreamMalformed):
        run(OPENAI, [*OPENAI.start, OPENAI.text("a"), around + bad + around, *OPENAI.end])


def test_of_several_candidates_each_has_to_end() -> None:
    first = sse({"candidates": [{"index": 0, "content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}],
                 "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}})  # fmt: skip
    two = read_chat_request(b'{"messages":[{"role":"user","content":"x"}],"stream":true,"n":2}')
    translator = GEMINI.translator(two)
    translator.feed(first)
    assert not translator.whole
    assert not translator.complete
    translator.feed(first.replace(b'"index": 0', b'"index": 1'))
    assert translator.whole
    assert translator.complete


def test_the_passthrough_changes_no_byte_of_what_it_reads() -> None:
    odd = b'data:{"choices" : [ {"delta":{"content":"x","n":12345678901234567890123}} ],"new":null}\n\n'
    assert run(OPENAI, [*OPENAI.start, OPENAI.text("a"), odd + odd, *OPENAI.end]).count(odd) == 2


@every_wire
def test_only_what_is_written_counts_as_content(wire: Wire) -> None:
    translator = wire.translator()
    counts = [translator.contents]
    for event in [*wire.start, wire.text("a"), wire.text("b") + wire.text("c"), wire.call]:
        translator.feed(event)
        counts.append(translator.contents)
    assert counts[: len(wire.start) + 1] == [0] * (len(wire.start) + 1)
    assert counts == sorted(counts)
    assert len(set(counts)) == 4


def test_empty_deltas_and_comments_are_no_content_in_the_passthrough() -> None:
    translator = OPENAI.translator()
    for event in [*OPENAI.start, OPENAI.text("a")]:
        translator.feed(event)
    seen = translator.contents
    for event in [b": ping\n\n", OPENAI.text(""), *OPENAI.start, OPENAI.text("") * 3]:
        assert translator.feed(event) == event
    assert translator.contents == seen


@pytest.mark.parametrize("size", [3 << 20, 9 << 20])
def test_a_huge_event_passes_up_to_the_limit(size: int) -> None:
    splitter, translator = FRAMINGS["sse"].splitter(), OPENAI.translator()
    event = OPENAI.text("x" * size)
    for part in OPENAI.start:
        translator.feed(splitter.feed(part))

    def read() -> bytes:
        pieces = [event[at : at + 65536] for at in range(0, len(event), 65536)]
        return b"".join([translator.feed(block) for piece in pieces if (block := splitter.feed(piece))])

    if size > 8 << 20:
        with pytest.raises(UpstreamMalformed):
            read()
    else:
        assert read() == event
        assert len(translator.said().content) == size


def test_a_wrong_checksum_is_told_by_the_splitter_once_what_precedes_it_is_out() -> None:
    splitter = FRAMINGS["aws_event_stream"].splitter()
    good, bad = BEDROCK.text("a"), BEDROCK.text("b")[:-1] + b"\x00"
    assert splitter.feed(good + bad) == good
    with pytest.raises(UpstreamMalformed):
        splitter.feed(BEDROCK.text("c"))


@every_wire
def test_every_failure_is_an_upstream_error(wire: Wire) -> None:
    """Whatever member of whatever event is of whatever type."""
    for event in wire.stream("a"):
        for old, new in ((b'"', b"1"), (b":", b","), (b"{", b"["), (b"0", b'"x"'), (b"[{", b"[[{"), (b"true", b"2")):
            if wire.framing == "sse" and old in event:
                translator = wire.translator()
                try:
                    for other in wire.stream("a"):
                        translator.feed(event.replace(old, new) if other is event else other)
                    translator.finish(b"")
                except UpstreamError:
                    continue
