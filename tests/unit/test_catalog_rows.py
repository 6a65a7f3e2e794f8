"""Specifies the shipped provider rows: complete, documented, in one spelling, and each one a usable provider."""

import re
from typing import get_args
from urllib.parse import urlsplit

import pytest

from llm_gateway.catalog.endpoints import azure_endpoint, azure_streams_usage, base_url_fault, complete_base_url
from llm_gateway.catalog.price_files import load_prices, price_version, priced_providers
from llm_gateway.catalog.providers import canonical, provider_rows
from llm_gateway.domain.catalog import Dialect

PROMISED = {
    "openai", "openrouter", "azure_openai", "anthropic", "anthropic_bedrock", "anthropic_vertex", "gemini", "gemini_openai", "google_vertex", "bedrock", "bedrock_openai", "groq", "mistral", "deepseek", "xai",
    "together", "fireworks", "cerebras", "perplexity", "cohere", "ollama", "vllm", "lmstudio", "openai_compatible",
    "echo",
}  # fmt: skip
WITHOUT_ADDRESS = {"azure_openai", "anthropic_vertex", "openai_compatible", "google_vertex"}
UNPRICED = {"ollama", "vllm", "lmstudio", "openai_compatible"}


def test_every_promised_vendor_has_a_row() -> None:
    assert set(provider_rows()) == PROMISED


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_row_is_complete(name: str) -> None:
    row = provider_rows()[name]
    assert re.fullmatch(r"[a-z0-9_]+", row.name)
    assert row.display_name
    assert urlsplit(row.docs).scheme == "https"
    assert row.dialect in get_args(Dialect)
    assert (row.credential == "header") == (row.credential_header is not None)
    assert row.api_key_env or row.secret or row.name == "echo"
    assert row.header_env.keys() <= row.headers.keys()


@pytest.mark.parametrize("name", sorted(PROMISED - WITHOUT_ADDRESS))
def test_a_row_has_a_base_url_in_its_final_form(name: str) -> None:
    url = provider_rows()[name].base_url
    assert url is not None
    url = url.replace("{region}", "eu-central-1")
    assert base_url_fault(url) is None
    assert complete_base_url(url, provider_rows()[name].base_url_style) == url


@pytest.mark.parametrize("name", sorted(WITHOUT_ADDRESS))
def test_a_row_without_an_address_says_so(name: str) -> None:
    assert provider_rows()[name].base_url is None


def test_no_environment_name_belongs_to_two_rows() -> None:
    names = [
        name for row in provider_rows().values() for name in (*row.api_key_env, *row.base_url_env, *row.api_version_env)
    ]
    assert len(names) == len(set(names))


def test_every_vendor_that_is_not_a_local_server_is_in_the_price_book() -> None:
    priced_as = {name: row.price_as or name for name, row in provider_rows().items()}
    assert {name for name, price_as in priced_as.items() if load_prices(price_as) is None} == UNPRICED
    assert priced_providers() >= {priced_as[name] for name in PROMISED - UNPRICED}
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}\+genai-prices-\d+(\.\d+)+\.[0-9a-f]{8}", price_version())


@pytest.mark.parametrize("name", ["version", "../providers", "", "OPENAI", "openai\n", "nobody", "\0"])
def test_the_price_files_open_nothing_else(name: str) -> None:
    assert load_prices(name) is None


def test_rows_are_parsed_once() -> None:
    assert provider_rows() is provider_rows()


def test_hyphens_and_underscores_are_one_spelling() -> None:
    assert canonical("azure-openai") == canonical("azure_openai") == "azure_openai"


@pytest.mark.parametrize(
    ("given", "version", "base_url", "in_path", "query"),
    [
        ("https://r.openai.azure.com", None, "https://r.openai.azure.com/openai/v1", False, {}),
        ("https://r.openai.azure.com/", "v1", "https://r.openai.azure.com/openai/v1", False, {}),
        ("https://r.openai.azure.com/openai/v1/", None, "https://r.openai.azure.com/openai/v1", False, {}),
        ("https://r.openai.azure.com/openai", None, "https://r.openai.azure.com/openai/v1", False, {}),
        ("https://r.openai.azure.com", "preview", "https://r.openai.azure.com/openai/v1", False,
         {"api-version": "preview"}),
        ("https://r.openai.azure.com", "2024-10-21", "https://r.openai.azure.com", True, {"api-version": "2024-10-21"}),
        ("https://r.openai.azure.com/openai/v1", "2025-04-01-preview", "https://r.openai.azure.com", True,
         {"api-version": "2025-04-01-preview"}),
    ],
)  # fmt: skip
def test_an_azure_resource_is_found_however_it_is_spelled(
    given: str, version: str | None, base_url: str, in_path: bool, query: dict[str, str]
) -> None:
    assert azure_endpoint(given, version) == (base_url, in_path, query)


@pytest.mark.parametrize(
    ("version", "known"),
    [(None, True), ("v1", True), ("preview", True), ("2024-10-21", True), ("2025-04-01-preview", True),
     ("2024-09-01-preview", True), ("2024-08-01-preview", False), ("2024-06-01", False), ("2023-05-15", False)],
)  # fmt: skip
def test_which_azure_versions_count_in_streams(version: str | None, known: bool) -> None:
    assert azure_streams_usage(version) is known


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://llm.corp.example/v1", None),
        ("http://127.0.0.1:9000", None),
        ("http://[::1]:9000/v1", None),
        ("echo://local", None),
        ("echo://elsewhere", "https://"),
        ("file:///etc/passwd", "https://"),
        ("llm.corp.example/v1", "https://"),
        ("https://", "no host"),
        ("https://host:port", "is not a URL"),
        ("https://host:99999", "is not a URL"),
        ("https://host:0", "port 0"),
        ("https://user:sk-1@host", "credentials"),
        ("https://host/v1?api-version=1", "query"),
        ("https://host/v1#x", "fragment"),
        ("https://host/ v1", "space"),
        ("https://host/\r\nHost: x", "control"),
    ],
)
def test_what_may_be_a_base_url(url: str, fault: str | None) -> None:
    found = base_url_fault(url)
    assert found is None if fault is None else fault in (found or "")
