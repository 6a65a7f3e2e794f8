"""What differs between two price books, as a table for people: vendor, model, kind of price, old price, new price."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

_CONDITIONS = ("from_date", "from_time", "to_time")
_NOTHING = "-"


class Change(NamedTuple):
    vendor: str
    model: str
    kind: str
    old: str
    new: str


def changes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Change]:
    """By vendor and model. Both are books as files: `{"openai.json": …, "version.json": …}`."""
    old, new = _flat(before), _flat(after)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [Change(*key, old.get(key, _NOTHING), new.get(key, _NOTHING)) for key in keys]


def print_changes(before: Mapping[str, bytes], after: Mapping[str, bytes], console: Console | None = None) -> None:
    """Nothing is printed where nothing changed."""
    found = changes(before, after)
    if not found:
        return
    if console is None:
        console = Console()
        if not console.is_terminal:  # in a file or a log nothing may be cut off at a width
            console = Console(width=200)
    old, new = _version(before), _version(after)
    table = Table("vendor", "model", "price", "old", "new", title=f"{len(found)} changes, {old} -> {new}")
    for change in found:
        table.add_row(*change)
    console.print(table)


def _version(book: Mapping[str, bytes]) -> str:
    version: str = orjson.loads(book.get("version.json", b"{}")).get("version", _NOTHING)
    return version


def _flat(book: Mapping[str, bytes]) -> dict[tuple[str, str, str], str]:
    """Every price by vendor, model and kind, the kind with the condition that it holds under."""
    return {
        (file.removesuffix(".json"), model["id"], kind): price
        for file, content in book.items()
        if file != "version.json"
        for model in orjson.loads(content)["models"]
        for kind, price in _prices(model)
    }


def _prices(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for document in (*model["prices"], *model.get("variants", ())):
        condition = _condition(document)
        for kind, price in document.items():
            if kind not in _CONDITIONS and kind != "when":
                yield f"{kind}{condition}", _shown(price)
    for multiplier in model.get("multipliers", ()):
        yield f"all{_condition(multiplier)}", f"x {multiplier['by']}"


def _condition(document: Mapping[str, Any]) -> str:
    told = [f"{key}={value}" for key, value in document.get("when", {}).items()]
    told += [f"{key} {document[key]}" for key in _CONDITIONS if key in document]
    return f" ({', '.join(told)})" if told else ""


def _shown(price: str | Mapping[str, Any]) -> str:
    if isinstance(price, str):
        return price
    return ", ".join([price["base"], *(f"{value} above {above}" for above, value in price["tiers"])])
