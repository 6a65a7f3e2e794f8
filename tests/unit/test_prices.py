"""Specifies the price book: what is found for a name and a moment, and that it is what genai-prices says."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.catalog.price_files import load_prices, price_version, priced_providers
from llm_gateway.domain.catalog import Price
from llm_gateway.metering.matching import applies, dashed_dates, matches
from llm_gateway.metering.prices import ModelPrice, PriceBook, Rate
from scripts.generate_prices import main, price_files, provider_name

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def book_of(**files: Any) -> PriceBook:
    return PriceBook(lambda name: orjson.dumps(files[name]) if name in files else None, "2026-01-01+test")


def model(name: str, prices: Any, **more: Any) -> dict[str, Any]:
    return {"id": name, "match": {"equals": name}, "prices": prices if isinstance(prices, list) else [prices], **more}


def base(price: ModelPrice | None, rate: str = "input_mtok") -> str:
    assert price is not None
    return str(price.rates[rate].base)


@pytest.fixture(scope="module")
def shipped() -> PriceBook:
    return PriceBook(load_prices, price_version())


def test_the_first_model_that_matches_is_the_one() -> None:
    book = book_of(
        v={
            "models": [
                {"id": "exact", "match": {"equals": "a-1"}, "prices": [{"input_mtok": "1"}]},
                {"id": "broad", "match": {"starts_with": "a"}, "prices": [{"input_mtok": "2"}]},
            ]
        }
    )
    assert base(book.find("v", "A-1", NOW, {})) == "1"
    assert base(book.find("v", "a-2", NOW, {})) == "2"
    assert book.find("v", "b", NOW, {}) is None
    assert book.find("nobody", "a-1", NOW, {}) is None
    assert book.models("v") == ("exact", "broad")
    assert book.models("nobody") == ()


@pytest.mark.parametrize(
    ("clause", "name", "expected"),
    [
        ({"equals": "a"}, "a", True),
        ({"equals": "a"}, "ab", False),
        ({"starts_with": "a"}, "ab", True),
        ({"ends_with": "b"}, "ab", True),
        ({"contains": "b"}, "abc", True),
        ({"regex": r"^a\d+$"}, "a12", True),
        ({"regex": r"^a\d+$"}, "a12x", False),
        ({"or": [{"equals": "x"}, {"equals": "a"}]}, "a", True),
        ({"and": [{"starts_with": "a"}, {"ends_with": "c"}]}, "abc", True),
        ({"and": [{"starts_with": "a"}, {"ends_with": "x"}]}, "abc", False),
    ],
)
def test_match_clauses(clause: Mapping[str, Any], name: str, expected: bool) -> None:
    assert matches(clause, name) is expected


def test_an_unknown_clause_is_not_silently_false() -> None:
    with pytest.raises(ValueError, match="sounds_like"):
        matches({"sounds_like": "a"}, "a")


@pytest.mark.parametrize(
    ("price", "at", "expected"),
    [
        ({}, NOW, True),
        ({"from_date": "2026-11-21"}, NOW, True),
        ({"from_date": "2026-11-22"}, NOW, False),
        ({"from_date": "2026-11-22"}, datetime(2026, 11, 22), True),  # noqa: DTZ001 - without a zone it is UTC
        # 22 November in Berlin is still the 21st in UTC.
        ({"from_date": "2026-11-22"}, datetime(2026, 11, 22, 0, 30, tzinfo=timezone(timedelta(hours=1))), False),
        ({"from_time": "10:00:00", "to_time": "12:00:00"}, NOW, False),
        ({"from_time": "12:00:00", "to_time": "13:00:00"}, NOW, True),
        ({"from_time": "23:00:00", "to_time": "01:00:00"}, NOW.replace(hour=0), True),
        ({"from_time": "23:00:00", "to_time": "01:00:00"}, NOW.replace(hour=23), True),
        ({"from_time": "23:00:00", "to_time": "01:00:00"}, NOW, False),
    ],
)
def test_when_a_price_applies(price: Mapping[str, Any], at: datetime, expected: bool) -> None:
    assert applies(price, at) is expected


def test_the_last_price_that_applies_wins_and_else_the_first() -> None:
    book = book_of(
        v={
            "models": [
                model(
                    "a",
                    [{"input_mtok": "1", "from_date": "2026-06-01"}, {"input_mtok": "2", "from_date": "2026-12-01"}],
                )
            ]
        }
    )
    assert base(book.find("v", "a", NOW, {})) == "1"
    assert base(book.find("v", "a", datetime(2026, 12, 1, tzinfo=UTC), {})) == "2"
    assert base(book.find("v", "a", datetime(2020, 1, 1, tzinfo=UTC), {})) == "1"


def test_a_reseller_falls_back_one_step() -> None:
    book = book_of(
        shop={"fallbacks": ["maker", "missing"], "models": [model("own", {"input_mtok": "9"})]},
        maker={"fallbacks": ["far"], "models": [model("made", {"input_mtok": "1"})]},
        far={"models": [model("far-off", {"input_mtok": "1"})]},
    )
    assert base(book.find("shop", "own", NOW, {})) == "9"
    assert base(book.find("shop", "made", NOW, {})) == "1"
    assert book.find("shop", "far-off", NOW, {}) is None


def test_surcharges_and_discounts_depend_on_the_request_and_are_not_resold() -> None:
    priced = model(
        "a",
        {"input_mtok": "10", "output_mtok": "20"},
        variants=[
            {"when": {"service_tier": "flex"}, "input_mtok": "5"},
            {"when": {"service_tier": "flex"}, "input_mtok": "6", "output_mtok": "7"},
            {"when": {"service_tier": "flex"}, "output_mtok": "1", "from_date": "2099-01-01"},
        ],
    )
    book = book_of(maker={"models": [priced]}, shop={"fallbacks": ["maker"], "models": []})
    flex = book.find("maker", "a", NOW, {}, context={"service_tier": "flex"})
    assert (base(flex), base(flex, "output_mtok")) == ("5", "7")
    assert base(book.find("maker", "a", NOW, {}, context={"service_tier": "priority"})) == "10"
    assert base(book.find("shop", "a", NOW, {}, context={"service_tier": "flex"})) == "10"


def test_the_operators_price_wins_and_has_a_version_of_its_own() -> None:
    book = book_of(v={"models": [model("a", {"input_mtok": "1"})]})
    own = book.find("v", "a", NOW, {"v:a": Price("0.10", "0.40", cached_input="0.025", per_request="0.01")})
    assert own is not None
    assert own.rates == {
        "input_mtok": Rate(Decimal("0.10")),
        "output_mtok": Rate(Decimal("0.40")),
        "cache_read_mtok": Rate(Decimal("0.025")),
    }
    assert own.per_request == Decimal("0.01")
    other = book.find("v", "a", NOW, {"v:a": Price("0.11", "0.40")})
    assert other is not None
    shipped = book.find("v", "a", NOW, {"v:b": Price("0.11", "0.40")})
    assert shipped is not None
    assert shipped.version == "2026-01-01+test"
    assert own.version.startswith("operator-")
    assert own.version != other.version


def test_price_as_names_the_vendor_in_the_book_and_not_in_the_operators_prices() -> None:
    book = book_of(v={"models": [model("a", {"input_mtok": "1"})]})
    assert base(book.find("corp", "a", NOW, {}, price_as="v")) == "1"
    assert base(book.find("corp", "a", NOW, {"corp:a": Price("2", "3")}, price_as="v")) == "2"


def test_each_file_is_loaded_once_and_only_when_asked_for() -> None:
    asked: list[str] = []

    def load(name: str) -> bytes | None:
        asked.append(name)
        return orjson.dumps({"models": [model("a", {"input_mtok": "1"})]}) if name == "v" else None

    book = PriceBook(load, "1")
    assert asked == []
    for _ in range(3):
        book.find("v", "a", NOW, {})
        book.find("w", "a", NOW, {})
    assert asked == ["v", "w"]


def test_names_that_callers_invent_do_not_pile_up() -> None:
    book = book_of(v={"models": [model("a", {"input_mtok": "1"})]})
    for number in range(5000):
        assert book.find("v", f"invented-{number}", NOW, {}) is None
    assert len(book._found) <= 2048
    assert base(book.find("v", "a", NOW, {})) == "1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-5.2-20251211", "gpt-5.2-2025-12-11"),
        ("gpt-5.2-20251211:free", "gpt-5.2-2025-12-11:free"),
        ("a-20250230", "a-20250230"),
        ("a20251211", "a20251211"),
        ("a-2025121199", "a-2025121199"),
    ],
)
def test_compact_dates(name: str, expected: str) -> None:
    assert dashed_dates(name) == expected


def test_tiers_price_the_whole_request() -> None:
    rate = Rate(Decimal(1), ((200_000, Decimal(2)), (500_000, Decimal(3))))
    found = [str(rate.at(tokens)) for tokens in (0, 200_000, 200_001, 500_000, 500_001)]
    assert found == ["1", "1", "2", "2", "3"]


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "text-embedding-3-small"),
        ("azure_openai", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("gemini", "gemini-2.5-pro"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("openrouter", "anthropic/claude-3.5-sonnet"),
        ("groq", "llama-3.3-70b-versatile"),
        ("mistral", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("xai", "grok-4"),
        ("perplexity", "sonar"),
        ("cohere", "command-r-plus"),
        ("echo", "echo"),
        ("echo", "anything at all"),
    ],
)
def test_the_shipped_book_knows_the_usual_models(shipped: PriceBook, provider: str, name: str) -> None:
    price = shipped.find(provider, name, NOW, {})
    assert price is not None
    assert "input_mtok" in price.rates
    assert price.version == price_version()


@pytest.mark.parametrize("provider", ["ollama", "vllm", "lmstudio", "openai_compatible", "corp"])
def test_local_and_unknown_providers_are_unpriced_unless_the_operator_says(shipped: PriceBook, provider: str) -> None:
    assert shipped.find(provider, "llama3:8b", NOW, {}) is None
    assert base(shipped.find(provider, "llama3:8b", NOW, {f"{provider}:llama3:8b": Price("1", "2")})) == "1"


def test_echo_has_round_prices(shipped: PriceBook) -> None:
    price = shipped.find("echo", "echo", NOW, {})
    assert price is not None
    assert {kind: str(rate.base) for kind, rate in price.rates.items()} == {
        "input_mtok": "1",
        "output_mtok": "2",
        "cache_read_mtok": "0.5",
    }


def test_the_files_are_what_the_installed_genai_prices_gives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err
    assert {Path(name).stem for name, _ in price_files()} == priced_providers()


def _every_number(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [number for key, each in value.items() if key != "context_window" for number in _every_number(each)]
    if isinstance(value, list):
        return [number for each in value for number in _every_number(each)]
    return [] if isinstance(value, str) else [value]


@pytest.mark.parametrize("provider", sorted(priced_providers()))
def test_no_price_is_ever_a_float(provider: str) -> None:
    document = orjson.loads(load_prices(provider) or b"")
    assert all(isinstance(number, int) for number in _every_number(document))  # the tokens where tiers begin


@pytest.fixture(scope="module")
def genai_names() -> list[tuple[str, str]]:
    from genai_prices.data import providers

    return [(provider.id, each.id) for provider in providers for each in provider.models]


@given(data=st.data(), day=st.datetimes(datetime(2023, 1, 1), datetime(2027, 12, 31)))  # noqa: DTZ001 - UTC is meant
def test_every_price_is_the_one_genai_prices_finds(
    shipped: PriceBook, genai_names: list[tuple[str, str]], data: st.DataObject, day: datetime
) -> None:
    from genai_prices.data import providers
    from genai_prices.types import TieredPrices

    vendor, name = data.draw(st.sampled_from(genai_names))
    source = next(each for each in providers if each.id == vendor)
    found = source.find_model(name, all_providers=providers)
    ours = shipped.find(provider_name(vendor), name, day, {})
    if found is None:
        assert ours is None
        return
    assert ours is not None
    theirs = {
        key: value
        for key, value in found.get_prices(day).__dict__.items()
        if key.endswith("_mtok") and value is not None
    }
    assert ours.rates.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, TieredPrices):
            assert ours.rates[key] == Rate(value.base, tuple((tier.start, tier.price) for tier in value.tiers))
        else:
            assert ours.rates[key] == Rate(value)
    assert ours.context_window == found.context_window
