"""Specifies what a team is charged: the provider's exact cost and its markup, both on record."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.adapters.attributes import decode_record, encode_record, number
from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.api.usage_rendering import render_record
from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.config import entries, parse_config
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.catalog.price_files import load_prices, price_version
from llm_gateway.domain.catalog import markup_factor
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.domain.usage import Cost, Usage
from llm_gateway.metering.cost import marked_up
from llm_gateway.metering.prices import PriceBook
from llm_gateway.observability.logs import request_fields
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.pricing import BookPricing
from tests.contract.records import plain_record
from tests.fakes.no_fallback import NO_FALLBACK

FILE = """
[teams.search]
markup = "20%"
[teams.research]
markup = "-5.25%"
[teams.plain]
description = "pays what the provider bills"
"""


@pytest.mark.parametrize(
    ("text", "factor"),
    [("20%", "1.2"), ("0%", "1"), ("-5%", "0.95"), ("+7.5%", "1.075"), ("-100%", "0"), ("5.25%", "1.0525")],
)
def test_percentages(text: str, factor: str) -> None:
    assert markup_factor(text) == Decimal(factor)


@pytest.mark.parametrize(
    "text", ["1.20", "20", "", "%", "20 %", "-100.01%", "1e2%", "5.123%", "99999%", "\u0662\u0660%", "nan%"]
)
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(ValueError, match="not a percentage"):
        markup_factor(text)


def test_a_file_with_a_markup_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config('[teams.search]\nmarkup = "1.2"\n', "gateway.toml")
    assert list(refused.value.faults) == [
        'gateway.toml: teams.search.markup: "1.2" is not a percentage of -100 % and more, such as "20%" or "-5%"'
    ]


def test_a_registry_with_one_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match='team search: markup: "x" is not a percentage'):
        build_catalog([RegistryEntry("team", "search", {"markup": "x"})], {})


def test_markups_reach_the_catalog_by_team() -> None:
    catalog = build_catalog(entries(parse_config(FILE, "gateway.toml")), {})
    assert catalog.markups == {"search": Decimal("1.2"), "research": Decimal("0.9475")}


@pytest.mark.parametrize(
    ("team", "charged", "billed"),
    [("search", "0.0018", "0.0015"), ("research", "0.00142125", "0.0015"), ("plain", "0.0015", None),
     ("unknown", "0.0015", None), (None, "0.0015", None)],
)  # fmt: skip
def test_a_team_is_charged_its_markup_and_the_providers_cost_is_kept(
    team: str | None, charged: str, billed: str | None
) -> None:
    catalog = build_catalog(entries(parse_config(FILE, "gateway.toml")), {})
    books = Accounts(MemoryLedger(), BookPricing(PriceBook(load_prices, price_version())), NO_FALLBACK)
    record = plain_record(provider="echo", routed_model="echo", team=team)
    cost = books.price(record, Usage(input_tokens=1000, output_tokens=250), None, catalog)
    assert cost == Cost(Decimal(charged), price_version(), None if billed is None else Decimal(billed))


def test_what_nobody_can_price_has_no_markup() -> None:
    assert marked_up(Cost(None, "v"), Decimal("1.2")) == Cost(None, "v")


@given(
    cost=st.decimals("0", "999999", places=18),
    percent=st.decimals("-100", "9999.99", places=2),
)
def test_nothing_is_rounded_and_all_of_it_fits_the_ledger(cost: Decimal, percent: Decimal) -> None:
    factor = markup_factor(f"{percent}%")
    charged = marked_up(Cost(cost, "v"), factor)
    assert charged.usd is not None
    assert charged.provider_usd == cost
    assert Fraction(charged.usd) == Fraction(cost) * (100 + Fraction(percent)) / 100
    number(charged.usd)


def test_who_sees_what() -> None:
    record = plain_record(cost_usd=Decimal("0.0018"), provider_cost_usd=Decimal("0.0015"))
    assert decode_record(encode_record(record)) == record
    assert request_fields(record, 0.0)["provider_cost_usd"] == "0.0015"
    assert render_record(record)["cost_usd"] == "0.0018"
    assert "provider_cost_usd" not in render_record(record)
    assert "over_limits" not in render_record(record)
    over = replace(record, over_limits=("key#prod requests", "team#search budget"))
    assert render_record(over)["over_limits"] == ["key#prod requests", "team#search budget"]
    assert render_record(record, with_provider_cost=True)["provider_cost_usd"] == "0.0015"
