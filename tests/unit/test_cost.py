"""Specifies the cost of a call: exact, equal to genai-prices' own arithmetic, and never silently free."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.catalog.price_files import load_prices, price_version
from llm_gateway.domain.catalog import Price
from llm_gateway.domain.usage import Cost, Usage, total_usage
from llm_gateway.metering.cost import cost, format_usd, total_cost
from llm_gateway.metering.prices import ModelPrice, PriceBook, Rate, operator_price
from scripts.generate_prices import RENAMED

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BOOK = PriceBook(load_prices, price_version())
THEIRS = {ours: theirs for theirs, ours in RENAMED.items()}

FULL = operator_price(
    Price(
        input="1",
        output="10",
        cached_input="0.1",
        cache_write_5m="1.25",
        cache_write_1h="2",
        reasoning="20",
        audio_input="40",
        audio_output="80",
    )
)
PLAIN = operator_price(Price(input="1", output="10"))


def usd(usage: Usage, price: ModelPrice | None) -> str | None:
    found = cost(usage, price, "book").usd
    return None if found is None else format_usd(found)


@pytest.mark.parametrize(
    ("usage", "price", "expected"),
    [
        (Usage(), PLAIN, "0"),
        (Usage(input_tokens=1), PLAIN, "0.000001"),
        (Usage(input_tokens=1000, output_tokens=23), PLAIN, "0.00123"),
        (Usage(input_tokens=1_000_000, output_tokens=900_000), PLAIN, "10"),
        # A kind with a price of its own is taken off the kind around it …
        (Usage(input_tokens=1000, cached_tokens=400), FULL, "0.00064"),
        (Usage(input_tokens=1000, cache_write_tokens=400), FULL, "0.0011"),
        (Usage(input_tokens=1000, cache_write_1h_tokens=400), FULL, "0.0014"),
        (Usage(input_tokens=1000, cached_tokens=100, cache_write_tokens=200, cache_write_1h_tokens=300), FULL,
         "0.00126"),
        (Usage(input_tokens=1000, input_audio_tokens=100), FULL, "0.0049"),
        # Cached audio is billed once, as cached.
        (Usage(input_tokens=1000, cached_tokens=300, input_audio_tokens=200, cached_audio_tokens=100), FULL, "0.00463"),
        (Usage(output_tokens=1000, reasoning_tokens=400), FULL, "0.014"),
        (Usage(output_tokens=1000, output_audio_tokens=400), FULL, "0.038"),
        # … and one without costs what is around it.
        (Usage(input_tokens=1000, cached_tokens=400, cache_write_tokens=100, input_audio_tokens=10), PLAIN, "0.001"),
        (Usage(output_tokens=1000, reasoning_tokens=400, output_audio_tokens=10), PLAIN, "0.01"),
        (Usage(input_tokens=1000, cache_write_1h_tokens=400),
         operator_price(Price("1", "10", cache_write_5m="1.25")), "0.0011"),
        # Counts that contradict each other: all that is reported is billed, nothing is refunded.
        (Usage(input_tokens=10, cached_tokens=1000), FULL, "0.0001"),
        (Usage(output_tokens=10, reasoning_tokens=1000), FULL, "0.02"),
        (Usage(input_tokens=1000, output_tokens=10), operator_price(Price("0", "0", per_request="0.005")), "0.005"),
        (Usage(input_tokens=1000), operator_price(Price("1", "1", per_request="0.005")), "0.006"),
    ],
)  # fmt: skip
def test_what_a_call_costs(usage: Usage, price: ModelPrice, expected: str) -> None:
    assert usd(usage, price) == expected


def test_context_tiers_price_every_token_by_the_size_of_the_input() -> None:
    price = ModelPrice(
        {
            "input_mtok": Rate(Decimal("1.25"), ((200_000, Decimal("2.5")),)),
            "output_mtok": Rate(Decimal(10), ((200_000, Decimal(15)),)),
        },
        "book",
    )
    assert usd(Usage(input_tokens=200_000, output_tokens=1000), price) == "0.26"
    assert usd(Usage(input_tokens=200_001, output_tokens=1000), price) == "0.5150025"


@pytest.mark.parametrize(
    ("usage", "price"),
    [
        (Usage(input_tokens=5), None),
        (Usage(), None),
        # A model that is sold by the hour of audio, and one without a price for its output.
        (Usage(), ModelPrice({}, "book")),
        (Usage(input_tokens=5), ModelPrice({}, "book")),
        (Usage(input_tokens=5, output_tokens=1), ModelPrice({"input_mtok": Rate(Decimal(1))}, "book")),
        (Usage(output_tokens=5, reasoning_tokens=1), ModelPrice({"output_reasoning_mtok": Rate(Decimal(1))}, "book")),
    ],
)
def test_unpriced_is_flagged_and_not_free(usage: Usage, price: ModelPrice | None) -> None:
    assert cost(usage, price, "book") == Cost(None, "book")


def test_embeddings_need_no_price_for_output() -> None:
    assert usd(Usage(input_tokens=5), ModelPrice({"input_mtok": Rate(Decimal("0.02"))}, "book")) == "0.0000001"


def test_the_version_is_that_of_the_price() -> None:
    assert cost(Usage(), PLAIN, "book").price_version == PLAIN.version
    assert cost(Usage(), None, "book").price_version == "book"


def test_nothing_is_rounded_whatever_the_ambient_context() -> None:
    price = operator_price(Price("123456789.123456789012", "0.000000000001"))
    with localcontext() as context:
        context.prec = 3
        found = cost(Usage(input_tokens=9_999_999_999, output_tokens=1), price, "book").usd
    assert found is not None
    sign, digits, exponent = found.as_tuple()
    assert (sign, exponent) == (0, -18)
    assert int("".join(map(str, digits))) == 123456789123456789012 * 9_999_999_999 + 1
    assert len(found.as_tuple().digits) <= 38  # DynamoDB's numbers


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.00123000", "0.00123"),
        ("1E+1", "10"),
        ("100", "100"),
        ("0", "0"),
        ("0E-9", "0"),
        ("-0", "0"),
        ("1E-7", "0.0000001"),
    ],
)
def test_money_is_written_plainly(amount: str, text: str) -> None:
    assert format_usd(Decimal(amount)) == text


def oracle(provider: str, model: str, usage: Usage) -> Decimal:
    """genai-prices' own answer. Raises `ValueError` where it finds the counts inconsistent."""
    from genai_prices import Usage as TheirUsage
    from genai_prices import calc_price

    counts: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "cache_audio_read_tokens": usage.cached_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
    }
    return calc_price(
        TheirUsage(**counts), model_ref=model, provider_id=THEIRS.get(provider, provider), genai_request_timestamp=NOW
    ).total_price


USAGE_BLOCKS = [
    ("openai", "gpt-4o", Usage(input_tokens=1234, output_tokens=567, cached_tokens=1024)),
    ("openai", "gpt-5", Usage(input_tokens=90_001, output_tokens=4567, cached_tokens=88_064, reasoning_tokens=3904)),
    ("openai", "gpt-4o-audio-preview", Usage(input_tokens=900, output_tokens=300, input_audio_tokens=700,
                                                     output_audio_tokens=250)),
    ("openai", "text-embedding-3-small", Usage(input_tokens=8191)),
    ("azure_openai", "gpt-4o", Usage(input_tokens=1234, output_tokens=567, cached_tokens=1024)),
    ("anthropic", "claude-sonnet-4-5", Usage(input_tokens=210_000, output_tokens=999, cached_tokens=150_000,
                                             cache_write_tokens=30_000, cache_write_1h_tokens=20_000)),
    ("anthropic", "claude-3-5-haiku-latest", Usage(input_tokens=5000, output_tokens=1, cache_write_1h_tokens=4096)),
    ("gemini", "gemini-2.5-pro", Usage(input_tokens=200_001, output_tokens=8192, cached_tokens=100_000,
                                       reasoning_tokens=6000)),
    ("gemini", "gemini-2.5-flash", Usage(input_tokens=50_000, output_tokens=10, input_audio_tokens=40_000,
                                         cached_tokens=8000, cached_audio_tokens=5000)),
    ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(input_tokens=5000, output_tokens=100,
                                                                        cached_tokens=4000)),
    ("openrouter", "anthropic/claude-3.5-sonnet", Usage(input_tokens=5000, output_tokens=100)),
    ("deepseek", "deepseek-chat", Usage(input_tokens=3000, output_tokens=200, cached_tokens=2944)),
    ("groq", "llama-3.3-70b-versatile", Usage(input_tokens=3000, output_tokens=200)),
    ("mistral", "mistral-large-latest", Usage(input_tokens=3001, output_tokens=203)),
    ("xai", "grok-4", Usage(input_tokens=130_000, output_tokens=200, cached_tokens=64, reasoning_tokens=150)),
    ("perplexity", "sonar", Usage(input_tokens=14, output_tokens=300)),
    ("cohere", "command-r-plus", Usage(input_tokens=14, output_tokens=300)),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "usage"), USAGE_BLOCKS)
def test_real_usage_costs_what_genai_prices_says(provider: str, model: str, usage: Usage) -> None:
    found = cost(usage, BOOK.find(provider, model, NOW, {}), BOOK.version).usd
    assert found is not None
    assert found == oracle(provider, model, usage)
    assert found > 0


def part(of: int) -> st.SearchStrategy[int]:
    return st.integers(0, of)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Counts as providers report them: the kinds of input overlap only where audio is cached."""
    text = {kind: draw(part(1_000_000)) for kind in ("plain", "cached", "write", "write_1h")}
    audio = {kind: draw(st.just(0) | part(300_000)) for kind in ("plain", "cached")}
    output = {kind: draw(part(200_000)) for kind in ("plain", "reasoning", "audio")}
    return Usage(
        input_tokens=sum(text.values()) + sum(audio.values()),
        output_tokens=sum(output.values()),
        cached_tokens=text["cached"] + audio["cached"],
        cache_write_tokens=text["write"],
        cache_write_1h_tokens=text["write_1h"],
        reasoning_tokens=output["reasoning"],
        input_audio_tokens=sum(audio.values()),
        cached_audio_tokens=audio["cached"],
        output_audio_tokens=output["audio"],
    )


@given(usage=usages(), block=st.sampled_from(USAGE_BLOCKS))
def test_any_usage_costs_what_genai_prices_says(usage: Usage, block: tuple[str, str, Usage]) -> None:
    provider, model, _ = block
    found = cost(usage, BOOK.find(provider, model, NOW, {}), BOOK.version).usd
    if found is None:
        assert model.startswith("text-embedding")  # output tokens from a model that is sold without any
        return
    try:
        expected = oracle(provider, model, usage)
    except ValueError:
        # It refuses counts whose overlap it cannot take apart; a bill must be written all the same.
        assert usage.cached_audio_tokens
        assert found > 0
        return
    assert found == expected


@given(usage=usages(), more=st.integers(1, 1000))
def test_more_tokens_never_cost_less(usage: Usage, more: int) -> None:
    before = cost(usage, FULL, "book").usd
    for field in ("input_tokens", "output_tokens"):
        after = cost(replace(usage, **{field: getattr(usage, field) + more}), FULL, "book").usd
        assert before is not None
        assert after is not None
        assert after > before


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
def test_several_calls_cost_the_sum_of_each(counts: list[int]) -> None:
    price = operator_price(Price(input="0.0123456789", output="0", per_request="0.0001"))
    parts = [cost(Usage(input_tokens=count), price, "book") for count in counts]
    found = total_cost(parts)
    assert found.usd == Decimal(sum(counts)) * Decimal("0.0123456789") / 10**6 + len(counts) * Decimal("0.0001")
    assert found.price_version == parts[0].price_version


def test_several_calls_of_which_one_has_no_price_are_not_free() -> None:
    assert total_cost([Cost(Decimal(1), "v"), Cost(None, "v")]) == Cost(None, "v")


def test_several_calls_use_the_sum_of_each() -> None:
    first = Usage(input_tokens=3, cached_tokens=1, told_cost_usd=Decimal("0.1"))
    second = Usage(input_tokens=4, output_tokens=2, told_cost_usd=Decimal("0.2"), estimated=True)
    assert total_usage([first, second]) == Usage(7, 2, 1, told_cost_usd=Decimal("0.3"), estimated=True)
    assert total_usage([first, Usage(input_tokens=1)]).told_cost_usd is None
