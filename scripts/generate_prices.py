"""Writes the price book (`llm_gateway/catalog/prices/*.json`) from the data bundled in the genai-prices package.

Development only: the gateway reads the JSON and never imports genai-prices. Run it after upgrading the package:

    make prices                                  # writes the files, and prints every price that changed
    python -m scripts.generate_prices --check    # exits 1 when the files are not what the installed package gives

The output depends on the package and on `price_multipliers.toml` beside this file. `version.json` keeps its date as
long as nothing else changed, so running the script twice changes nothing and prints nothing. The format is described in
`docs/adr/0003-price-book.md`; numbers are strings, so that no reader can make floats of them.

Source: https://github.com/pydantic/genai-prices
"""

import argparse
import hashlib
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import orjson
from genai_prices.data import providers as genai_providers
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from llm_gateway.metering.matching import matches
from scripts.price_changes import print_changes

PRICES = Path(__file__).resolve().parent.parent / "layers" / "core" / "llm_gateway" / "catalog" / "prices"

MULTIPLIERS = Path(__file__).with_name("price_multipliers.toml")

RENAMED = {"aws": "bedrock", "azure": "azure_openai", "google": "gemini", "x-ai": "xai"}
"""genai-prices' names that are not ours. All others keep theirs, with underscores, and serve `price_as`."""

ECHO: Mapping[str, Any] = {
    "models": [
        {
            "id": "echo",
            "match": {"starts_with": ""},
            "prices": [{"input_mtok": "1", "cache_read_mtok": "0.5", "output_mtok": "2"}],
        }
    ]
}
"""The built-in provider, priced like any other: any model name, round numbers."""


def provider_name(genai_id: str) -> str:
    return RENAMED.get(genai_id, genai_id.replace("-", "_"))


def plain(number: Decimal) -> str:
    """Plain notation without an exponent or trailing zeros: `0.15`, `10`, `0`."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def match_clause(clause: Any) -> dict[str, Any]:  # noqa: PLR0911 - one return a kind
    """A clause as one-key JSON. Literals are lowered here, since model names are lowered before they are matched."""
    match clause:
        case ClauseEquals(equals=text):
            return {"equals": text.lower()}
        case ClauseStartsWith(starts_with=text):
            return {"starts_with": text.lower()}
        case ClauseEndsWith(ends_with=text):
            return {"ends_with": text.lower()}
        case ClauseContains(contains=text):
            return {"contains": text.lower()}
        case ClauseRegex(regex=pattern):
            return {"regex": pattern}
        case ClauseOr(or_=clauses):
            return {"or": [match_clause(each) for each in clauses]}
        case ClauseAnd(and_=clauses):
            return {"and": [match_clause(each) for each in clauses]}
    raise TypeError(f"genai-prices has a match clause this script does not know: {clause!r}")


def rates(price: ModelPrice) -> dict[str, Any]:
    """`{price key: "0.15"}`, or `{"base": …, "tiers": [[tokens, price], …]}` where the context's size matters."""
    found: dict[str, Any] = {}
    for key, value in sorted(price.__dict__.items()):
        if isinstance(value, TieredPrices):
            tiers = [[tier.start, plain(tier.price)] for tier in value.tiers]
            found[key] = {"base": plain(value.base), "tiers": tiers}
        elif isinstance(value, Decimal):
            found[key] = plain(value)
        elif value is not None:
            raise TypeError(f"genai-prices has a price this script does not know: {key}={value!r}")
    return found


def utc_time(value: time) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return datetime.combine(date(1970, 1, 1), value).astimezone(UTC).time().isoformat()


def constraint(value: StartDateConstraint | TimeOfDateConstraint | None) -> dict[str, str]:
    match value:
        case None:
            return {}
        case StartDateConstraint(start_date=start):
            return {"from_date": start.isoformat()}
        case TimeOfDateConstraint(start_time=start_time, end_time=end_time):
            return {"from_time": utc_time(start_time), "to_time": utc_time(end_time)}
    raise TypeError(f"genai-prices has a constraint this script does not know: {value!r}")


def model_document(model: ModelInfo) -> dict[str, Any]:
    document: dict[str, Any] = {"id": model.id, "match": match_clause(model.match)}
    if model.context_window is not None:
        document["context_window"] = model.context_window
    if isinstance(model.prices, ModelPrice):
        document["prices"] = [rates(model.prices)]
    else:
        document["prices"] = [{**rates(each.prices), **constraint(each.constraint)} for each in model.prices]
    if model.price_variants:
        document["variants"] = [
            {"when": dict(sorted(each.when.items())), **rates(each.prices), **constraint(each.constraint)}
            for each in model.price_variants
        ]
    return document


def provider_document(provider: Provider) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if provider.fallback_model_providers:
        document["fallbacks"] = [provider_name(each) for each in provider.fallback_model_providers]
    document["models"] = [model_document(model) for model in provider.models]
    return document


def add_multipliers(documents: Mapping[str, dict[str, Any]]) -> None:
    """Puts what `price_multipliers.toml` says on the models it names, unless the package has prices for the same."""
    for rule in tomllib.loads(MULTIPLIERS.read_text())["multiplier"]:
        for model in documents[rule["vendor"]]["models"]:
            known = any(rule["when"].items() <= variant["when"].items() for variant in model.get("variants", ()))
            if not known and any(matches(clause, model["id"].lower()) for clause in rule["models"]):
                model.setdefault("multipliers", []).append({"when": rule["when"], "by": rule["by"]})


def price_files() -> Iterator[tuple[str, bytes]]:
    """Every file of the book but `version.json`, by name."""
    documents = {provider_name(each.id): provider_document(each) for each in genai_providers}
    documents["echo"] = dict(ECHO)
    add_multipliers(documents)
    for name in sorted(documents):
        yield f"{name}.json", orjson.dumps(documents[name]) + b"\n"


def version_file(files: Mapping[str, bytes], before: Mapping[str, Any], today: str) -> bytes:
    """`version.json`: what it was `before` while the prices are the same. Two books of one day have two versions."""
    package = installed_version("genai-prices")
    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + files[name] for name in sorted(files))).hexdigest()
    day = before["version"].split("+")[0] if before.get("sha256") == digest else today
    document = {
        "version": f"{day}+genai-prices-{package}.{digest[:8]}",
        "source": "https://github.com/pydantic/genai-prices",
        "sha256": digest,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write the price book from genai-prices.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the files are out of date")
    parser.add_argument("--date", default=datetime.now(UTC).date().isoformat(), help="date of a new version")
    parser.add_argument("--into", type=Path, default=PRICES, help="the book's directory")
    options = parser.parse_args(arguments)

    prices: Path = options.into
    on_disk = {path.name: path.read_bytes() for path in prices.glob("*.json")}
    files = dict(price_files())
    files["version.json"] = version_file(files, orjson.loads(on_disk.get("version.json", b"{}")), options.date)
    if options.check:
        stale = sorted(name for name in files.keys() | on_disk.keys() if files.get(name) != on_disk.get(name))
        for name in stale:
            print(f"{name} is not what genai-prices {installed_version('genai-prices')} gives", file=sys.stderr)
        return 1 if stale else 0

    prices.mkdir(exist_ok=True)
    for name in on_disk.keys() - files.keys():
        (prices / name).unlink()
    for name, content in files.items():
        (prices / name).write_bytes(content)
    print_changes(on_disk, files)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
