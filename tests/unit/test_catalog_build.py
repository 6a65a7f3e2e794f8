"""Specifies the catalog: shipped rows, under the environment, under what operators configured."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.catalog.providers import provider_rows
from llm_gateway.domain.catalog import Catalog, Deployment, Price, Provider, Quirks, Timeouts
from llm_gateway.domain.ports import Kind, RegistryEntry


def build(*entries: tuple[Kind, str, Mapping[str, Any]], **environment: str) -> Catalog:
    return build_catalog([RegistryEntry(*entry) for entry in entries], environment)


def provider(name: str, document: Mapping[str, Any] | None = None, **environment: str) -> Provider:
    entries: list[tuple[Kind, str, Mapping[str, Any]]] = [] if document is None else [("provider", name, document)]
    return build(*entries, **environment).providers[name.replace("-", "_")]


def test_with_nothing_configured_every_row_is_there_and_openai_is_the_default() -> None:
    catalog = build()
    assert set(catalog.providers) == set(provider_rows())
    assert catalog.default_provider == "openai"
    assert catalog.default_model is None
    assert catalog.x_gateway is True
    assert catalog.providers["openai"] == Provider(
        name="openai",
        dialect="openai_chat",
        base_url="https://api.openai.com/v1",
        secret="openai",
        quirks=Quirks(moderations="openai", free=("moderations",)),
        display_name="OpenAI",
    )


@pytest.mark.parametrize(
    ("environment", "name", "base_url"),
    [
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"}, "openai", "http://127.0.0.1:9/v1"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9"}, "openai", "http://127.0.0.1:9"),
        ({"OPENAI_API_BASE": "http://b/v1", "OPENAI_BASE_URL": "http://a/v1"}, "openai", "http://a/v1"),
        ({"OPENAI_BASE_URL": ""}, "openai", "https://api.openai.com/v1"),
        ({"OPENROUTER_BASE_URL": "http://r/api/v1"}, "openrouter", "http://r/api/v1"),
        ({"OLLAMA_BASE_URL": "http://box:11434"}, "ollama", "http://box:11434/v1"),
        ({"OLLAMA_BASE_URL": "http://box:11434/v1"}, "ollama", "http://box:11434/v1"),
        ({"OLLAMA_API_BASE": "http://box:11434/"}, "ollama", "http://box:11434/v1"),
        ({"ANTHROPIC_BASE_URL": "https://proxy.example"}, "anthropic", "https://proxy.example/v1"),
        ({"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com/"}, "azure_openai", "https://r.openai.azure.com/openai/v1"),
        ({}, "azure_openai", None),
        ({}, "bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ({}, "bedrock_openai", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1"),
        ({"AWS_REGION": "eu-central-1"}, "bedrock", "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        ({"OPENAI_COMPATIBLE_BASE_URL": "http://any/v1"}, "openai_compatible", "http://any/v1"),
    ],
)  # fmt: skip
def test_the_environment_sets_base_urls(environment: dict[str, str], name: str, base_url: str | None) -> None:
    assert build(**environment).providers[name].base_url == base_url


def test_a_dated_api_version_means_azures_classic_deployments() -> None:
    azure = provider(
        "azure_openai", AZURE_OPENAI_ENDPOINT="https://r.openai.azure.com", AZURE_OPENAI_API_VERSION="2024-10-21"
    )
    assert azure.base_url == "https://r.openai.azure.com"
    assert azure.quirks == Quirks(model_in_path=True, query={"api-version": "2024-10-21"})
    assert (azure.credential, azure.credential_header) == ("header", "api-key")


def test_openrouter_is_told_who_calls() -> None:
    assert provider("openrouter").headers == {"HTTP-Referer": "http://localhost", "X-Title": "llm-gateway"}
    named = provider("openrouter", OR_SITE_URL="https://app.corp.example", OR_APP_NAME="Search")
    assert named.headers == {"HTTP-Referer": "https://app.corp.example", "X-Title": "Search"}
    over = provider("openrouter", {"headers": {"x-title": "Mine"}}, OR_APP_NAME="Search")
    assert over.headers == {"HTTP-Referer": "http://localhost", "x-title": "Mine"}


def test_what_is_configured_wins_over_the_environment() -> None:
    catalog = build(
        ("settings", "gateway", {"default_provider": "echo", "default_model": "fast", "x_gateway": False,
                                 "cors_origins": ["https://app.corp.example"]}),
        ("provider", "openai", {"base_url": "http://file/v1"}),
        LLM_PROVIDER="groq", LLM_MODEL="slow", OPENAI_BASE_URL="http://env/v1",
    )  # fmt: skip
    assert (catalog.default_provider, catalog.default_model) == ("echo", "fast")
    assert catalog.x_gateway is False
    assert catalog.cors_origins == ("https://app.corp.example",)
    assert catalog.providers["openai"].base_url == "http://file/v1"


def test_the_environment_sets_the_defaults() -> None:
    catalog = build(LLM_PROVIDER="azure-openai", LLM_MODEL="gpt-4.1")
    assert (catalog.default_provider, catalog.default_model) == ("azure_openai", "gpt-4.1")


def test_a_new_provider_needs_little() -> None:
    assert provider("corp", {"base_url": "https://llm.corp.example/v1/"}) == Provider(
        name="corp",
        dialect="openai_chat",
        base_url="https://llm.corp.example/v1",
        secret="corp",
        display_name="corp",
    )


def test_a_new_provider_like_a_vendor_takes_its_ways_and_not_its_key_or_its_environment() -> None:
    azure = provider(
        "azure-eu",
        {"like": "azure-openai", "base_url": "https://eu.openai.azure.com", "api_version": "2024-10-21"},
        AZURE_OPENAI_ENDPOINT="https://us.openai.azure.com",
        AZURE_OPENAI_API_VERSION="v1",
    )
    assert azure.name == azure.secret == "azure_eu"
    assert azure.base_url == "https://eu.openai.azure.com"
    assert azure.credential_header == "api-key"
    assert azure.quirks.model_in_path is True
    assert azure.price_as == "azure_openai"


def test_an_override_changes_only_what_it_says() -> None:
    mistral = provider("mistral", {"quirks": {"query": {"region": "eu"}}, "enabled": False, "price_as": "openai"})
    assert mistral.quirks == replace(provider_rows()["mistral"].quirks, query={"region": "eu"})
    assert (mistral.enabled, mistral.price_as) == (False, "openai")
    assert mistral.base_url == "https://api.mistral.ai/v1"


def test_aliases_and_prices() -> None:
    catalog = build(
        ("provider", "my-corp", {"base_url": "http://corp/v1"}),
        ("model", "fast", {
            "deployments": [
                {"provider": "my-corp", "model": "small-1", "weight": 3},
                {"provider": "openai", "model": "m"},
            ],
            "fallbacks": ["smart", "openai:gpt-5"],
            "timeouts": {"first_token_s": 10},
        }),
        ("price", "my_corp:small-1", {"input": "0.10", "output": "0.40", "per_request": "0.01"}),
    )  # fmt: skip
    alias = catalog.aliases["fast"]
    assert alias.deployments == (Deployment("my_corp", "small-1", 3), Deployment("openai", "m"))
    assert alias.fallbacks == ("smart", "openai:gpt-5")
    assert alias.timeouts == Timeouts(first_token_s=10.0)
    assert catalog.prices == {"my_corp:small-1": Price("0.10", "0.40", per_request="0.01")}


@pytest.mark.parametrize(
    ("kind", "name", "document", "told"),
    [
        ("model", "fast", {}, "model fast: deployments: is empty"),
        ("model", "fast", {"deployments": "x"}, "model fast: deployments: must be list, not str"),
        ("model", "fast", {"deployments": [{"provider": "openai"}]}, "model fast: deployments[0]: model: is missing"),
        ("model", "fast", {"deployments": ["x"]}, "model fast: deployments[0]: is not a document"),
        ("model", "fast", {"deployments": [{"provider": "openai", "model": "m", "weight": True}]},
         "model fast: deployments[0]: weight: must be int"),
        ("model", "fast", {"deployments": [{"provider": "openai", "model": "m"}], "timeouts": {"idle_s": "1"}},
         "model fast: timeouts: idle_s: must be a positive number"),
        ("model", "fast", {"deployments": [{"provider": "openai", "model": "m"}], "fallbacks": [1]}, "must be strings"),
        ("price", "corp:m", {"output": "1"}, "price corp:m: input: is missing"),
        ("price", "corp:m", {"input": 1.5, "output": "1"}, "price corp:m: input: must be str, not float"),
        ("price", "corp:m", {"input": "x", "output": "1"}, 'price corp:m: input: "x" is not a decimal'),
        ("price", "corp:m", {"input": "-1", "output": "1"}, "is not an amount of money"),
        ("provider", "corp", {"dialect": "soap"}, 'provider corp: dialect: "soap" is not one of anthropic_messages'),
        ("provider", "corp", {"base_url": "ftp://x"}, "provider corp: base_url: must begin with https://"),
        ("provider", "corp", {"like": "nobody"}, 'provider corp: like: "nobody" is not a vendor'),
        ("provider", "corp", {"headers": {"a": 1}}, "provider corp: headers: must map strings to strings"),
        ("provider", "corp", ["x"], "provider corp: is not a document"),
        ("settings", "gateway", {"default_provider": "opnai"},
         'settings gateway: default_provider: "opnai" is not a provider (did you mean "openai"?)'),
        ("settings", "gateway", {"x_gateway": "yes"}, "settings gateway: x_gateway: must be bool, not str"),
    ],
)  # fmt: skip
def test_a_broken_document_is_told_by_its_name(kind: Kind, name: str, document: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build((kind, name, document))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"LLM_PROVIDER": "opnai"}, 'environment: LLM_PROVIDER: "opnai" is not a provider (did you mean "openai"?)'),
        ({"LLM_PROVIDER": "qqqqqq"}, "known: anthropic, anthropic_bedrock"),
        ({"OPENAI_BASE_URL": "api.openai.com"}, "environment: OPENAI_BASE_URL: must begin with https://"),
    ],
)
def test_a_broken_variable_is_told_by_its_name(environment: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(**environment)
    assert told in str(caught.value)


def test_a_deployment_at_a_provider_that_is_gone_does_not_stop_the_rest() -> None:
    catalog = build(("model", "fast", {"deployments": [{"provider": "gone", "model": "m"}]}))
    assert catalog.aliases["fast"].deployments == (Deployment("gone", "m"),)


def test_other_settings_are_not_the_gateways() -> None:
    assert build(("settings", "other", {"default_model": "x"}), ("team", "search", {})) == build()
