"""`llm-gateway requests …`: the ledger's entries, as they come."""

import shutil
import time
from typing import Annotated, Any, Final

import typer

from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.tail import FILTERS, Tail
from llm_gateway.cli.values import where

requests = typer.Typer(
    help="Requests: what each used and cost, and how it ended.", no_args_is_help=True, rich_markup_mode="rich"
)

_COLUMNS: Final = {
    "TIME": 19,
    "STATUS": 9,
    "KEY": 12,
    "MODEL": 20,
    "PROVIDER": 10,
    "IN": 6,
    "OUT": 6,
    "COST $": 9,
    "MS": 6,
    "REQUEST": 36,
}
"""Least widths: what comes one by one cannot be measured first, and a longer cell pushes the rest aside."""
_NUMBERS: Final = ("IN", "OUT", "COST $", "MS")
_NARROW: Final = {**{name: width for name, width in _COLUMNS.items() if name != "PROVIDER"}, "TIME": 8, "MODEL": 16}
"""For a terminal that has no room for all: the time has no date then."""


@requests.command("tail")
@with_shell
def tail(
    shell: Shell,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as requests end, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=10_000, help="How many of the last ones.")] = 20,
    filters: Annotated[
        list[str] | None, typer.Option("--where", help=f"NAME=VALUE, of {', '.join(FILTERS)}; may be repeated.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks, with --follow.")] = 2.0,
) -> None:
    """Show the last requests that have ended, oldest first. With --json: one document a line."""
    wanted = where(filters, FILTERS)
    with shell.gateway() as gateway:
        tailing = Tail(gateway, wanted)
        _print(shell, tailing.last(lines), header=True)
        while follow:
            time.sleep(every)
            _print(shell, tailing.new(), header=False)


@requests.command("show")
@with_shell
def show(
    shell: Shell, request_id: Annotated[str, typer.Argument(help="The x-request-id of the answer: req_…")]
) -> None:
    """Show one request's entry in the ledger, whole."""
    from llm_gateway.cli.client import segment

    with shell.gateway() as gateway:
        found = gateway.get(f"/usage/requests/{segment(request_id)}")

    def people() -> None:
        flat = {**found, **{f"usage.{name}": count for name, count in found["usage"].items() if count}}
        attempts = flat.pop("attempts")
        del flat["usage"]
        rows = [(name, _told(value)) for name, value in flat.items() if value not in (None, {}, [])]
        shell.out.table(("MEMBER", "VALUE"), rows)
        if attempts:
            shell.out.say("")
            columns = ("ATTEMPT", "MODEL", "STATUS", "MS", "COST $", "ERROR")
            tried = [
                (
                    number,
                    f"{each['provider']}:{each['model']}",
                    each["status"],
                    each["latency_ms"],
                    each["cost_usd"],
                    each["error"],
                )
                for number, each in enumerate(attempts, start=1)
            ]
            shell.out.table(columns, tried, right=("ATTEMPT", "STATUS", "MS", "COST $"))

    shell.out.show(found, people)


def _print(shell: Shell, found: list[dict[str, Any]], *, header: bool) -> None:
    if shell.out.json:
        for each in found:
            shell.out.line(each)
        return
    room = shutil.get_terminal_size().columns
    columns = _NARROW if shell.out.for_people and room < sum(_COLUMNS.values()) + 2 * len(_COLUMNS) else _COLUMNS
    if header:
        shell.out.row(list(columns), list(columns.items()), _NUMBERS, style="bold")
    for each in found:
        style = None if each["status"] == "settled" else "red" if each["status"] == "failed" else "yellow"
        cells = _cells(each, dated=columns is _COLUMNS)
        shell.out.row([cells[name] for name in columns], list(columns.items()), _NUMBERS, style=style)


def _cells(entry: dict[str, Any], *, dated: bool) -> dict[str, object]:
    usage, at = entry["usage"], entry["at"][:19].replace("T", " ")
    return {
        "TIME": at if dated else at[11:],
        "STATUS": entry["status"],
        "KEY": entry["key"],
        "MODEL": entry["requested_model"],
        "PROVIDER": entry["provider"],
        "IN": usage["input_tokens"],
        "OUT": usage["output_tokens"],
        "COST $": entry["cost_usd"],
        "MS": entry["latency_ms"],
        "REQUEST": entry["request_id"],
    }


def _told(value: object) -> object:
    return ", ".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, dict) else value
