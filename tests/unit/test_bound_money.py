"""Specifies the bound in money: no bill within the bound's tokens is ever above it, and what fits is exact."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.catalog.capabilities import capability
from llm_gateway.catalog.price_files import load_prices, price_version
from llm_gateway.domain.catalog import Dialect, Price, Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest
from llm_gateway.metering.bound import Bound, Ceiling, prices_that_may_apply, upper_bound
from llm_gateway.metering.bound_openrouter import capped_hosts
from llm_gateway.metering.cost import cost
from llm_gateway.metering.prices import ModelPrice, PriceBook, Rate, operator_price

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BOOK = PriceBook(load_prices, price_version())
DIALECTS: Mapping[str, Dialect] = {
    "anthropic": "anthropic_messages", "gemini": "gemini_generate_content", "bedrock": "bedrock_converse",
}  # fmt: skip
VENDORS = (
    "openai",
    "azure_openai",
    "anthropic",
    "gemini",
    "bedrock",
    "openrouter",
    "mistral",
    "groq",
    "xai",
    "deepseek",
)


def rates(**prices: str) -> ModelPrice:
    return ModelPrice({f"{kind}_mtok": Rate(Decimal(text)) for kind, text in prices.items()}, "book")


def sold(vendor: str, model: str) -> ModelPrice | None:
    price = BOOK.find(vendor, model, NOW, {})
    return price if price and {"input_mtok", "output_mtok"} <= price.rates.keys() else None


MODELS = [
    (vendor, model)
    for vendor in VENDORS
    for model in BOOK.models(vendor)
    if (price := sold(vendor, model))
    and not {"unbounded", "" if "output_image_mtok" in price.rates else "writes_images"}
    & capability("limits", f"{vendor}:{model}".lower()).keys()
]


def test_the_book_is_there() -> None:
    assert len(MODELS) > 500


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A chat request and the tokens that a tokenizer of single bytes makes of it, with OpenAI's frame of 3 a message."""
    texts = draw(st.lists(st.text(max_size=40), min_size=1, max_size=4))
    marked = draw(st.sampled_from([None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}]))
    tools = [
        {"type": "function", "function": {"name": "f", "description": draw(st.text(max_size=40))}}
        for _ in range(draw(st.integers(0, 2)))
    ]
    fields: dict[str, Any] = {
        "messages": [{"role": "user", "content": text} for text in texts],
        "max_tokens": draw(st.integers(1, 200_000)),
        "n": draw(st.sampled_from([None, 1, 3])),
        "tools": tools,
        "cache_control": marked,
    }
    # Of ten a model's context is filled, so that the dearer tiers are reached.
    if draw(st.integers(0, 9)) == 0:
        fields["messages"].append({"role": "user", "content": "x" * draw(st.integers(100_000, 400_000))})
    contents = sum(len(each["content"].encode("utf-8", "surrogatepass")) + 7 for each in fields["messages"])
    try:
        described = len(orjson.dumps(tools)) if tools else 0
    except orjson.JSONEncodeError:
        fields["tools"], described = [], 0
    return fields, 3 + contents + described


@st.composite
def usages(draw: st.DrawFn, fields: dict[str, Any], input_tokens: int, *, writes: bool) -> Usage:
    """What a provider may report of it: each token once, of any kind that the request allows."""
    total = draw(st.integers(0, input_tokens) | st.just(input_tokens))
    marked = fields["cache_control"] or {}
    five = draw(st.integers(0, total)) if writes else 0
    hour = draw(st.integers(0, total - five)) if "ttl" in marked else 0
    most = fields["max_tokens"] * (fields["n"] or 1)
    written = draw(st.integers(0, most) | st.just(most))
    return Usage(
        input_tokens=total,
        output_tokens=written,
        cache_write_tokens=five,
        cache_write_1h_tokens=hour,
        cached_tokens=draw(st.integers(0, total - five - hour)),
        reasoning_tokens=draw(st.integers(0, written)),
    )


@settings(max_examples=400, deadline=None)  # a prompt of 400 kB, on a busy machine
@given(st.data(), requests(), st.sampled_from(MODELS))
def test_no_bill_is_above_the_bound(data: st.DataObject, request: tuple[dict[str, Any], int],
                                    sold_as: tuple[str, str]) -> None:  # fmt: skip
    fields, counted = request
    vendor, model = sold_as
    dialect = DIALECTS.get(vendor, "openai_chat")
    price = sold(vendor, model)
    assert price is not None
    draws = "output_image_mtok" in price.rates
    bound = upper_bound(
        fields, "chat.completions", Provider(vendor, dialect, None), model, price.context_window, prices_images=draws
    )
    # No provider reads more than the model's context window.
    window = capability("limits", f"{vendor}:{model}".lower()).get("context_window", counted)
    assert bound.input_tokens >= min(counted, window)
    writes = fields["cache_control"] is not None or dialect == "openai_chat"
    usage = data.draw(usages(fields, min(counted, window), writes=writes))
    billed = cost(usage, price, "").usd
    assert billed is not None
    assert bound.output_tokens is not None
    assert billed <= bound.usd(price, bound.output_tokens)
    if draws:  # a picture of 1,290 tokens, whatever the caller's maximum
        drawn = replace(usage, output_tokens=max(1290, usage.output_tokens), output_image_tokens=1290)
        assert (cost(drawn, price, "").usd or 0) <= bound.usd(price, bound.output_tokens)
    assert bound.usd(price, usage.output_tokens) <= bound.usd(price, bound.output_tokens)


AUDIO = rates(input="2", input_audio="32", cache_read="0.5", output="10", output_audio="64")


@given(st.data(), st.integers(0, 5000), st.integers(0, 5000))
def test_no_bill_for_audio_is_above_the_bound_however_cached_audio_is_counted(
    data: st.DataObject, text: int, audio: int
) -> None:
    bound = Bound(text + audio, 500, None, kinds=frozenset({"audio", "audio_output"}))
    usage = Usage(
        input_tokens=text + audio,
        output_tokens=500,
        cached_tokens=data.draw(st.integers(0, text + audio)),
        input_audio_tokens=audio,
        output_audio_tokens=data.draw(st.integers(0, 500)),
    )
    billed = cost(usage, AUDIO, "").usd
    assert billed is not None
    assert billed <= bound.usd(AUDIO, 500)


MONEY = st.decimals(0, 1000, allow_nan=False, allow_infinity=False, places=9)


@given(fixed=MONEY, each=MONEY.filter(bool), left=MONEY | st.decimals(-5, 0, places=3))
def test_what_fits_is_the_most_that_fits(fixed: Decimal, each: Decimal, left: Decimal) -> None:
    ceiling = Ceiling(fixed, each)
    with localcontext() as context:
        context.prec = 3  # the ambient context rounds nothing
        fits = ceiling.output_that_fits(left)
        least, next_one = ceiling.usd(fits), ceiling.usd(fits + 1)
    if fits >= 0:
        assert least <= left
    assert left < next_one


def test_what_fits_by_example() -> None:
    price = rates(input="1", output="2")
    bound = Bound(1_000_000, 100, None)
    assert bound.usd(price, 500_000) == Decimal(2)
    assert bound.output_that_fits(price, Decimal(2)) == 500_000
    assert bound.output_that_fits(price, Decimal("1.999999")) == 499_999
    assert bound.output_that_fits(price, Decimal(1)) == 0
    assert bound.output_that_fits(price, Decimal("0.9999999")) == -1
    assert bound.output_that_fits(rates(input="0", output="0"), Decimal(0)) > 10**9


@pytest.mark.parametrize(
    ("bound", "price", "expected"),
    [
        (Bound(1_000_000, 0, None), rates(input="1", output="2"), "1"),
        # The dearest of what could apply, and nothing of what could not.
        (Bound(1_000_000, 0, None), rates(input="1", cache_write="1.25", cache_write_1h="2", output="2"), "1"),
        (Bound(1_000_000, 0, None, cache_writes=True),
         rates(input="1", cache_write="1.25", cache_write_1h="2", output="2"), "1.25"),
        (Bound(1_000_000, 0, None, cache_writes=True, hour_writes=True),
         rates(input="1", cache_write="1.25", cache_write_1h="2", output="2"), "2"),
        (Bound(1_000_000, 0, None, cache_writes=True, hour_writes=True),
         rates(input="1", cache_write="1.25", output="2"), "2"),
        (Bound(1_000_000, 0, None), rates(input="1", input_audio="40", output="2"), "1"),
        (Bound(1_000_000, 0, None, kinds=frozenset({"audio"})), rates(input="1", input_audio="40", output="2"), "40"),
        (Bound(1_000_000, 0, None, kinds=frozenset({"image"})),
         rates(input="1", input_audio="40", input_image="3", cache_read="0.5", output="2"), "3.5"),
        (Bound(0, 1_000_000, None), rates(input="1", output="2", output_reasoning="3"), "3"),
        (Bound(0, 1_000_000, None), rates(input="1", output="2", output_audio="80"), "2"),
        (Bound(0, 1_000_000, None, kinds=frozenset({"audio_output"})),
         rates(input="1", output="2", output_audio="80"), "80"),
        (Bound(0, 1_000_000, None, predicted_tokens=500_000), rates(input="1", output="2"), "3"),
        (Bound(1_000_000, 0, 0), rates(input="0.02"), "0.02"),
        (Bound(1_000_000, 0, None), operator_price(Price("1", "2", per_request="0.005")), "1.005"),
    ],
)  # fmt: skip
def test_the_bound_in_dollars(bound: Bound, price: ModelPrice, expected: str) -> None:
    assert bound.usd(price, bound.output_tokens or 0) == Decimal(expected)


def test_nothing_is_rounded_whatever_the_ambient_context() -> None:
    price = rates(input="1.234567", input_audio="2.345678", cache_read="0.123456", output="9.876543")
    bound = Bound(9_999_999_999, None, None, predicted_tokens=7, kinds=frozenset({"audio"}))
    with localcontext() as context:
        context.prec = 3
        found = bound.usd(price, 3)
    micro = 9_999_999_999 * (2_345_678 + 123_456) + 10 * 9_876_543
    assert found == Decimal(micro).scaleb(-12)


def test_context_tiers_count_as_far_as_the_input_can_reach() -> None:
    tiers = {"input_mtok": Rate(Decimal(1), ((200_000, Decimal(2)),)),
             "output_mtok": Rate(Decimal(10), ((200_000, Decimal(15)),))}  # fmt: skip
    price = ModelPrice(tiers, "book")
    assert Bound(200_000, 1_000_000, None).usd(price, 1_000_000) == Decimal("10.2")
    assert Bound(200_001, 1_000_000, None).usd(price, 1_000_000) == Decimal("15.400002")
    # A tier that is cheaper does not lower the bound: fewer tokens may come than are bounded.
    falling = ModelPrice({"input_mtok": Rate(Decimal(2), ((10, Decimal(1)),)), "output_mtok": Rate(Decimal(1))}, "book")
    assert Bound(1_000_000, 0, None).usd(falling, 0) == Decimal(2)


def test_of_several_prices_the_dearest_counts() -> None:
    ceiling = Bound(1_000_000, 100, None).ceiling(rates(input="1", output="9"), rates(input="3", output="4"))
    assert ceiling.usd(1_000_000) == Decimal(12)


@pytest.mark.parametrize("price", [rates(output="1"), rates(input="1"), ModelPrice({}, "book", Decimal(1))])
def test_a_price_with_gaps_is_no_price(price: ModelPrice) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Bound(1, None, None).usd(price, 1)
    assert (caught.value.error_code, caught.value.http_status) == ("unpriced_model", 400)


STANDARD, PRIORITY, FLEX = rates(input="1", output="2"), rates(input="2", output="4"), rates(input="0.5", output="1")
TIERS = {None: STANDARD, "priority": PRIORITY, "flex": FLEX}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (STANDARD,)),
        ({"service_tier": None}, (STANDARD,)),
        ({"service_tier": "auto"}, (STANDARD,)),
        ({"service_tier": "priority"}, (STANDARD, PRIORITY)),
        ({"serviceTier": "priority"}, (STANDARD, PRIORITY)),
        ({"service_tier": "flex"}, (STANDARD, FLEX)),
        ({"service_tier": "default"}, (STANDARD, STANDARD)),
        ({"serviceTier": {"type": "priority"}}, (STANDARD, PRIORITY)),
        ({"serviceTier": {"type": None}}, (STANDARD,)),
        # Which of two counts is the wire's choice: Bedrock's takes its own.
        ({"service_tier": "default", "serviceTier": {"type": "priority"}}, (STANDARD, STANDARD, PRIORITY)),
        ({"service_tier": "auto", "serviceTier": {"type": "priority"}}, (STANDARD, PRIORITY)),
        ({"service_tier": "priority", "serviceTier": {"type": "flex"}}, (STANDARD, PRIORITY, FLEX)),
    ],
)
def test_the_prices_that_may_apply(fields: dict[str, Any], expected: tuple[ModelPrice, ...]) -> None:
    assert prices_that_may_apply(fields, lambda tier: TIERS.get(tier, STANDARD)) == expected


def test_a_dearer_tier_without_a_price_of_its_own_and_an_unknown_model_are_refused() -> None:
    for fields in (
        {"service_tier": "turbo"},
        {"service_tier": 7},
        {"service_tier": "default", "serviceTier": {"type": "turbo"}},
        {"service_tier": "default", "serviceTier": {"type": "flex", "reserve": 1}},
        {"service_tier": "default", "serviceTier": {}},
    ):
        with pytest.raises(InvalidRequest) as caught:
            prices_that_may_apply(fields, lambda tier: TIERS.get(tier, STANDARD))
        assert (caught.value.error_code, caught.value.param) == ("unbounded_cost", list(fields)[-1])
    with pytest.raises(InvalidRequest) as caught:
        prices_that_may_apply({}, lambda tier: None)
    assert (caught.value.error_code, caught.value.param) == ("unpriced_model", "model")


def test_the_shipped_book_prices_tiers_apart() -> None:
    found = prices_that_may_apply(
        {"service_tier": "priority"},
        lambda tier: BOOK.find("openai", "gpt-5.1", NOW, {}, context={"service_tier": tier} if tier else None),
    )
    assert len(found) == 2
    assert found[1].rates["output_mtok"].base > found[0].rates["output_mtok"].base


@pytest.mark.parametrize(
    ("given", "kinds", "expected"),
    [
        (None, (), {"max_price": {"request": "0", "prompt": "1", "completion": "2"}}),
        (None, ("image",), {"max_price": {"request": "0", "image": "0", "prompt": "1", "completion": "2"}}),
        ({"order": ["a"], "max_price": {"prompt": 9, "completion": "0.5", "audio": 1}}, (),
         {"order": ["a"], "max_price": {"request": "0", "prompt": "1", "completion": "0.5", "audio": 1}}),
    ],
)  # fmt: skip
def test_openrouters_hosts_may_not_cost_more_than_the_bound(given: Any, kinds: tuple[str, ...], expected: Any) -> None:
    assert capped_hosts({"provider": given}, STANDARD, frozenset(kinds)) == expected


@pytest.mark.parametrize(
    "given", [["a"], {"max_price": 3}, {"max_price": {"prompt": "much"}}, {"max_price": {"prompt": -1}}]
)
def test_a_price_for_openrouter_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        capped_hosts({"provider": given}, STANDARD, frozenset())
    assert caught.value.error_code == "unbounded_cost"
