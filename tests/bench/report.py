"""Figures, targets, the table and build/bench.json."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.apps import PASSTHROUGHS

Rounds = Mapping[str, Sequence[float]]
"""By app, one figure a round; the rounds of all apps took turns."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured, of every app that can do it."""

    name: str
    unit: str
    rounds: Rounds
    digits: int = 0
    table: str = "requests"


@dataclass(frozen=True, slots=True)
class Target:
    """`value` is the median of the rounds' ratios, or the figure itself; None where it could not be measured."""

    name: str
    value: float | None
    limit: float
    unit: str = "x"
    spread: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        return "not measured" if self.value is None else "PASS" if self.value <= self.limit else "MISS"


@dataclass(slots=True)
class Report:
    """What `make bench` says."""

    about: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    dynamodb: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def show(self, console: Console) -> None:
        console.print(", ".join(f"{name} {value}" for name, value in self.about.items()))
        for title in dict.fromkeys(row.table for row in self.rows):
            console.print(_figures(title, [row for row in self.rows if row.table == title]))
        if self.dynamodb:
            console.print(_dynamodb(self.dynamodb))
        for what, why in self.not_measured.items():
            console.print(f"not measured: {what}: {why}")
        console.print(_targets(self.targets))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "about": self.about,
            "figures": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "apps": {
                        app: {"median": statistics.median(found), "min": min(found), "max": max(found), "rounds": [*found]}
                        for app, found in row.rounds.items()
                    },
                }
                for row in self.rows
            ],
            "dynamodb": self.dynamodb,
            "targets": [
                {"name": one.name, "value": one.value, "limit": one.limit, "unit": one.unit, "spread": one.spread,
                 "verdict": one.verdict}
                for one in self.targets
            ],
            "not_measured": self.not_measured,
        }  # fmt: skip
        path.write_text(json.dumps(document, indent=2) + "\n")


def ratio(name: str, row: Row, limit: float, baselines: Sequence[str] = PASSTHROUGHS, app: str = "gateway") -> Target:
    """The gateway against the cheapest baseline, round by round: what slows the machine slows both."""
    cheapest = min(baselines, key=lambda baseline: statistics.median(row.rounds[baseline]))
    ratios = [ours / theirs for ours, theirs in zip(row.rounds[app], row.rounds[cheapest], strict=True)]
    return Target(f"{name} / {cheapest}", statistics.median(ratios), limit, spread=(min(ratios), max(ratios)))


def _figures(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=escape(f"{title}: median [min … max] of the rounds"), title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    apps = list(dict.fromkeys(app for row in rows for app in row.rounds))
    for app in apps:
        table.add_column(app, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, row.unit, *[_figure(row.rounds.get(app), row.digits) for app in apps])
    return table


def _figure(found: Sequence[float] | None, digits: int) -> str:
    if not found:
        return ""
    median = f"{statistics.median(found):,.{digits}f}"
    return median if len(found) == 1 else escape(f"{median} [{min(found):,.{digits}f} … {max(found):,.{digits}f}]")


def _dynamodb(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    table = Table(title="DynamoDB, counted on DynamoDB Local", title_justify="left")
    for column in ("", "calls", "capacity units"):
        table.add_column(column)
    for what, consumed in found.items():
        table.add_row(what, *[_amounts(consumed[part]) for part in ("calls", "units")])
    return table


def _amounts(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items())


def _targets(targets: Sequence[Target]) -> Table:
    table = Table(title="targets", title_justify="left")
    for column in ("", "measured", "at most", ""):
        table.add_column(column)
    for one in targets:
        measured = "" if one.value is None else f"{one.value:.2f} {one.unit}"
        if one.spread:
            measured += f" [{one.spread[0]:.2f} … {one.spread[1]:.2f}]"
        table.add_row(one.name, escape(measured), f"{one.limit:g} {one.unit}", one.verdict)
    return table
