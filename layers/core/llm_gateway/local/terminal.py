"""What the commands have in common: options, and errors told in one line."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option(envvar="LLM_GATEWAY_DATA", help="Where the embedded AWS keeps its data.")]
StackName = Annotated[str, typer.Option("--stack", help="The stack's name, as `sam deploy` was given it.")]
Region = Annotated[str | None, typer.Option(help="The stack's AWS region; by default the profile's.")]
Profile = Annotated[str | None, typer.Option(help="A profile of the AWS CLI.")]


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
