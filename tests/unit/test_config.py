"""Specifies gateway.toml: what it may say, and what it becomes. test_config_faults.py has what it may not say."""

import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.config import ConfigError, entries, keys, load_config, parse_config, pending_keys
from llm_gateway.catalog.faults import where
from llm_gateway.catalog.providers import provider_rows
from llm_gateway.catalog.schema import ENTRIES, TABLES, GatewayFile, Table
from llm_gateway.domain.catalog import Deployment, Price, Timeouts
from llm_gateway.domain.identity import lookup_id

TOKEN = "sk-search-prod-for-local-use"

CORE = """
default_provider = "openai"
default_model = "fast"
cors_origins = ["https://app.corp.example"]

[providers.corp]
dialect = "openai_chat"
base_url = "https://llm.corp.example/v1"
api_key_env = "CORP_API_KEY"

[models.fast]
deployments = [
  { provider = "corp", model = "small-1", weight = 3 },
  { provider = "openai", model = "gpt-4.1-mini", weight = 1 },
]
fallbacks = ["smart"]
timeouts = { first_token_s = 10, idle_s = 30, total_s = 600 }

[models.smart]
deployments = [{ provider = "openai", model = "gpt-5" }]

[prices."corp:small-1"]
input = "0.10"
output = "0.40"
cached_input = "0.025"

[teams.search]
budget = { usd = "50", period = "month" }

[keys.search-prod]
team = "search"
key = "sk-search-prod-for-local-use"
models = ["fast", "echo:*"]
limits = { rpm = 600, tpm = 200000, parallel = 20 }
budget = { usd = "5", period = "day", alerts = [0.5, 0.8, 1.0] }
"""
"""The core that users' files rely on, from the design."""

DOCS = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_the_core_becomes_the_catalog() -> None:
    catalog = build_catalog(entries(parse_config(CORE, "gateway.toml")), {"LLM_PROVIDER": "groq"})
    assert (catalog.default_provider, catalog.default_model) == ("openai", "fast")
    assert catalog.cors_origins == ("https://app.corp.example",)
    assert catalog.x_gateway is True
    assert catalog.providers["corp"].base_url == "https://llm.corp.example/v1"
    fast = catalog.aliases["fast"]
    assert fast.deployments == (Deployment("corp", "small-1", 3), Deployment("openai", "gpt-4.1-mini", 1))
    assert fast.fallbacks == ("smart",)
    assert fast.timeouts == Timeouts(first_token_s=10.0, idle_s=30.0, total_s=600.0)
    assert catalog.prices == {"corp:small-1": Price("0.10", "0.40", cached_input="0.025")}


def test_entries_survive_json_and_hold_no_key() -> None:
    found = entries(parse_config(CORE, "gateway.toml"))
    assert [(entry.kind, entry.name) for entry in found] == [
        ("settings", "gateway"),
        ("provider", "corp"),
        ("model", "fast"),
        ("model", "smart"),
        ("price", "corp:small-1"),
        ("team", "search"),
        ("key", "search-prod"),
    ]
    for entry in found:
        document = orjson.dumps(entry.document)
        assert orjson.loads(document) == entry.document
        assert TOKEN.encode() not in document
    assert found[-1].document["limits"] == {"rpm": 600, "tpm": 200000, "parallel": 20}
    assert found[-1].document["budget"][0]["usd"] == "5"


def test_a_given_key_is_hashed_and_a_missing_one_is_made_later() -> None:
    config = parse_config(
        CORE
        + """
[keys.later]
role = "team-admin"
team = "search"
user = "ann"
models = []
enabled = false
expires_at = 2027-01-31T00:00:00+01:00
tags = { cost_center = "4711" }
providers = ["azure-openai", "echo"]
owner = "ops@corp.example"
metadata = { ticket = "OPS-17", note = "" }
""",
        "gateway.toml",
    )
    ((token, key),) = keys(config)
    assert token == TOKEN
    assert (key.name, key.team, key.models, key.role) == ("search-prod", "search", ("fast", "echo:*"), "caller")
    assert key.key_id == lookup_id(TOKEN)
    assert key.matches(TOKEN)
    assert TOKEN not in repr(key)
    (pending,) = pending_keys(config)
    issued = pending.issue("sk-made-just-now")
    assert issued.matches("sk-made-just-now")
    assert (issued.name, issued.role, issued.team, issued.user) == ("later", "team-admin", "search", "ann")
    assert (issued.models, issued.enabled, issued.tags) == ((), False, {"cost_center": "4711"})
    assert issued.expires_at == int(datetime(2027, 1, 30, 23, tzinfo=UTC).timestamp())
    assert (issued.providers, issued.owner) == (("azure_openai", "echo"), "ops@corp.example")
    assert issued.metadata == {"ticket": "OPS-17", "note": ""}
    assert (key.providers, key.owner, key.metadata) == (None, None, {})


def test_an_empty_file_says_nothing() -> None:
    config = parse_config("", "gateway.toml")
    assert [(entry.kind, entry.name, entry.document) for entry in entries(config)] == [("settings", "gateway", {})]
    assert keys(config) == []
    assert pending_keys(config) == []


def test_where_each_providers_key_comes_from() -> None:
    config = parse_config(
        '[providers.corp]\nbase_url = "http://c/v1"\napi_key_env = "CORP_API_KEY"\n'
        '[providers.gemini]\napi_key_env = "MINE"',
        "gateway.toml",
    )
    names = config.api_key_env()
    assert names["corp"] == ("CORP_API_KEY",)
    assert names["gemini"] == ("MINE", "GEMINI_API_KEY", "GOOGLE_API_KEY")
    assert names["openai"] == ("OPENAI_API_KEY",)
    assert "echo" not in names


def test_a_local_server_with_a_key_is_sent_it() -> None:
    text = '[providers.vllm]\napi_key_env = "MY_VLLM_KEY"'
    catalog = build_catalog(entries(parse_config(text, "gateway.toml")), {})
    assert catalog.providers["vllm"].credential == "bearer"
    assert catalog.providers["ollama"].credential == "none"


def test_hyphens_are_one_spelling_everywhere() -> None:
    text = """
default_provider = "azure-openai"
[providers.azure-openai]
base_url = "https://r.openai.azure.com"
[providers.my-corp]
base_url = "http://c/v1"
[models.a]
deployments = [{ provider = "azure-openai", model = "m-1" }]
fallbacks = ["my-corp:m-2", "b"]
[models.b]
deployments = [{ provider = "my_corp", model = "m-2" }]
[prices."my-corp:m-2"]
input = 1
output = 2
"""
    catalog = build_catalog(entries(parse_config(text, "gateway.toml")), {})
    assert catalog.default_provider == "azure_openai"
    assert catalog.aliases["a"].deployments == (Deployment("azure_openai", "m-1"),)
    assert catalog.aliases["a"].fallbacks == ("my_corp:m-2", "b")
    assert catalog.prices == {"my_corp:m-2": Price("1", "2")}


def test_no_key_is_in_the_configs_repr() -> None:
    assert TOKEN not in repr(parse_config(CORE, "gateway.toml"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load_config(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'default_model = "caf\xe9"')
    with pytest.raises(ConfigError, match=r"latin\.toml: is not UTF-8, at byte 20"):
        load_config(tmp_path / "latin.toml")
    (tmp_path / "good.toml").write_text(CORE)
    assert load_config(tmp_path / "good.toml").name == "good.toml"


@given(
    st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs")), min_size=1, max_size=30).filter(
        lambda name: name == name.strip() and name not in {".", ".."}
    )
)
def test_an_alias_may_have_any_name_that_can_be_seen(name: str) -> None:
    spelled = where((name,))
    team = where((name.replace("/", "-"),))
    text = f'[models.{spelled}]\ndeployments = [{{ provider = "echo", model = "m" }}]\n[teams.{team}]\n'
    catalog = build_catalog(entries(parse_config(text, "gateway.toml")), {})
    assert list(catalog.aliases) == [name]


@given(st.decimals(0, 10**9 - 1, places=12).map(lambda number: format(number, "f")))
def test_a_price_keeps_every_digit(price: str) -> None:
    text = f'[prices."echo:m"]\ninput = "{price}"\noutput = "0"'
    (entry,) = [entry for entry in entries(parse_config(text, "gateway.toml")) if entry.kind == "price"]
    assert entry.document["input"] in {price, "0"}
    assert (entry.document["input"] == "0") == (float(price) == 0)


def test_a_long_chain_of_fallbacks_and_a_diamond_are_no_circle() -> None:
    echo = 'deployments = [{ provider = "echo", model = "m" }]'
    chain = "".join(f'[models.m{number}]\n{echo}\nfallbacks = ["m{number + 1}", "m2000"]\n' for number in range(1999))
    last = f"[models.m1999]\n{echo}\n[models.m2000]\n{echo}\n"
    assert len(entries(parse_config(chain + last, "gateway.toml"))) == 2002


EXAMPLES: list[str] = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_documented_example_loads_and_builds(example: str) -> None:
    config = parse_config(example, "gateway.toml")
    assert tomllib.loads(example)
    build_catalog(entries(config), {})


def test_what_the_first_example_becomes() -> None:
    config = parse_config(EXAMPLES[0], "gateway.toml")
    catalog = build_catalog(entries(config), {})
    assert catalog.providers["azure_eu"].quirks.model_in_path is True
    assert catalog.providers["ollama"].base_url == "http://gpu.corp.example:11434/v1"
    assert catalog.aliases["smart"].deployments == (Deployment("azure_eu", "gpt-5"),)
    assert [key.name for _, key in keys(config)] == ["search-prod"]
    assert [key.name for key in pending_keys(config)] == ["operator"]


def test_every_table_and_field_is_in_an_example() -> None:
    shown = {key for example in EXAMPLES for key in keys_of(tomllib.loads(example))}
    tables: list[type[Table]] = [GatewayFile, *ENTRIES.values(), *TABLES.values()]
    assert {key for table in tables for key in table.model_fields} - shown == set()


def keys_of(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from keys_of(below)
    elif isinstance(value, list):
        for below in value:
            yield from keys_of(below)


def test_every_key_and_every_environment_name_is_documented() -> None:
    text = DOCS.read_text()
    tables: list[type[Table]] = [GatewayFile, *ENTRIES.values(), *TABLES.values()]
    keys_of_tables = {key for table in tables for key in table.model_fields}
    variables = {
        variable
        for row in provider_rows().values()
        for variable in (*row.api_key_env, *row.base_url_env, *row.api_version_env, *row.header_env.values())
    }
    missing = [word for word in sorted(keys_of_tables | variables) if not re.search(rf"\b{re.escape(word)}\b", text)]
    assert missing == []
