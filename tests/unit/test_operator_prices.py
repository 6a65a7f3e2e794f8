"""Specifies an operator's own prices: from gateway.toml to what a call costs, in every tier, and what is refused."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.config import entries, parse_config
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.domain.catalog import Price
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.domain.usage import Usage
from llm_gateway.metering.cost import cost, format_usd
from llm_gateway.metering.prices import PriceBook, operator_price
from llm_gateway.pipeline.pricing import price_context

FILE = """
[providers.corp]
base_url = "https://llm.corp.example/v1"

[prices."corp:m"]
input = "1"
output = "10"
cached_input = "0.1"
image_input = "2"
image_output = "40"
audio_input = "8"
cached_audio_input = "0.8"
per_request = "0.001"
web_search = "0.01"

[[prices."corp:m".above]]
input_tokens = 500000
input = "4"

[[prices."corp:m".above]]
input_tokens = 200000
input = "2"
output = "15"

[prices."corp:m".service_tiers.flex]
input = "0.5"
output = "5"

[prices."corp:m".service_tiers.priority]
output = "20"
"""
CATALOG = build_catalog(entries(parse_config(FILE, "gateway.toml")), {})
BOOK = PriceBook(lambda name: None, "book")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def bill(usage: Usage) -> tuple[str, str]:
    price = BOOK.find("corp", "m", NOW, CATALOG.prices, context=price_context(usage))
    found = cost(usage, price, BOOK.version)
    assert found.usd is not None
    return format_usd(found.usd), found.price_version.partition("+")[2]


@pytest.mark.parametrize(
    ("usage", "expected", "version"),
    [
        (Usage(1000, 100), "0.003", ""),
        (Usage(1000, 100, service_tier="default"), "0.003", ""),
        (Usage(1000, 100, web_searches=3), "0.033", ""),
        (Usage(1000, 100, input_image_tokens=400, output_image_tokens=50), "0.0049", ""),
        (Usage(1000, 0, cached_tokens=500, input_audio_tokens=600, cached_audio_tokens=300), "0.00386", ""),
        # Context tiers price all tokens of the request, and only the kinds that they name.
        (Usage(200_000, 100), "0.202", ""),
        (Usage(200_001, 100, cached_tokens=1), "0.4025001", ""),
        (Usage(500_001, 100), "2.002504", ""),
        # A service tier has prices of its own for what it names, whatever the input's size …
        (Usage(1000, 100, service_tier="flex"), "0.002", ""),
        (Usage(300_000, 100, cached_tokens=1000, service_tier="flex"), "0.1511", ""),
        (Usage(300_000, 100, service_tier="priority"), "0.603", ""),
        # … and one without prices costs what the standard one costs, and says so.
        (Usage(1000, 100, service_tier="scale"), "0.003", "standard-for-scale"),
    ],
)
def test_what_a_call_costs(usage: Usage, expected: str, version: str) -> None:
    assert bill(usage) == (expected, version)


def test_a_kind_that_only_a_context_tier_names_costs_what_is_around_it_below_the_tier() -> None:
    price = operator_price(Price("1", "10", above=((100, (("reasoning", "30"), ("cached_input", "0.5"))),)))
    small = cost(Usage(100, 10, cached_tokens=50, reasoning_tokens=5), price, "book").usd
    large = cost(Usage(101, 10, cached_tokens=50, reasoning_tokens=5), price, "book").usd
    assert small == Decimal("0.0002")
    assert large == Decimal("0.000276")


def test_the_version_changes_with_any_part_of_a_price() -> None:
    prices = [
        Price("1", "2"),
        Price("1", "2", web_search="0.01"),
        Price("1", "2", above=((5, (("input", "3"),)),)),
        Price("1", "2", service_tiers=(("flex", (("input", "3"),)),)),
    ]
    assert len({operator_price(price).version for price in prices}) == len(prices)


def test_searches_without_a_price_are_not_free() -> None:
    assert cost(Usage(1000, 1, web_searches=1), operator_price(Price("1", "1")), "book").usd is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            'service_tiers.standard = { input = "1" }',
            'service_tiers.standard: the name "standard" is the standard tier',
        ),
        ("service_tiers.flex = { input = 0.5 }", "service_tiers.flex.input: is a TOML float"),
        ('service_tiers.flex = { inptu = "1" }', 'service_tiers.flex.inptu: is not a key here (did you mean "input"?)'),
        ('above = [{ input = "1" }]', "above[0].input_tokens: is required"),
        ('above = [{ input_tokens = 5, inputs = "1" }]', 'above[0].inputs: is not a key here (did you mean "input"?)'),
        ("above = [{ input_tokens = 5 }, { input_tokens = 5 }]", "above: has the same input_tokens twice"),
        ('web_search = "-1"', 'web_search: "-1" is not an amount of money'),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(line: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(f'[prices."openai:m"]\ninput = "1"\noutput = "1"\n{line}\n', "gateway.toml")
    (told,) = refused.value.faults
    assert told.startswith(f'gateway.toml: prices."openai:m".{fault}'), told


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"output": None}, "output: is missing"),
        ({"web_search": 1}, "web_search: must be str, not int"),
        ({"above": {}}, "above: must be list, not dict"),
        ({"above": [{"input_tokens": True}]}, r"above\[0\].input_tokens: must be a positive number"),
        ({"above": ["x"]}, r"above\[0\].input_tokens: must be a positive number"),
        ({"service_tiers": []}, "service_tiers: must be dict, not list"),
        ({"service_tiers": {"flex": "x"}}, "service_tiers.flex: must be a table"),
        ({"service_tiers": {"flex": {"input": "NaN"}}}, 'service_tiers.flex.input: "NaN" is not an amount of money'),
    ],
)
def test_a_registry_that_is_broken_names_the_entry(more: Mapping[str, Any], fault: str) -> None:
    entry = RegistryEntry("price", "openai:m", {"input": "1", "output": "1", **more})
    with pytest.raises(ConfigError, match=f"price openai:m: {fault}"):
        build_catalog([entry], {})
