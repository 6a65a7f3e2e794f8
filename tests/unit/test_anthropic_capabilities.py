"""Specifies the facts about Claude models: complete tables, and the right one for a model under each platform's name."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from anthropic.types import model_param

from llm_gateway.catalog import capabilities
from llm_gateway.catalog.capabilities import capability

TABLES: list[dict[str, Any]] = tomllib.loads(
    (Path(capabilities.__file__).parent / "capabilities" / "anthropic.toml").read_text()
)["models"]
ALLOWED: dict[str, set[Any]] = {
    "thinking": {"adaptive", "budget", "none"},
    "thinking_default": {True, False},
    "thinking_off": {"omit", "disabled", "between_tools", "never"},
    "thinking_display": {"summarized", "omitted"},
    "sampling": {"any", "one", "none"},
    "forced_tools": {True, False},
    "json_schema": {True, False},
}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table["match"][0]))
def test_a_table_is_complete(table: dict[str, Any]) -> None:
    assert table.keys() - {"takes_no"} == {"match", "max_output_tokens", "efforts", *ALLOWED}
    assert all(table[name] in allowed for name, allowed in ALLOWED.items())
    assert table["max_output_tokens"] >= 4096
    assert bool(table["efforts"]) == (table["thinking"] == "adaptive")
    assert set(table["efforts"]) <= {"low", "medium", "high", "xhigh", "max"}
    assert table["thinking_default"] == (table["thinking_off"] != "omit")
    assert all(pattern == pattern.lower() for pattern in table["match"])


def test_the_last_table_is_for_every_other_model() -> None:
    assert TABLES[-1]["match"] == ["*"]
    assert TABLES[-2]["match"] == ["*claude-*"]


def test_every_model_that_anthropics_sdk_names_is_known() -> None:
    literal, _ = get_args(model_param.ModelParam)
    names = get_args(literal)
    assert len(names) > 10
    generic = [TABLES[-1]["match"], TABLES[-2]["match"]]
    assert [name for name in names if capability("anthropic", name)["match"] in generic] == []


NAMES: list[tuple[str, dict[str, Any]]] = [
    ("claude-opus-5-5", {"thinking_off": "never", "forced_tools": False, "max_output_tokens": 128_000}),
    ("anthropic.claude-opus-5-5", {"thinking_off": "never", "forced_tools": False}),
    ("claude-fable-5-1", {"thinking_off": "never", "forced_tools": False}),
    ("claude-fable-5", {"thinking_off": "never", "forced_tools": True}),
    ("claude-sonnet-5-5", {"thinking_off": "between_tools", "forced_tools": False}),
    ("claude-sonnet-5", {"thinking_off": "disabled", "sampling": "none"}),
    ("claude-haiku-5-5", {"thinking_off": "disabled", "sampling": "none"}),
    ("claude-opus-5@20260724", {"thinking_off": "disabled"}),
    ("claude-opus-4-8", {"thinking": "adaptive", "thinking_default": False, "sampling": "none"}),
    ("global.anthropic.claude-sonnet-4-6", {"thinking": "adaptive", "sampling": "one"}),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", {"thinking": "budget", "max_output_tokens": 64_000}),
    ("claude-haiku-4-5@20251001", {"thinking": "budget", "json_schema": True}),
    ("claude-opus-4-1-20250805", {"max_output_tokens": 32_000, "json_schema": True}),
    ("claude-2.1", {"takes_no": ["images", "tools"], "max_output_tokens": 4096}),
    ("anthropic.claude-v2:1", {"takes_no": ["images", "tools"], "thinking": "none"}),
    ("anthropic.claude-opus-4-20250514-v1:0", {"max_output_tokens": 32_000, "sampling": "any"}),
    ("claude-sonnet-4@20250514", {"max_output_tokens": 64_000}),
    ("claude-3-7-sonnet-latest", {"thinking": "budget"}),
    ("claude-3-5-sonnet-v2@20241022", {"thinking": "none", "max_output_tokens": 8192}),
    ("claude-3-haiku-20240307", {"thinking": "none", "max_output_tokens": 4096}),
    ("claude-of-tomorrow", {"thinking": "adaptive", "sampling": "none"}),
    ("deepseek-chat", {"thinking": "budget", "max_output_tokens": 8192}),
]


@pytest.mark.parametrize(("name", "facts"), NAMES)
def test_a_model_by_its_name(name: str, facts: dict[str, Any]) -> None:
    found = capability("anthropic", name)
    assert {fact: found[fact] for fact in facts} == facts
