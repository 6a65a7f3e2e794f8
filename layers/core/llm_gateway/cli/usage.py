"""`llm-gateway usage`: what was used, as a table with bars, as JSON, or as CSV."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import typer

from llm_gateway.cli.failures import BadInput
from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.values import where

usage = typer.Typer(help="What was used, and what it cost.", rich_markup_mode="rich")

FILTERS: Final = ("team", "key", "user", "tag", "provider", "model")
_BAR: Final = 24
_SUMS: Final = ("calls", "errors", "input_tokens", "output_tokens")
_ROWS: Final = 10_000


@usage.callback(invoke_without_command=True)
@with_shell
def ask(
    shell: Shell,
    by: Annotated[
        str, typer.Option("--by", help="Rows: day, team, key, user, tag, provider, model; several with commas.")
    ] = "day",
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="The first day (UTC); by default 30 days."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day, included; by default today.")
    ] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--where", help=f"NAME=VALUE, of {', '.join(FILTERS)}; may be repeated.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every measure, as the gateway gives it.")] = False,
) -> None:
    """What was used, and what it cost."""
    if csv and shell.out.json:
        raise BadInput("--csv and --json are two forms: give one of them")
    params: dict[str, str | int | None] = {"group_by": by, **where(filters, FILTERS)}
    for name, day in (("from", first), ("to", last)):
        params[name] = None if day is None else f"{day:%Y-%m-%d}"
    with shell.gateway() as gateway:
        if csv:
            with gateway.stream("GET", "/usage", params={**params, "format": "csv"}) as response:
                for text in response.iter_text():
                    sys.stdout.write(text)
            return
        rows = list(gateway.pages("/usage", **params, limit=_ROWS))
    shell.out.show({"data": rows}, lambda: _table(shell, [name.strip() for name in by.split(",")], rows))


def _table(shell: Shell, dimensions: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Bars are of the cost, or of the calls where nothing cost anything. Calls without a price are told apart."""
    costs = [Decimal(row["cost_usd"]) for row in rows]
    amounts = costs if any(costs) else [Decimal(row["calls"]) for row in rows]
    most = max(amounts, default=Decimal(0))
    total: dict[str, int] = {name: sum(row[name] for row in rows) for name in (*_SUMS, "unpriced")}
    sums = (*_SUMS, "unpriced") if total["unpriced"] else _SUMS
    shown = [
        (
            *(row.get(name) for name in dimensions),
            *(f"{row[name]:,}" for name in sums),
            _cost(row, cost),
            bar(amount, most),
        )
        for row, cost, amount in zip(rows, costs, amounts, strict=True)
    ]
    if len(rows) > 1:
        counts = (f"{total[name]:,}" for name in sums)
        shown.append(("total", *[""] * (len(dimensions) - 1), *counts, _cost(total, sum(costs, Decimal(0))), ""))
    numbers = (*(name.removesuffix("_tokens").upper() for name in sums), "COST $")
    columns = (*(name.upper() for name in dimensions), *numbers, "")
    shell.out.table(columns, shown, right=numbers, empty="nothing was used in these days")
    if total["unpriced"]:
        shell.out.note("unpriced calls are in no cost: give their model a price under [prices] in gateway.toml")


def _cost(counts: Mapping[str, Any], cost: Decimal) -> str | None:
    """None where it is not known of any of the calls: that is not nothing."""
    return None if counts["unpriced"] and counts["unpriced"] == counts["calls"] else told_usd(cost)


def bar(amount: Decimal, most: Decimal) -> str:
    """As long as its share of the longest; what is not nothing shows. Eighths where the terminal has them."""
    if amount <= 0 or most <= 0:
        return ""
    try:
        "█▏".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * max(1, round(amount / most * _BAR))
    whole, eighths = divmod(max(1, round(amount / most * _BAR * 8)), 8)
    part: str = ("", *"▏▎▍▌▋▊▉")[eighths]
    return "█" * whole + part


def told_usd(cost: Decimal) -> str:
    """For reading: cents, or as many digits as the first that counts and one more. `--json` has all of them."""
    if not cost:
        return "0"
    if abs(cost) >= 1:
        return f"{cost:,.2f}"
    return f"{round(cost, 1 - cost.adjusted()):f}"
