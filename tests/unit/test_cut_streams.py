"""Specifies what a stream that was cut after N chunks costs: what the provider had read and written by then, as far as it
said, else estimated; and always marked as an estimate."""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.dialects.dialect import Framing
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.usage import Cost, RequestRecord, Usage
from llm_gateway.errors import UpstreamCut
from llm_gateway.metering.estimate import estimate_request_tokens, estimate_tokens
from llm_gateway.pipeline.outcome import Outcome
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framings import FRAMINGS
from tests.contract.records import open_record
from tests.fakes.bedrock_upstream import messages
from tests.fakes.legs import leg_at

DIALECTS = Dialects()
REQUEST = read_chat_request(b'{"messages":[{"role":"user","content":"Count, please."}],"stream":true}')
WORDS = [f"word{number} " for number in range(12)]
Event = Mapping[str, Any]


def sse(event: Event) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def openai(count: int) -> list[bytes]:
    return [sse({"choices": [{"index": 0, "delta": {"content": word}}], "model": "m"}) for word in WORDS[:count]]


def anthropic(count: int) -> list[bytes]:
    counts = {"input_tokens": 100, "cache_read_input_tokens": 900, "output_tokens": 1, "service_tier": "priority"}
    message = {"id": "1", "role": "assistant", "content": [], "model": "m", "usage": counts}
    begun: list[Event] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    deltas: list[Event] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        for word in WORDS[:count]
    ]
    return [sse(event) for event in (*begun, *deltas)]


def gemini(count: int) -> list[bytes]:
    return [
        sse(
            {
                "candidates": [{"content": {"role": "model", "parts": [{"text": word}]}}],
                "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 40 * (at + 1)},
            }
        )
        for at, word in enumerate(WORDS[:count])
    ]


def bedrock(count: int) -> list[bytes]:
    deltas = [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}) for word in WORDS[:count]]
    return messages([("messageStart", {"role": "assistant"}), *deltas])


def record_of(
    dialect: str, chunks: list[bytes], *, gone: bool = True, asked_tier: str | None = None, framing: Framing = "sse"
) -> RequestRecord:
    """The record of a stream of which these chunks came before the caller left, or the provider stopped."""
    translator = DIALECTS[dialect].translator(REQUEST, "m", FRAMINGS[framing].split_events)
    leg = leg_at(request=REQUEST, sent_at=0.0, status=200, translator=translator, asked_tier=asked_tier)
    outcome = Outcome(0.0, gone=gone, legs=[leg])
    for chunk in chunks:
        translator.feed(chunk)
    if not gone:
        with pytest.raises(UpstreamCut) as cut:
            translator.finish(b"")
        outcome.error = cut.value
    return outcome.final_record(
        open_record("req_1"), 1.0, lambda _leg, usage, _model: Cost(Decimal(usage.output_tokens), "v")
    )


GUESSED = estimate_request_tokens(REQUEST.fields)


@pytest.mark.parametrize("gone", [True, False])
@given(count=st.integers(1, 12))
def test_where_counts_come_last_all_is_estimated(gone: bool, count: int) -> None:
    expected = Usage(GUESSED, estimate_tokens("".join(WORDS[:count])), estimated=True)
    assert record_of("openai_chat", openai(count), gone=gone).usage == expected
    assert record_of("bedrock_converse", bedrock(count), gone=gone, framing="aws_event_stream").usage == expected


@given(count=st.integers(1, 12))
def test_what_was_read_is_exact_where_it_is_told_first(count: int) -> None:
    usage = record_of("anthropic_messages", anthropic(count)).usage
    assert (usage.input_tokens, usage.cached_tokens, usage.service_tier) == (1000, 900, "priority")
    assert usage.output_tokens == -(-len("".join(WORDS[:count])) // 4)
    assert usage.estimated


@pytest.mark.parametrize("gone", [True, False])
@given(count=st.integers(1, 12))
def test_running_totals_are_not_the_last_word(gone: bool, count: int) -> None:
    record = record_of("gemini_generate_content", gemini(count), gone=gone)
    assert record.usage == Usage(1000, 40 * count, estimated=True)
    assert record.cost_usd == 40 * count


CUT: list[tuple[str, Callable[[int], list[bytes]], Framing]] = [
    ("openai_chat", openai, "sse"),
    ("anthropic_messages", anthropic, "sse"),
    ("gemini_generate_content", gemini, "sse"),
    ("bedrock_converse", bedrock, "aws_event_stream"),
]


@pytest.mark.parametrize(("dialect", "chunks", "framing"), CUT)
def test_the_longer_it_ran_the_more_it_costs(
    dialect: str, chunks: Callable[[int], list[bytes]], framing: Framing
) -> None:
    costs = [record_of(dialect, chunks(count), framing=framing).cost_usd or 0 for count in range(1, 13)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_a_cut_stream_is_priced_in_the_tier_that_was_asked_for() -> None:
    assert record_of("openai_chat", openai(3), asked_tier="flex").usage.service_tier == "flex"
    # What the provider said counts before it.
    told = sse({"choices": [{"index": 0, "delta": {"role": "assistant"}}], "model": "m", "service_tier": "default"})
    assert record_of("openai_chat", [told, *openai(3)], asked_tier="flex").usage.service_tier == "default"
    assert record_of("anthropic_messages", anthropic(3), asked_tier="default").usage.service_tier == "priority"


def test_counts_that_came_with_the_end_are_exact_though_the_caller_left_then() -> None:
    chunks = [
        *openai(2),
        sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        sse({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}),
    ]
    assert record_of("openai_chat", chunks).usage == Usage(7, 2)
