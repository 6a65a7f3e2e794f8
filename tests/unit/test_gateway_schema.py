"""Specifies docs/gateway.schema.json: editors accept with it what the gateway accepts, and see what the gateway refuses."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft4Validator, FormatChecker  # type: ignore[import-untyped] # its stubs are no dependency of ours

from llm_gateway.admin.rendering import as_json
from llm_gateway.catalog.config import ConfigError, check_document
from scripts.generate_schema import SCHEMA, TABLES_OF, main, schema
from tests.fakes.gateway_files import gateway_files

ROOT = Path(__file__).resolve().parents[2]
MADE: dict[str, Any] = json.loads(schema())
VALIDATOR = Draft4Validator(MADE, format_checker=FormatChecker())
EXAMPLES = [
    pytest.param(text, id=f"{page.name} {number}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), flags=re.DOTALL))
    if set(tomllib.loads(text)) <= set(MADE["properties"])  # there are TOML files of other kinds
]
ECHO = {"provider": "echo", "model": "demo"}


def test_it_is_a_schema_of_the_draft_that_it_names() -> None:
    Draft4Validator.check_schema(MADE)
    assert SCHEMA.read_text() == schema(), "run scripts/generate_schema.py"
    refs = set(re.findall(r'"\$ref": "([^"]+)"', schema()))
    assert refs
    assert all(ref.removeprefix("#/definitions/") in MADE["definitions"] for ref in refs)
    assert '"null"' not in schema(), "TOML has none"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_documented_example_is_valid(example: str) -> None:
    VALIDATOR.validate(as_json(tomllib.loads(example)))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 8


@settings(max_examples=60, deadline=None)
@given(gateway_files())
def test_what_the_gateway_accepts_is_valid(file: dict[str, Any]) -> None:
    check_document(file, "gateway.toml")
    VALIDATOR.validate(as_json(file))


@pytest.mark.parametrize(
    "file",
    [
        {"modles": {}},
        {"models": {"m": {}}},
        {"models": {"m": {"deployments": []}}},
        {"models": {"m": {"deployments": [{**ECHO, "wieght": 3}]}}},
        {"models": {"m": {"deployments": [{**ECHO, "weight": 0}]}}},
        {"models": {"m": {"deployments": [ECHO], "timeouts": {"connect_s": 0}}}},
        {"models": {"m": {"deployments": [ECHO], "timeouts": {"connect_s": 901}}}},
        {"prices": {"echo:demo": {"input": 0.1, "output": "1"}}},
        {"prices": {"echo:demo": {"input": "0.1"}}},
        {"teams": {"t": {"budget": {"usd": "5", "period": "dya"}}}},
        {"teams": {"t": {"budget": []}}},
        {"keys": {"k": {"role": "boss"}}},
        {"keys": {"k": {"enabled": "yes"}}},
        {"providers": {"p": {"dialect": "esperanto"}}},
        {"cors_origins": "*"},
    ],
)
def test_what_the_gateway_refuses_by_its_shape_is_not_valid(file: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        check_document(file, "gateway.toml")
    assert not VALIDATOR.is_valid(file)


def test_keys_tell_what_they_mean() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for heading, models in TABLES_OF.items():
        assert re.search(rf"^#+ {re.escape(heading)}$", page, flags=re.MULTILINE), (
            f"the page has no {heading!r} any more"
        )
        for model in models:
            properties = (MADE if model == "GatewayFile" else MADE["definitions"][model])["properties"]
            assert any("description" in each for each in properties.values()), model
    assert MADE["definitions"]["KeyTable"]["properties"]["owner"]["description"] == "Who answers for it; for people"
    assert MADE["definitions"]["PriceTable"]["properties"]["input"]["description"].startswith("US dollars")
    assert "](" not in schema(), "no links: the page's are relative to it"


@pytest.mark.parametrize("text", [None, "stale"])
def test_the_check_fails_until_the_schema_is_written(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.schema.json"
    if text is not None:
        file.write_text(text)
    assert main(["--check"], file) == 1
    assert "gateway.schema.json" in capsys.readouterr().err
    assert main([], file) == 0
    assert main(["--check"], file) == 0
