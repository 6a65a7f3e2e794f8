"""Specifies that what the registry stores of a file can be read back as that file."""

from dataclasses import replace

from llm_gateway.catalog.as_file import file_tables
from llm_gateway.catalog.config import GatewayConfig, entries, keys, parse_config, pending_keys
from llm_gateway.catalog.exported import exported_file
from llm_gateway.catalog.schema import GatewayFile
from llm_gateway.cli.toml_text import gateway_toml
from llm_gateway.domain.identity import hash_key, lookup_id

FILE = """
default_provider = "azure-openai"
default_model = "fast"
cors_origins = ["https://app.corp.example"]
abandoned = "release"

[organisation]
name = "acme"
budget = { usd = "5000", period = "month", zone = "Europe/Berlin", alerts = [0.5, 0.1, 1.25] }

[providers.azure-openai]
base_url = "https://corp.openai.azure.com"

[providers.corp]
base_url = "https://llm.corp.example/v1"
api_key_env = "CORP_API_KEY"
description = "ours"
quirks = { drop = ["store"], query = { v = "1" } }
models."small/1" = { display_name = "Small", context_window = 128000, capabilities = ["tools"], enabled = false }

[providers.vllm]
api_key_env = "MY_VLLM_KEY"

[models.fast]
deployments = [{ provider = "corp", model = "small/1", weight = 3, limits = { rpm = 60 } }]
fallbacks = ["azure-openai:gpt-4.1"]
timeouts = { first_token_s = 2.5 }
rules = [{ when = { budget_used_above = 0.80 }, use = "azure-openai:gpt-4.1" }]
shadow = true

[prices."corp:small/1"]
input = "0.10"
output = "0.40"
above = [{ input_tokens = 200000, input = "0.2" }]
service_tiers = { flex = { input = "0.05" } }

[teams.search]
markup = "20%"
description = "finds things"
budget = [{ usd = 50, period = "month" }, { usd = "5.5", period = "day", hard = false }]

[users."*"]
limits = { rpm = 5 }

[keys.ci]
team = "search"
key = "sk-ci-for-local-use"
models = ["fast"]
providers = ["azure-openai"]
expires_at = 2027-01-31T00:00:00Z
tags = { app = "ci" }
budget = { usd = "1", period = "day" }

[keys.boss]
role = "admin"
key = "sk-boss-for-local-use"
enabled = false
"""


def test_what_is_stored_is_a_file_that_stores_the_same() -> None:
    first = parse_config(FILE, "gateway.toml")
    stored, issued = entries(first), [key for _, key in keys(first)]
    again = GatewayConfig("registry", GatewayFile.model_validate(file_tables(stored, issued)))
    assert entries(again) == stored
    assert {key.name: key.issue(key.name) for key in pending_keys(again)} == {
        key.name: replace(key, key_id=lookup_id(key.name), key_hash=hash_key(key.name)) for key in issued
    }


def test_an_export_is_in_order_whatever_the_store_s_is() -> None:
    first = parse_config(FILE, "gateway.toml")
    stored, issued = entries(first), [key for _, key in keys(first)]
    text = gateway_toml(exported_file(stored, issued))
    assert gateway_toml(exported_file(stored[::-1], issued[::-1])) == text
    assert text.index("[keys.boss]") < text.index("[keys.ci]")
    exported = parse_config(text, "gateway.toml")
    assert exported.api_key_env() == first.api_key_env()
    again = [key.issue(key.name) for key in pending_keys(exported)]
    assert gateway_toml(exported_file(entries(exported), again)) == text


def test_the_token_in_force_says_what_a_key_may_do() -> None:
    first = parse_config('[keys.ci]\nkey = "sk-first-of-two"\nowner = "ann"\n', "gateway.toml")
    (old,) = (key for _, key in keys(first))
    rotated = replace(old, rotated=True, expires_at=100, models=("fast",))
    current = replace(old, key_id="another", owner=None)
    assert file_tables([], [rotated, current])["keys"] == {"ci": {"role": "caller", "enabled": True}}
    assert file_tables([], [current, rotated])["keys"] == {"ci": {"role": "caller", "enabled": True}}
