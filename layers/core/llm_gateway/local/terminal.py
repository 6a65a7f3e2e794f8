"""What the commands have in common: options, and errors told in one line."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from dotenv import load_dotenv

if TYPE_CHECKING:
    from llm_gateway.local.place import Place

Data = Annotated[Path, typer.Option(envvar="LLM_GATEWAY_DATA", help="Where the embedded AWS keeps its data.")]
StackName = Annotated[str, typer.Option("--stack", help="The stack's name, as `sam deploy` was given it.")]
OptionalStack = Annotated[
    str | None, typer.Option("--stack", help="A deployed stack's name; without it, the gateway of `make run`.")
]
Region = Annotated[str | None, typer.Option(help="The stack's AWS region; by default the profile's.")]
Profile = Annotated[str | None, typer.Option(help="A profile of the AWS CLI.")]


def place_named(stack: str | None, region: str | None, profile: str | None, data: Path) -> "Place":
    """A deployed stack's tables, or without a name those of `make run`. Raises `StackError`, `CannotRun`."""
    if stack is None:
        from llm_gateway.local.place import local_place

        load_dotenv(Path(".env"), override=False)
        return local_place(data, os.environ)
    from llm_gateway.local.stack import find_stack, place_of

    return place_of(find_stack(stack, region, profile, os.environ))


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """What can go wrong outside of this program, in one line and with exit code 1 (2 for a faulty file)."""
    from llm_gateway.catalog.faults import ConfigError
    from llm_gateway.errors import GatewayError
    from llm_gateway.local.place import StackError
    from llm_gateway.local.run import CannotRun

    try:
        yield
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except CannotRun as error:
        print(f"llm-gateway: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    except (StackError, GatewayError, OSError) as error:
        print(f"llm-gateway: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
