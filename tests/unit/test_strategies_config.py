"""Specifies what gateway.toml says of how a model's calls are shared, and what is refused of it."""

import json
from decimal import Decimal
from typing import Any

import pytest

from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.config import entries, parse_config
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.domain.catalog import Alias, Catalog, Deployment
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.domain.strategies import Canary, Condition, Hedge, Rule, Shadow

OWN = 'deployments = [{ provider = "openai", model = "m" }]'
ALL = f"""
[models.fast]
{OWN}
strategy = "sticky"
sticky_by = "key"
canary = {{ provider = "azure-openai", model = "new", region = "eu-west-1", key = "second", percent = 5, by = "user" }}
shadow_traffic = {{ provider = "azure-openai", model = "next", percent = 0.5 }}
hedge = {{ after = "p95", percent = 2 }}
queue_s = 12.5

[[models.fast.rules]]
when = {{ tags = {{ tier = "free" }}, metadata = {{ app = "" }}, user = "ann", team = "search", stream = false }}
use = "smart"

[[models.fast.rules]]
when = {{ input_tokens_above = 0, input_tokens_below = 1000, budget_used_above = 0.8 }}
use = "azure-openai:small"

[models.smart]
{OWN}

[providers.azure-openai]
base_url = "https://{{region}}.azure.example"
"""


def loaded(text: str) -> Catalog:
    """As it comes out of the registry, where documents are JSON."""
    found = entries(parse_config(text, "gateway.toml"))
    stored = [RegistryEntry(each.kind, each.name, json.loads(json.dumps(each.document))) for each in found]
    return build_catalog(stored, {})


def fast(more: str) -> Alias:
    return loaded(f"[models.fast]\n{OWN}\n{more}").aliases["fast"]


def test_all_that_a_model_can_say() -> None:
    here = loaded(ALL)
    alias = here.aliases["fast"]
    new = Deployment("azure_openai", "new", region="eu-west-1", key="second")
    assert (alias.strategy, alias.sticky_by, alias.queue_s) == ("sticky", "key", 12.5)
    assert alias.canary == Canary(new, 5.0, "user")
    assert alias.shadow == Shadow(Deployment("azure_openai", "next"), 0.5)
    assert alias.hedge == Hedge(percentile=0.95, percent=2.0)
    assert alias.rules == (
        Rule(
            Condition(tags=(("tier", "free"),), metadata=(("app", ""),), user="ann", team="search", stream=False),
            "smart",
        ),
        Rule(
            Condition(input_tokens_above=0, input_tokens_below=1000, budget_used_above=Decimal("0.8")),
            "azure_openai:small",
        ),
    )
    assert here.provider_of(new).base_url == "https://eu-west-1.azure.example/openai/v1"


def test_what_is_not_said_is_as_usual_and_not_stored() -> None:
    assert fast("") == Alias("fast", (Deployment("openai", "m"),))
    (entry,) = [each for each in entries(parse_config(f"[models.fast]\n{OWN}", "x")) if each.kind == "model"]
    assert not entry.document.keys() & {
        "strategy",
        "sticky_by",
        "rules",
        "canary",
        "shadow_traffic",
        "hedge",
        "queue_s",
    }


def test_what_is_usual_of_a_canary_a_shadow_a_hedge_and_a_queue() -> None:
    where = 'provider = "openai", model = "n"'
    canary = fast(f"canary = {{ {where}, percent = 0 }}").canary
    assert canary == Canary(Deployment("openai", "n"), 0.0, "key")
    assert fast("hedge = { after = 2 }").hedge == Hedge(after_s=2.0, percent=10.0)
    assert fast("queue_s = 0").queue_s == 0.0
    assert fast(f"shadow_traffic = {{ {where}, percent = 100 }}\nshadow = true").shadow is not None
    assert fast('strategy = "sticky"').sticky_by == "user"


@pytest.mark.parametrize(
    "strategy", ["weighted", "priority", "lowest_latency", "lowest_cost", "least_in_flight", "sticky"]
)
def test_every_strategy_has_a_name(strategy: str) -> None:
    assert fast(f'strategy = "{strategy}"').strategy == strategy


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('strategy = "random"', "strategy: \"random\" is not allowed here: it must be 'weighted'"),
        ('sticky_by = "user"', 'sticky_by: needs strategy = "sticky"'),
        ('strategy = "sticky"\nsticky_by = "team"', 'sticky_by: "team" is not allowed here'),
        ('canary = { provider = "opnai", model = "n", percent = 5 }', 'canary.provider: "opnai" is not a provider'),
        ('canary = { provider = "openai", model = "n" }', "canary.percent: is required"),
        ('canary = { provider = "openai", model = "n", percent = 101 }', "canary.percent: must be less than or equal"),
        (
            'canary = { provider = "openai", model = "n", percent = -1 }',
            "canary.percent: must be greater than or equal",
        ),
        ('canary = { provider = "openai", model = "n", percent = nan }', "canary.percent: must be a finite number"),
        ('canary = { provider = "openai", model = "n", percent = 5, weight = 1 }', "canary.weight: is not a key here"),
        (
            'canary = { provider = "openai", model = "n", percent = 5, region = "eu" }',
            'canary.region: the base_url of "openai" names no region: write it with {region}',
        ),
        ('shadow_traffic = { provider = "x", model = "n", percent = 1 }', 'shadow_traffic.provider: "x" is not a prov'),
        ('hedge = { after = "p100" }', 'hedge.after: must be a percentile from "p50" to "p99", or seconds'),
        ('hedge = { after = "p9" }', "hedge.after: must be a percentile"),
        ("hedge = { after = 0 }", "hedge.after: must be a percentile"),
        ("hedge = { after = inf }", "hedge.after: must be a percentile"),
        ("hedge = { after = true }", "hedge.after: must be a percentile"),
        ("hedge = { percent = 1 }", "hedge.after: is required"),
        ("queue_s = 61", "queue_s: must be less than or equal to 60"),
        ("queue_s = -1", "queue_s: must be greater than or equal to 0"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fast(text)
    (told,) = caught.value.faults
    assert told.startswith(f"gateway.toml: models.fast.{fault}")


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ('when = {}\nuse = "openai:x"', "when: says nothing: name a condition"),
        ('use = "openai:x"', "when: is required"),
        ("when = { stream = true }", "use: is required"),
        ('when = { stream = true }\nuse = "fast"', "use: is the model itself"),
        ('when = { stream = true }\nuse = "smrt"', 'use: "smrt" is neither a model of this file nor provider:model'),
        ('when = { stream = true }\nuse = "opnai:x"', 'use: "opnai" is not a provider (did you mean "openai"?)'),
        ('when = { steam = true }\nuse = "openai:x"', 'when.steam: is not a key here (did you mean "stream"?)'),
        ('when = { stream = 1 }\nuse = "openai:x"', "when.stream: must be true or false"),
        ('when = { tags = { tier = 1 } }\nuse = "openai:x"', "when.tags.tier: must be a string"),
        ('when = { input_tokens_above = 1.5 }\nuse = "openai:x"', "when.input_tokens_above: must be a whole number"),
        (
            'when = { input_tokens_above = 10, input_tokens_below = 11 }\nuse = "openai:x"',
            "when: never holds: no number is above 10 and below 11",
        ),
        ('when = { budget_used_above = 0 }\nuse = "openai:x"', "when.budget_used_above: 0 is no share of a budget"),
    ],
)
def test_a_rule_that_cannot_be_is_told_with_its_place(rule: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fast(f"[[models.fast.rules]]\n{rule}")
    (told,) = caught.value.faults
    assert told.startswith(f"gateway.toml: models.fast.rules[0].{fault}")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"strategy": "random"}, 'strategy: "random" is not one of'),
        ({"sticky_by": 1}, "sticky_by: must be str"),
        ({"canary": {"provider": "openai", "percent": 5}}, "canary: model: is missing"),
        ({"canary": {"provider": "openai", "model": "n"}}, "canary: percent: must be a number from 0 to 100"),
        ({"shadow_traffic": {"provider": "openai", "model": "n", "percent": True}}, "shadow_traffic: percent: must be"),
        ({"hedge": {}}, "hedge: after: must be a positive number"),
        ({"hedge": {"after": "soon"}}, 'hedge: after: "soon" is not a percentile'),
        ({"hedge": {"after": 1, "percent": 200}}, "hedge: percent: must be a number from 0 to 100"),
        ({"queue_s": "5"}, "queue_s: must be a positive number"),
        ({"rules": [{"when": {"stream": True}}]}, "rules[0]: use: is missing"),
        ({"rules": [{"when": {"tags": {"a": 1}}, "use": "x"}]}, "rules[0]: when: tags: must map strings"),
        (
            {"rules": [{"when": {"budget_used_above": "lots"}, "use": "x"}]},
            'budget_used_above: "lots" is not a decimal',
        ),
        ({"rules": [{"when": {"budget_used_above": "NaN"}, "use": "x"}]}, 'budget_used_above: "NaN" is not a decimal'),
    ],
)
def test_a_document_that_was_broken_in_the_registry_is_named(document: dict[str, Any], fault: str) -> None:
    deployed = {"deployments": [{"provider": "openai", "model": "m"}]}
    with pytest.raises(ConfigError) as caught:
        build_catalog([RegistryEntry("model", "a", {**deployed, **document})], {})
    assert str(caught.value).startswith("model a: ")
    assert fault in str(caught.value)
