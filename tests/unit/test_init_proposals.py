"""What `llm-gateway init` proposes and writes."""

import tomllib
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.catalog.config import parse_config
from llm_gateway.catalog.price_files import load_prices, price_version
from llm_gateway.catalog.providers import provider_rows
from llm_gateway.cli.failures import BadInput
from llm_gateway.cli.init import PROPOSED, Wanted, configured, keys_missing, known, written
from llm_gateway.metering.prices import PriceBook

MODELS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: name == name.strip() and name.isprintable() and name not in {".", ".."}
)
BOOK = PriceBook(load_prices, price_version())


@pytest.mark.parametrize(("provider", "model"), PROPOSED.items())
def test_every_model_that_is_proposed_has_a_price(provider: str, model: str) -> None:
    row = provider_rows()[provider]
    assert BOOK.find(provider, model, datetime.now(UTC), {}, price_as=row.price_as) is not None


@given(
    providers=st.lists(
        st.tuples(st.sampled_from(sorted(PROPOSED)), MODELS),
        min_size=1,
        max_size=4,
        unique_by=lambda each: each[0],
    ),
    budget=st.none() | st.decimals(Decimal("0.01"), 10_000, places=2),
)
def test_what_is_written_is_read_as_it_was_meant(providers: list[tuple[str, str]], budget: Decimal | None) -> None:
    text = written(Wanted(providers, {}, budget))
    parse_config(text, "gateway.toml")
    document = tomllib.loads(text)
    (first, model), *others = providers
    fast = document["models"]["fast"]
    assert fast["deployments"] == [{"provider": first, "model": model}]
    assert fast.get("fallbacks", []) == [f"{name}:{theirs}" for name, theirs in others]
    assert Decimal(document["organisation"]["budget"]["usd"] if budget is not None else 0) == (budget or 0)


def test_an_address_of_ones_own_is_written() -> None:
    text = written(Wanted([("openai_compatible", "llama")], {"openai_compatible": "http://127.0.0.1:8080/v1"}))
    parse_config(text, "gateway.toml")
    assert tomllib.loads(text)["providers"]["openai_compatible"]["base_url"] == "http://127.0.0.1:8080/v1"


def test_a_server_of_ones_own_may_have_any_name() -> None:
    wanted = Wanted([("my_corp", "m")], {"my_corp": "http://127.0.0.1:8080/v1"}, own={"my_corp"})
    config = parse_config(written(wanted), "gateway.toml")
    assert config.api_key_env()["my_corp"] == ("MY_CORP_API_KEY",)
    assert keys_missing(["my_corp", "openai"], {}, wanted.own) == ["MY_CORP_API_KEY", "OPENAI_API_KEY"]
    assert keys_missing(["my_corp"], {"MY_CORP_API_KEY": "k"}, wanted.own) == []
    assert known("My-Corp", own=True) == "my_corp"
    with pytest.raises(BadInput, match="not a provider that the gateway knows"):
        known("my_corp")


def test_editors_are_told_of_the_schema() -> None:
    text = written(Wanted([("echo", "demo")]), "docs/gateway.schema.json")
    assert text.startswith("#:schema docs/gateway.schema.json\n")
    parse_config(text, "gateway.toml")


def test_keys_are_found_and_missed_by_their_variables() -> None:
    assert configured({"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": ""}) == ["anthropic"]
    assert keys_missing(["openai", "anthropic", "echo"], {"ANTHROPIC_API_KEY": "a"}) == ["OPENAI_API_KEY"]
