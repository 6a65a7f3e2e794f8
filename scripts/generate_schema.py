"""Writes docs/gateway.schema.json, with which editors complete and check a gateway.toml, from catalog/schema.py.

    python scripts/generate_schema.py            # writes the schema
    python scripts/generate_schema.py --check    # exits 1 when it is not what the models give

What a key means is read from the tables of docs/configuration.md. It is JSON Schema's Draft 4, the newest that Taplo
(the language server of TOML editors) takes: https://json-schema.org/draft-04/schema
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llm_gateway.catalog.schema import GatewayFile

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "docs" / "gateway.schema.json"
PAGE = ROOT / "docs" / "configuration.md"

SPENDING = ("OrganisationTable", "TeamTable", "UserTable", "KeyTable")
TABLES_OF: Mapping[str, tuple[str, ...]] = {
    "The top level": ("GatewayFile",),
    "`[providers.<name>]`": ("ProviderTable",),
    "`[models.<alias>]`": ("ModelTable",),
    "`[circuit]`": ("CircuitTable",),
    "Limits and budgets": (*SPENDING, "BudgetTable"),
    "Keys": ("KeyTable",),
}
"""The models whose keys the tables under a heading tell of."""
NOT_IN_TOML = ("title", "writeOnly")
PRICE = "US dollars per million tokens, in quotes."

_ROW = re.compile(r"^\| (`[^|]+`) \|(.*)\|\s*$")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def schema() -> str:
    """The schema's text."""
    made = GatewayFile.model_json_schema()
    definitions = {name: _draft_4(each) for name, each in made.pop("$defs").items()}
    whole = _draft_4(made)
    for model, key, text in _told(PAGE.read_text()):
        properties = (whole if model == "GatewayFile" else definitions[model])["properties"]
        if key in properties:
            properties[key] = _with_text(properties[key], text)
    for name in ("PriceTable", "PriceChangesTable", "ContextPriceTable"):
        for key, each in definitions[name]["properties"].items():
            if key in PER_TOKEN:
                definitions[name]["properties"][key] = _with_text(each, PRICE)
    head = {"$schema": "http://json-schema.org/draft-04/schema#", "title": "gateway.toml"}
    return json.dumps({**head, **whole, "definitions": definitions}, indent=2, ensure_ascii=False) + "\n"


PER_TOKEN = (
    *("input", "output", "cached_input", "cache_write_5m", "cache_write_1h", "reasoning"),
    *("audio_input", "audio_output", "cached_audio_input", "image_input", "image_output"),
)


def _told(page: str) -> Iterator[tuple[str, str, str]]:
    """(model, key, what it means) of each row of the page's tables of keys."""
    models: tuple[str, ...] = ()
    for line in page.splitlines():
        if line.startswith("#"):
            models = TABLES_OF.get(line.lstrip("# "), ())
        elif found := _ROW.match(line):
            text = _LINK.sub(r"\1", found[2].split("|")[-1].strip())
            for key in re.findall(r"`([a-z_0-9]+)`", found[1]):
                yield from ((model, key, text) for model in models if text)


def _with_text(each: dict[str, Any], text: str) -> dict[str, Any]:
    """Beside a `$ref` nothing counts: it is wrapped."""
    told = text[0].upper() + text[1:]
    return {"description": told, **({"allOf": [each]} if "$ref" in each else each)}


def _draft_4(value: Any) -> Any:
    if isinstance(value, list):
        return [_draft_4(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "properties" in value:
        properties = {name: _draft_4(each) for name, each in value["properties"].items()}
        return {**_draft_4({key: each for key, each in value.items() if key != "properties"}), "properties": properties}
    made = {key: _draft_4(each) for key, each in value.items() if key not in NOT_IN_TOML}
    return _bounds(_reference(_no_null(made)))


def _no_null(made: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: what may be left out is simply left out."""
    if "anyOf" in made:
        left = [each for each in made["anyOf"] if each != {"type": "null"}]
        made = {**{key: each for key, each in made.items() if key != "anyOf"}, **(left[0] if len(left) == 1 else {})}
        if len(left) > 1:
            made["anyOf"] = left
    if made.get("default", ...) in (None, {}, []):
        del made["default"]
    return made


def _reference(made: dict[str, Any]) -> dict[str, Any]:
    reference = made.get("$ref")
    return made if reference is None else {**made, "$ref": reference.replace("#/$defs/", "#/definitions/")}


def _bounds(made: dict[str, Any]) -> dict[str, Any]:
    """Draft 4 says by a flag that a bound is excluded, and has no `const`."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if made.get(exclusive) not in (None, True):  # True: done already, as one of several
            made |= {bound: made[exclusive], exclusive: True}
    if "const" in made:
        made["enum"] = [made.pop("const")]
    return made


def main(arguments: list[str] | None = None, file: Path = SCHEMA) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare, and exit 1 where the schema differs")
    wanted = schema()
    if parser.parse_args(arguments).check:
        if file.is_file() and file.read_text() == wanted:
            return 0
        print(f"{file.name} is not what the models give: run {Path(__file__).name}", file=sys.stderr)
        return 1
    file.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
