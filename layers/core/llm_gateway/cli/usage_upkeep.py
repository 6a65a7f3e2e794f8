"""`llm-gateway usage export` and `rebuild`: work on the tables of a stack, or of `make run`."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_gateway.cli.failures import BadInput
from llm_gateway.cli.shell import Shell, with_shell

if TYPE_CHECKING:
    from llm_gateway.adapters.aws_json import AwsJsonClient
    from llm_gateway.pipeline.usage_question import Days

First = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day (UTC).")]
Last = Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day, included.")]


class Format(StrEnum):
    parquet = "parquet"
    csv = "csv"


@with_shell
def export_usage(
    shell: Shell,
    first: First,
    last: Last,
    out: Annotated[Path, typer.Option(help="The file to write; one that is there is replaced once all is written.")],
    form: Annotated[Format, typer.Option("--format", help="Parquet needs the extra `export`.")] = Format.parquet,
) -> None:
    """Write the ledger's requests of some days to a file, for a warehouse: each that has ended, with its exact cost."""
    import asyncio

    from llm_gateway.local.place import with_dynamodb
    from llm_gateway.local.usage_export import Export, open_sink

    days = _days(first, last)
    place = shell.place()
    with open_sink(out, form.value) as sink:
        written = asyncio.run(with_dynamodb(place, lambda dynamodb: Export(place, dynamodb, sink).run(days)))
    shell.out.note(f"{written} requests of {days.first} to {days.last} are in {out}")
    if shell.out.json:
        shell.out.data({"from": f"{days.first}", "to": f"{days.last}", "requests": written, "file": str(out)})


@with_shell
def rebuild_usage(shell: Shell, first: First, last: Last) -> None:
    """Make the daily totals of some days what the ledger's requests say. Folding waits for it."""
    import asyncio

    from llm_gateway.adapters.dynamodb_rebuild import DynamoDBRebuild
    from llm_gateway.local.place import with_dynamodb

    days = _days(first, last)
    place = shell.place()

    def warn(text: str) -> None:
        shell.out.note(f"warning: {text}")

    async def work(dynamodb: "AwsJsonClient") -> int:
        return await DynamoDBRebuild(dynamodb, place.usage_table, place.ledger_table, warn)(days.first, days.last)

    with shell.out.progress(f"adding up {days.first} to {days.last}"):
        counted = asyncio.run(with_dynamodb(place, work))
    shell.out.note(f"the totals of {days.first} to {days.last} are those of {counted} requests")
    if shell.out.json:
        shell.out.data({"from": f"{days.first}", "to": f"{days.last}", "requests": counted})


def _days(first: datetime, last: datetime) -> "Days":
    """Raises `BadInput`."""
    from llm_gateway.errors import InvalidRequest
    from llm_gateway.pipeline.usage_question import days_between

    try:
        return days_between(first.date(), last.date(), datetime.now(UTC).date())
    except InvalidRequest as error:
        raise BadInput(str(error)) from None
