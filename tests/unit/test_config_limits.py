"""Specifies how limits and budgets of gateway.toml become policies by scope."""

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.config import entries, parse_config
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.limits import Budget, Policy
from llm_gateway.domain.ports import RegistryEntry

ALERTS = (Decimal("0.5"), Decimal("0.8"), Decimal(1))


def catalog(text: str) -> Catalog:
    """Built of what the registry gives back: JSON."""
    found = entries(parse_config(text, "gateway.toml"))
    stored = [RegistryEntry(one.kind, one.name, orjson.loads(orjson.dumps(one.document))) for one in found]
    return build_catalog(stored, {})


def test_every_scope_has_its_policy() -> None:
    built = catalog("""
abandoned = "release"
[organisation]
name = "corp"
budget = { usd = "5000", period = "month", zone = "Europe/Berlin", alerts = [] }
on_ledger_outage = "allow"
[teams.search]
shadow = true
limits = { rpm = 6000 }
budget = [{ usd = "50", period = "month" }, { usd = "400.000000000001", period = "total", hard = false }]
[users.ann]
limits = { parallel = 2 }
[users."*"]
budget = { usd = 1, period = "week", alerts = [1.0, 0.9, 1, 0.1] }
without_max_tokens = "refuse"
[keys.search-prod]
limits = { rpm = 600, tpm = 200000, parallel = 20 }
on_ledger_outage = "deny"
without_max_tokens = "reserve"
[models.fast]
limits = { tpm = 1000 }
deployments = [
  { provider = "azure-openai", model = "small", limits = { rpm = 10 }, shadow = true },
  { provider = "openai", model = "gpt-4.1-mini", limits = { parallel = 3 } },
]
[models.also]
deployments = [{ provider = "openai", model = "gpt-4.1-mini" }, { provider = "azure_openai", model = "other" }]
[providers.azure_openai]
base_url = "https://r.openai.azure.com"
""")
    assert built.policies == {
        "organisation#corp": Policy(budgets=(Budget(Decimal(5000), "month", "Europe/Berlin"),), on_outage="allow"),
        "team#search": Policy(
            rpm=6000,
            budgets=(
                Budget(Decimal(50), "month", alerts=ALERTS),
                Budget(Decimal("400.000000000001"), "total", hard=False, alerts=ALERTS),
            ),
            shadow=True,
        ),
        "user#ann": Policy(parallel=2),
        "user#*": Policy(
            budgets=(Budget(Decimal(1), "week", alerts=(Decimal("0.1"), Decimal("0.9"), Decimal(1))),),
            without_maximum="refuse",
        ),
        "key#search-prod": Policy(600, 200000, 20, on_outage="deny", without_maximum="reserve"),
        "model#fast": Policy(tpm=1000),
        "deployment#azure_openai:small": Policy(rpm=10, shadow=True),
        "deployment#openai:gpt-4.1-mini": Policy(parallel=3),
    }
    assert (built.organisation, built.abandoned) == ("corp", "release")


def test_what_nothing_is_said_of_has_no_policy() -> None:
    built = catalog("""
[organisation]
[teams.search]
description = "The people behind the search box"
shadow = true
[users.ann]
[keys.k]
[models.fast]
deployments = [{ provider = "openai", model = "m", shadow = true }]
""")
    assert built.policies == {}
    assert (built.organisation, built.abandoned) == ("default", "charge")


def test_the_same_limits_twice_are_the_same_limits() -> None:
    deployment = 'deployments = [{ provider = "openai", model = "m", limits = { rpm = 1 } }]\n'
    assert catalog(f"[models.a]\n{deployment}[models.b]\n{deployment}").policies == {
        "deployment#openai:m": Policy(rpm=1)
    }


@given(st.integers(1, 10_000_000), st.integers(1, 9_999_999_999_999))
def test_money_and_shares_keep_every_digit(millionths: int, cents: int) -> None:
    share = Decimal(millionths).scaleb(-6)
    usd = Decimal(cents).scaleb(-4)
    text = f'[teams.t]\nbudget = {{ usd = "{usd:f}", period = "day", alerts = [{share:f}{"" if "." in f"{share:f}" else ".0"}] }}'
    (budget,) = catalog(text).policies["team#t"].budgets
    assert (budget.usd, budget.alerts) == (usd, (share,))


@pytest.mark.parametrize(
    ("kind", "document", "told"),
    [
        ("team", {"limits": {"rpm": 0}}, "team x: limits: rpm: must be at least 1"),
        ("team", {"limits": {"rpm": "1"}}, "team x: limits: rpm: must be int, not str"),
        ("key", {"budget": {"usd": "1"}}, "key x: budget: must be list, not dict"),
        ("key", {"budget": [{"usd": "1"}]}, "key x: budget[0]: period: is missing"),
        ("key", {"budget": [{"usd": "x", "period": "day"}]}, 'key x: budget[0]: usd: "x" is not a decimal'),
        ("key", {"budget": [{"usd": "-1", "period": "day"}]}, 'key x: budget[0]: usd: "-1" must be finite'),
        ("key", {"budget": [{"usd": 1.5, "period": "day"}]}, "key x: budget[0]: usd: must be str, not float"),
        ("key", {"budget": [{"usd": "1", "period": "year"}]}, 'key x: budget[0]: period: "year" is not one of day'),
        ("user", {"budget": [{"usd": "1", "period": "day", "alerts": [0.5]}]}, "user x: budget[0]: alerts: must be"),
        ("user", {"on_ledger_outage": "maybe"}, 'user x: on_ledger_outage: "maybe" is not one of allow, deny'),
        ("organisation", {"shadow": 1}, "organisation x: shadow: must be bool, not int"),
        ("settings", {}, "organisation two: there is one already, one"),
        ("model", {"deployments": [{"provider": "p", "model": "m", "limits": {"tpm": 2}}]}, "has other limits"),
    ],
)
def test_a_broken_entry_is_told_by_its_name(kind: Any, document: dict[str, Any], told: str) -> None:
    others = {
        "settings": [RegistryEntry("organisation", "one", {}), RegistryEntry("organisation", "two", {})],
        "model": [
            RegistryEntry("model", "y", {"deployments": [{"provider": "p", "model": "m", "limits": {"tpm": 1}}]})
        ],
    }
    with pytest.raises(ConfigError) as caught:
        build_catalog([RegistryEntry(kind, "x", document), *others.get(kind, [])], {})
    assert told in str(caught.value)
