"""The passthrough of a stream: which failures it sees, and that it does not parse what it need not."""

from collections.abc import Sequence

import pytest

from llm_gateway.dialects.dialect import StreamEvent
from llm_gateway.dialects.openai_chat_stream import OpenAIStream
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed
from llm_gateway.upstream.framing import split_events

ROLE = b'data: {"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
WORD = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
END = b'data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def stream(choices: int = 1) -> OpenAIStream:
    return OpenAIStream(hide_usage=True, choices=choices, split_events=split_events)


def run(*blocks: bytes, rest: bytes = b"", choices: int = 1) -> bytes:
    translator = stream(choices)
    return b"".join([*(translator.feed(block) for block in blocks), translator.finish(rest)])


def test_plain_chunks_are_not_parsed_once_content_has_come() -> None:
    parsed: list[bytes] = []

    def counting(block: bytes) -> Sequence[StreamEvent]:
        parsed.append(block)
        return split_events(block)

    translator = OpenAIStream(hide_usage=True, choices=1, split_events=counting)
    for block in (ROLE, WORD, *[WORD * 3] * 50, END, DONE):
        translator.feed(block)
    assert parsed == [ROLE, WORD, END, DONE]
    assert translator.complete


@pytest.mark.parametrize(
    "first", [ROLE, ROLE + ROLE, b": comment\n\n", b'data: {"choices":[],"prompt_filter_results":[]}\n\n']
)
def test_only_content_starts_a_stream(first: bytes) -> None:
    translator = stream()
    assert translator.feed(first) == first
    assert not translator.started
    translator.feed(WORD)
    assert translator.started


@pytest.mark.parametrize(
    "delta",
    [
        b'{"content":"x"}',
        b'{"reasoning_content":"x"}',
        b'{"refusal":"no"}',
        b'{"tool_calls":[{"index":0}]}',
        b'{"audio":{"id":"a"}}',
        b'{"from_the_future":1}',
    ],
)
def test_every_kind_of_content_starts_it(delta: bytes) -> None:
    translator = stream()
    translator.feed(b'data: {"choices":[{"index":0,"delta":%b}]}\n\n' % delta)
    assert translator.started


def test_a_stream_with_every_finish_reason_is_whole_without_done() -> None:
    assert run(ROLE, WORD, END) == ROLE + WORD + END + DONE
    assert run(ROLE, WORD, rest=END[:-1]).endswith(DONE)


@pytest.mark.parametrize(
    ("blocks", "rest", "choices"),
    [
        ((), b"", 1),
        ((ROLE, WORD), b"", 1),
        ((ROLE, WORD), b'data: {"choices":[{"ind', 1),
        ((ROLE, WORD, END), b"", 2),
    ],
)
def test_a_stream_that_ends_early_was_cut(blocks: tuple[bytes, ...], rest: bytes, choices: int) -> None:
    with pytest.raises(UpstreamCut):
        run(*blocks, rest=rest, choices=choices)


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b'data: {"error":{"message":"x","code":429}}\n\n', 429),
        (b'data: {"error":{"message":"x","type":"server_error"}}\n\n', 502),
        (b'event: error\ndata: {"message":"x"}\n\n', 502),
        (
            b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],"error":{"code":503,"message":"down"}}\n\n',
            503,
        ),
        (b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}\n\n', 502),
        (b'data: {"choices":[{"index":0,"error":{"code":429,"message":"x"}}]}\n\n', 429),
        (b"data: <html>\n\n", 502),
        (b"data: 17\n\n", 502),
        (b'data: {"choices":[17]}\n\n', 502),
        (b'data: {"choices":[{"index":"a"}]}\n\n', 502),
    ],
)
@pytest.mark.parametrize("before", [(), (ROLE, WORD)])
def test_an_error_in_the_stream_is_an_error(before: tuple[bytes, ...], block: bytes, status: int) -> None:
    with pytest.raises(UpstreamError) as caught:
        run(*before, block)
    assert caught.value.http_status == status


def test_done_without_an_answer_is_no_success() -> None:
    with pytest.raises(UpstreamMalformed):
        run(DONE)


def test_words_that_look_like_fields_are_text() -> None:
    quoting = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"\\"usage\\": {\\"error\\": 1} [DONE]"},"finish_reason":null}]}\n\n'
    assert run(ROLE, WORD, quoting, END, DONE) == ROLE + WORD + quoting + END + DONE


def test_what_was_written_is_kept_in_bounded_memory() -> None:
    translator = stream()
    translator.feed(ROLE + WORD)
    long = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 100_000)
    for _ in range(50):
        translator.feed(long)
    assert translator._seen_size <= 4 << 20
    assert translator.text() == "hi" + "x" * 5_000_000


def test_content_in_front_of_a_failure_still_goes_out() -> None:
    translator = stream()
    translator.feed(WORD)
    assert translator.feed(WORD + b"data: <html>\n\n" + WORD) == WORD
    assert translator.complete
    with pytest.raises(UpstreamMalformed):
        translator.finish(b"")
    assert translator.text() == "hihi"


@pytest.mark.parametrize("empty", [b"data:\n\n", b"data\n\n", b"data: \n\n", b"event: ping\n\n", b"retry: 3000\n\n"])
def test_an_event_without_data_is_dropped_wherever_it_stands(empty: bytes) -> None:
    """OpenAI's SDK would parse the data, and there is none."""
    whole = ROLE + WORD + END + DONE
    assert run(empty + ROLE, WORD + empty, empty, END, empty, DONE) == whole
    assert run(ROLE, WORD, END, rest=empty.rstrip(b"\n")) == whole


def test_comments_pass() -> None:
    comments = b": ping\n\n", b": one\r\n: two\r\n\r\n"
    assert run(ROLE, WORD, *comments, END, DONE) == b"".join([ROLE, WORD, *comments, END, DONE])


def test_an_emoji_torn_between_two_chunks_goes_on_as_it_came() -> None:
    high, low = WORD.replace(b"hi", rb"\ud83d"), WORD.replace(b"hi", rb"\ude00")
    translator = stream()
    assert b"".join(map(translator.feed, [ROLE, high, low, high + WORD])) == ROLE + high + low + high + WORD
    assert translator.text() == "\ufffd\ufffd\ufffdhi"
    assert translator.feed(END) + translator.feed(DONE) + translator.finish(b"") == END + DONE
