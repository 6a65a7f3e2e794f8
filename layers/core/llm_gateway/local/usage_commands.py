"""`llm-gateway usage …`: with `--stack` a deployed stack's, without it that of the gateway that runs here."""

import asyncio
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_gateway.local.terminal import Data, OptionalStack, Profile, Region, place_named, told_plainly

if TYPE_CHECKING:
    from llm_gateway.adapters.aws_json import AwsJsonClient

usage = typer.Typer(help="What was used: of a deployed stack, or of `make run`.", no_args_is_help=True)

First = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day (UTC).")]
Last = Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day, included.")]


class Format(StrEnum):
    parquet = "parquet"
    csv = "csv"


@usage.command("export")
def export(
    first: First,
    last: Last,
    out: Annotated[Path, typer.Option(help="The file to write; one that is there is replaced once all is written.")],
    form: Annotated[Format, typer.Option("--format", help="Parquet needs the extra `export`.")] = Format.parquet,
    stack: OptionalStack = None,
    region: Region = None,
    profile: Profile = None,
    data: Data = Path(".local"),
) -> None:
    """Write the ledger's requests of some days to a file, for a warehouse: each that has ended, with its exact cost."""
    from llm_gateway.local.place import with_dynamodb
    from llm_gateway.local.usage_export import Export, open_sink
    from llm_gateway.pipeline.usage_question import days_between

    with told_plainly():
        days = days_between(first.date(), last.date(), datetime.now(UTC).date())
        place = place_named(stack, region, profile, data)
        with open_sink(out, form.value) as sink:
            written = asyncio.run(with_dynamodb(place, lambda dynamodb: Export(place, dynamodb, sink).run(days)))
        print(f"{written} requests of {days.first} to {days.last} are in {out}", file=sys.stderr)


@usage.command("rebuild")
def rebuild(
    first: First,
    last: Last,
    stack: OptionalStack = None,
    region: Region = None,
    profile: Profile = None,
    data: Data = Path(".local"),
) -> None:
    """Make the daily totals of some days what the ledger's requests say. Folding waits for it."""
    from llm_gateway.adapters.dynamodb_rebuild import DynamoDBRebuild
    from llm_gateway.local.place import with_dynamodb
    from llm_gateway.pipeline.usage_question import days_between

    def warn(text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)

    with told_plainly():
        days = days_between(first.date(), last.date(), datetime.now(UTC).date())
        place = place_named(stack, region, profile, data)

        async def work(dynamodb: "AwsJsonClient") -> int:
            return await DynamoDBRebuild(dynamodb, place.usage_table, place.ledger_table, warn)(days.first, days.last)

        counted = asyncio.run(with_dynamodb(place, work))
        print(f"the totals of {days.first} to {days.last} are those of {counted} requests", file=sys.stderr)
