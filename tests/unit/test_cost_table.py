"""Specifies what real usage costs: as the provider sends it, through our dialect, buffered and streamed, to the last
decimal what genai-prices makes of the same bytes. Where that differs from the provider's bill, the table says why."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data import providers
from hypothesis import assume, given
from hypothesis import strategies as st

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.price_files import load_prices, price_version
from llm_gateway.dialects.dialect import Endpoint, Framing
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.usage import Cost, Usage
from llm_gateway.metering.cost import TOKEN_RATES, cost, format_usd
from llm_gateway.metering.prices import PriceBook
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.pricing import BookPricing, asked_tier, price_context
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request
from llm_gateway.upstream.framings import FRAMINGS
from scripts.generate_prices import RENAMED, provider_name
from tests.contract.records import plain_record
from tests.fakes.bedrock_upstream import messages
from tests.fakes.legs import leg_at
from tests.fakes.no_fallback import NO_FALLBACK
from tests.unit.cost_blocks import BLOCKS, Block

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BOOK = PriceBook(load_prices, price_version())
CATALOG = build_catalog([], {})
DIALECTS = Dialects()
ACCOUNTS = Accounts(MemoryLedger(), BookPricing(BOOK), NO_FALLBACK)
THEIRS = {ours: theirs for theirs, ours in RENAMED.items()} | {"google_vertex": "google"}
FLAVORS = {
    "openai": "chat",
    "embeddings": "embeddings",
    "anthropic": "default",
    "converse": "default",
    "gemini": "default",
}
DIALECT_OF = {
    "openai": "openai_chat",
    "embeddings": "openai_chat",
    "anthropic": "anthropic_messages",
    "converse": "bedrock_converse",
    "gemini": "gemini_generate_content",
}


def request(block: Block) -> ModelRequest:
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
    if block.asked_tier is not None:
        fields["service_tier"] = block.asked_tier
    return read_chat_request(json.dumps(fields).encode())


def body(block: Block) -> dict[str, Any]:
    """The provider's whole answer."""
    if block.wire == "embeddings":
        return {"object": "list", "data": [{"embedding": [0.5]}], "model": block.model, "usage": block.usage}
    if block.wire == "openai":
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        return {"id": "1", "model": block.model, "choices": [choice], "usage": block.usage, **block.beside}
    if block.wire == "anthropic":
        content = [{"type": "text", "text": "Hi"}]
        return {"id": "1", "type": "message", "role": "assistant", "model": block.model, "content": content,
                "stop_reason": "end_turn", "usage": block.usage}  # fmt: skip
    if block.wire == "converse":
        message = {"role": "assistant", "content": [{"text": "Hi"}]}
        return {"output": {"message": message}, "stopReason": "end_turn", "usage": block.usage, **block.beside}
    candidate = {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP", **block.beside}
    return {"candidates": [candidate], "usageMetadata": block.usage, "modelVersion": block.model}


def sse(*events: Mapping[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def stream(block: Block) -> bytes:
    """The same answer in the wire's events, its counts where the wire has them."""
    if block.wire == "openai":
        base = {"id": "1", "model": block.model, **block.beside}
        first = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        chunks = ({**base, "choices": [first]}, {**base, "choices": [last]},
                  {**base, "choices": [], "usage": block.usage})  # fmt: skip
        return sse(*chunks) + b"data: [DONE]\n\n"
    if block.wire == "anthropic":
        late = {"output_tokens", "server_tool_use", "output_tokens_details"}
        early = {**{name: count for name, count in block.usage.items() if name not in late}, "output_tokens": 1}
        totals = {name: count for name, count in block.usage.items() if name in late or name.endswith("input_tokens")}
        start = {"id": "1", "type": "message", "role": "assistant", "model": block.model, "content": [], "usage": early}
        return sse(
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": totals},
            {"type": "message_stop"},
        )
    if block.wire == "converse":
        return b"".join(
            messages(
                [
                    ("messageStart", {"role": "assistant"}),
                    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}),
                    ("contentBlockStop", {"contentBlockIndex": 0}),
                    ("messageStop", {"stopReason": "end_turn"}),
                    ("metadata", {"usage": block.usage, "metrics": {"latencyMs": 1}, **block.beside}),
                ]
            )
        )
    whole = body(block)
    begun = {"candidates": [{"content": {"role": "model", "parts": [{"text": "H"}]}}], "modelVersion": block.model,
             "usageMetadata": {"promptTokenCount": block.usage["promptTokenCount"]}}  # fmt: skip
    return sse(begun, whole)


def buffered_usage(block: Block) -> tuple[Usage, str | None]:
    endpoint: Endpoint = "embeddings" if block.wire == "embeddings" else "chat.completions"
    dialect = DIALECTS[DIALECT_OF[block.wire]]
    decoded = dialect.decode(endpoint, request(block), block.model, json.dumps(body(block)).encode())
    assert decoded.usage is not None
    return decoded.usage, decoded.model


def streamed_usage(block: Block) -> tuple[Usage, str | None]:
    framing: Framing = "aws_event_stream" if block.wire == "converse" else "sse"
    split = FRAMINGS[framing].split_events
    translator = DIALECTS[DIALECT_OF[block.wire]].translator(request(block), block.model, split)
    translator.feed(stream(block))
    translator.finish(b"")
    assert translator.usage is not None
    return translator.usage, translator.model


def bill(block: Block, usage: Usage, answered: str | None) -> Cost:
    """As the pipeline settles it."""
    provider = CATALOG.providers[block.provider]
    leg = leg_at(provider, block.model, asked_tier=asked_tier(request(block).fields, provider))
    at_ms = int(NOW.timestamp() * 1000)
    record = plain_record(provider=block.provider, routed_model=block.model, at_ms=at_ms, team=None)
    return ACCOUNTS.price(record, leg.in_tier(usage), answered, CATALOG)


def oracle(block: Block, context: Mapping[str, str] | None) -> Decimal | None:
    """genai-prices on the provider's own bytes; None where it can make nothing of them."""
    theirs = THEIRS.get(block.provider, block.provider)
    source = next(each for each in providers if each.id == theirs)
    model = source.find_model(block.model, all_providers=providers)
    if model is None:
        return None
    flavor = block.flavor or (FLAVORS[block.wire])
    try:
        _, usage = source.extract_usage(body(block), api_flavor=flavor)
    except ValueError:
        return None
    return model.calc_price(usage, source, genai_request_timestamp=NOW, price_context=context).total_price


def name(block: Block) -> str:
    return f"{block.provider}:{block.model}"


@pytest.mark.parametrize("block", BLOCKS, ids=name)
def test_what_real_usage_costs(block: Block) -> None:
    usage, answered = buffered_usage(block)
    billed = bill(block, usage, answered)
    assert billed.usd is not None
    assert format_usd(billed.usd) == block.cost
    context = price_context(leg_at(asked_tier=block.asked_tier).in_tier(usage))
    theirs = oracle(block, context)
    if block.differs is None:
        assert theirs == billed.usd
    else:
        assert "https://" in block.differs
        assert theirs != billed.usd


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.wire != "embeddings"], ids=name)
def test_a_stream_costs_what_the_whole_answer_costs(block: Block) -> None:
    assert streamed_usage(block) == buffered_usage(block)
    assert format_usd(bill(block, *streamed_usage(block)).usd or Decimal(-1)) == block.cost


def test_the_table_is_wide() -> None:
    assert len(BLOCKS) >= 60
    assert sum(block.differs is None for block in BLOCKS) >= 60
    assert {block.provider for block in BLOCKS} >= {"openai", "azure_openai", "anthropic", "gemini", "google_vertex",
                                                    "bedrock", "xai", "perplexity", "groq", "mistral"}  # fmt: skip


def test_every_price_of_the_book_has_its_count_or_is_known_to_have_none() -> None:
    uncounted = {"audio_hours", "input_audio_hours", "input_document_kpages", "input_annotated_document_kpages",
                 "input_text_messages_kcount", "input_mchars", "storage_searches_kcount"}  # fmt: skip
    keys = {
        key
        for source in providers
        for model in source.models
        for price in (model.prices if isinstance(model.prices, list) else [model])
        for key, value in price.prices.__dict__.items()
        if value is not None
    }
    assert keys - TOKEN_RATES - uncounted == {"web_searches_kcount", "requests_kcount"}


def test_a_tier_without_a_price_is_billed_as_standard_and_says_so() -> None:
    plain = Usage(input_tokens=1000, output_tokens=10)
    standard = cost(plain, BOOK.find("azure_openai", "gpt-5", NOW, {}), BOOK.version)
    priority = BookPricing(BOOK).cost(
        replace(plain, service_tier="priority"), CATALOG.providers["azure_openai"], "gpt-5", CATALOG, NOW.timestamp()
    )
    assert priority.usd == standard.usd
    assert priority.price_version == f"{standard.price_version}+standard-for-priority"


MODELS = [(source, model) for source in providers for model in source.models]
CONTEXTS: list[dict[str, str] | None] = [
    None,
    {"processing": "batch"},
    *({"service_tier": tier} for tier in ("flex", "priority", "fast", "default")),
]


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Counts as providers report them. No kind is in two others but what is cached of a medium."""
    some = st.just(0) | st.integers(0, 400_000)
    text = {kind: draw(some) for kind in ("plain", "cached", "write", "write_1h", "video")}
    audio, image = ({kind: draw(some) for kind in ("plain", "cached")} for _ in range(2))
    output = {kind: draw(some) for kind in ("plain", "reasoning", "audio", "image", "video", "citation")}
    return Usage(
        input_tokens=sum(text.values()) + sum(audio.values()) + sum(image.values()),
        output_tokens=sum(output.values()),
        cached_tokens=text["cached"] + audio["cached"] + image["cached"],
        cache_write_tokens=text["write"],
        cache_write_1h_tokens=text["write_1h"],
        reasoning_tokens=output["reasoning"],
        input_audio_tokens=sum(audio.values()),
        cached_audio_tokens=audio["cached"],
        output_audio_tokens=output["audio"],
        input_image_tokens=sum(image.values()),
        cached_image_tokens=image["cached"],
        output_image_tokens=output["image"],
        input_video_tokens=text["video"],
        output_video_tokens=output["video"],
        citation_tokens=output["citation"],
        web_searches=draw(st.integers(0, 20)),
    )


def in_their_words(usage: Usage) -> Any:
    from genai_prices import Usage as TheirUsage

    return TheirUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens + usage.cache_write_1h_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        cache_audio_read_tokens=usage.cached_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        input_image_tokens=usage.input_image_tokens,
        cache_image_read_tokens=usage.cached_image_tokens,
        output_image_tokens=usage.output_image_tokens,
        input_video_tokens=usage.input_video_tokens,
        output_video_tokens=usage.output_video_tokens,
        output_citation_tokens=usage.citation_tokens,
        web_searches=usage.web_searches,
    )


@given(usage=usages(), priced=st.sampled_from(MODELS), context=st.sampled_from(CONTEXTS))
def test_any_usage_of_any_model_costs_what_genai_prices_says(usage: Usage, priced: Any, context: Any) -> None:
    source, model = priced
    assume(source.find_model(model.id, all_providers=providers) is model)
    price = BOOK.find(provider_name(source.id), model.id, NOW, {}, context=context)
    assert price is not None
    multiplied = source.id in ("google", "anthropic") and "service_tier" in (context or {})
    assume(not multiplied)  # what genai-prices does not have: price_multipliers.toml
    ours = cost(usage, price, BOOK.version).usd
    try:
        theirs = model.calc_price(in_their_words(usage), source, genai_request_timestamp=NOW, price_context=context)
    except ValueError:
        # It refuses counts whose overlap it cannot take apart; a bill must be written all the same.
        assert usage.cached_audio_tokens or usage.cached_image_tokens
        return
    if ours is None:  # something was counted that has no price: there it costs nothing, here that is unknown
        unpriced = {"input_mtok", "output_mtok"} - price.rates.keys() or price.per_search is None
        assert unpriced
        return
    assert ours == theirs.total_price
